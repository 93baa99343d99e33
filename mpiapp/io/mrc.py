"""Maps and image stacks in MRC format: whole maps in, files that RELION and ChimeraX place rightly out."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mpiapp
from mpiapp.errors import InputError
from mpiapp.io.atomic import atomic_file
from mpiapp.io.mrc_header import MrcHeader, open_data, read_header

__all__ = ["MrcHeader", "open_data", "read_header", "read_map", "write_map", "write_stack"]

LOG = logging.getLogger(__name__)
_FLOAT16_MAX = 65504.0


def read_map(path: Path | str) -> tuple[npt.NDArray[np.float32], float]:
    """A map and its pixel size.

    Returns
    -------
    array
        (z, y, x) float32, axes in standard order whatever their order in the file; a writable copy.
    pixel_size_A
        0 where the header says nothing.

    Raises
    ------
    InputError
        Missing, truncated or no MRC file (see `read_header`).
    """
    header = read_header(path)
    data = open_data(header)
    for remark in header.remarks:
        LOG.warning("%s: %s.", path, remark)
    if header.axes != (1, 2, 3):
        LOG.info("%s: axes in the order %s are turned to x, y, z.", path, header.axes)
        # axes[0] names the direction of the fastest (last) array axis.
        place = {direction: 2 - i for i, direction in enumerate(header.axes)}
        data = data.transpose(place[3], place[2], place[1])
    size = [v for v in header.voxel_A if v > 0]
    if size and max(size) > 1.001 * min(size):
        LOG.warning(
            "%s: voxel sizes differ (%.4f, %.4f, %.4f A); that along x is used.", path, *header.voxel_A
        )
    return np.array(data, dtype=np.float32, order="C"), header.pixel_size_A


def write_map(path: Path | str, array: npt.ArrayLike, pixel_size_A: float) -> None:
    """Write a map (z, y, x) as float32 (mode 2), ispg 1, origin and start zero; atomic.

    Half maps, masks and local-resolution maps written with this lie on top of each other in ChimeraX.
    """
    data = np.ascontiguousarray(array, dtype=np.float32)
    if data.ndim != 3:
        raise ValueError(f"a map has three axes, not {data.ndim}")
    _write(Path(path), data, pixel_size_A, volume=True)


def write_stack(path: Path | str, images: npt.ArrayLike, pixel_size_A: float, float16: bool = False) -> None:
    """Write images (n, y, x) as float32 (mode 2) or float16 (mode 12), ispg 0; atomic.

    Values beyond the range of float16 (65504) are clipped and a warning is logged.
    """
    data = np.asarray(images)
    if data.ndim != 3:
        raise ValueError(f"a stack of images has three axes (n, y, x), not {data.ndim}")
    if float16:
        clipped = int(np.count_nonzero(np.abs(data) > _FLOAT16_MAX))
        if clipped:
            LOG.warning("%s: %d values beyond the range of float16 were clipped to +-65504.", path, clipped)
            data = np.clip(data, -_FLOAT16_MAX, _FLOAT16_MAX)
    data = np.ascontiguousarray(data, dtype=np.float16 if float16 else np.float32)
    _write(Path(path), data, pixel_size_A, volume=False)


def _write(path: Path, data: npt.NDArray[Any], pixel_size_A: float, volume: bool) -> None:
    if not (np.isfinite(pixel_size_A) and pixel_size_A > 0):
        raise InputError(
            f"{path}: can not be written with a pixel size of {pixel_size_A} A; give one above 0."
        )
    with atomic_file(path, data.nbytes) as temporary, open(temporary, "wb") as file:
        file.write(_new_header(data, pixel_size_A, volume).tobytes())
        file.write(data.reshape(-1).view(np.uint8).data)


def _new_header(data: npt.NDArray[Any], pixel_size_A: float, volume: bool) -> npt.NDArray[np.void]:
    """Header (MRC 2014) of data in the byte order of this machine."""
    from mrcfile.dtypes import HEADER_DTYPE

    made = np.zeros((), HEADER_DTYPE)
    nz, ny, nx = data.shape
    grid = (nx, ny, nz if volume else 1)
    made["nx"], made["ny"], made["nz"] = nx, ny, nz
    made["mx"], made["my"], made["mz"] = grid
    made["mode"] = 12 if data.dtype == np.float16 else 2
    made["cella"] = tuple(pixel_size_A * n for n in grid)
    made["cellb"] = (90.0, 90.0, 90.0)
    made["mapc"], made["mapr"], made["maps"] = 1, 2, 3
    made["ispg"] = int(volume)
    made["nversion"], made["map"] = 20141, b"MAP "
    made["machst"] = (0x44, 0x44, 0, 0) if sys.byteorder == "little" else (0x11, 0x11, 0, 0)
    made["dmin"], made["dmax"], made["dmean"], made["rms"] = _statistics(data)
    made["label"][0] = f"mpiapp {mpiapp.__version__} {time.strftime('%Y-%m-%d %H:%M:%S')}".encode("ascii")
    made["nlabl"] = 1
    return made


def _statistics(data: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    """Smallest, largest and mean value, and standard deviation; section by section, which needs no copy of a map."""
    if not data.size:
        return 0.0, -1.0, -2.0, -1.0  # the format's way of saying that they are not known
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        middle = float(data.flat[0])
        for section in data:
            values = section.astype(np.float32, copy=False).ravel()
            low, high = np.fmin(low, values.min()), np.fmax(high, values.max())
            total += float(
                section.sum(axis=-1, dtype=np.float32).sum(dtype=np.float64)
            )  # of rows: twice as fast
            centred = values - np.float32(middle)
            squares += float(np.dot(centred, centred))
        mean = total / data.size
        spread = np.sqrt(max(squares / data.size - (mean - middle) ** 2, 0.0))
    return float(low), float(high), mean, float(spread)
