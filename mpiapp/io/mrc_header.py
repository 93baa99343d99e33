"""MRC headers: 1024 bytes that say shape, type, pixel size. Tolerant of what programs in the field write."""

from __future__ import annotations

import bz2
import gzip
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError

HEADER_BYTES = 1024
_BIG_STAMP = b"\x11\x11"
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}
_MODES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.int8),
    1: np.dtype(np.int16),
    2: np.dtype(np.float32),
    6: np.dtype(np.uint16),
    12: np.dtype(np.float16),
}
_REFUSED = {3: "complex integers", 4: "complex numbers", 101: "4-bit integers"}
_STANDARD_AXES = (1, 2, 3)


@dataclass(frozen=True)
class MrcHeader:
    """What a program needs to know of an MRC file before reading it.

    Attributes
    ----------
    shape
        (nz, ny, nx) as stored; nz is the number of images of a stack.
    mode, dtype
        MRC mode and its NumPy type with byte order.
    pixel_size_A
        cell / sampling along x; 0 where the header says nothing. The z values of stacks mean nothing.
    voxel_A
        The same along x, y and z.
    data_offset, file_bytes
        Where the data begin; size of the file (of the packed file, if `compressed`).
    axes
        Which of x=1, y=2, z=3 runs along columns, rows and sections.
    remarks
        What was wrong in the header and put up with.
    """

    path: Path
    shape: tuple[int, int, int]
    mode: int
    dtype: np.dtype[Any]
    pixel_size_A: float
    voxel_A: tuple[float, float, float]
    data_offset: int
    file_bytes: int
    axes: tuple[int, int, int] = _STANDARD_AXES
    compressed: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def n_images(self) -> int:
        """Number of images, if the file is a stack."""
        return self.shape[0]

    @property
    def data_bytes(self) -> int:
        """Size that the data have by the header."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def n_complete_images(self) -> int:
        """How many images the file really holds: fewer than `n_images` if it is cut off."""
        if self.compressed:
            return self.n_images
        image_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        return min(self.n_images, max(0, self.file_bytes - self.data_offset) // image_bytes)


def read_header(path: Path | str) -> MrcHeader:
    """Read the header of an MRC file; gzip and bzip2 are seen through.

    Modes 0, 1, 2, 6 and 12 in either byte order. A missing "MAP " mark or a wrong machine stamp is
    accepted; `remarks` tells.

    Raises
    ------
    InputError
        The file is missing, too short, no MRC file, or of a mode that holds no real images.
    """
    path = Path(path)
    raw, file_bytes, packed = _read_first_bytes(path)
    header, order = _decode(raw, path)
    mode = int(header["mode"])
    dtype: np.dtype[Any] = _MODES[mode].newbyteorder(order)
    voxel = _voxel_size(header)
    axes = (int(header["mapc"]), int(header["mapr"]), int(header["maps"]))
    return MrcHeader(
        path=path,
        shape=(int(header["nz"]), int(header["ny"]), int(header["nx"])),
        mode=mode,
        dtype=dtype,
        pixel_size_A=voxel[0],
        voxel_A=voxel,
        data_offset=HEADER_BYTES + int(header["nsymbt"]),
        file_bytes=file_bytes,
        axes=axes if sorted(axes) == [1, 2, 3] else _STANDARD_AXES,
        compressed=packed,
        remarks=_remarks(raw, order),
    )


def _read_first_bytes(path: Path) -> tuple[bytes, int, bool]:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not an MRC file; give the file name.")
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
            size = file.seek(0, 2)
        opener = _OPENERS.get(raw[:2])
        if opener is not None:
            with opener(path, "rb") as file:
                raw = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file (working directory {Path.cwd()}); correct the name."
        ) from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: could not be read ({error}); check permissions and the disk.") from error
    if len(raw) < HEADER_BYTES:
        raise InputError(f"{path}: has {size} bytes, less than an MRC header (1024); write or copy it again.")
    return raw, size, opener is not None


def _remarks(raw: bytes, order: str) -> tuple[str, ...]:
    found = []
    if raw[208:211] != b"MAP":
        found.append("the mark 'MAP ' is missing in the header; read as MRC all the same")
    if (raw[212:214] == _BIG_STAMP) != (order == ">"):
        found.append("the machine stamp contradicts the byte order of the data; it is ignored")
    return tuple(found)


def _decode(raw: bytes, path: Path) -> tuple[np.void, Literal["<", ">"]]:
    """Header record, and the byte order in which mode and size make sense (the stamp's first)."""
    from mrcfile.dtypes import HEADER_DTYPE

    orders: tuple[Literal["<", ">"], ...] = (">", "<") if raw[212:214] == _BIG_STAMP else ("<", ">")
    for order in orders:
        header: np.void = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
        if _plausible(header):
            break
    else:
        raise InputError(
            f"{path}: is no MRC file (its header says {_size_text(header)} voxels, mode {header['mode']}); "
            f"expected a map or image stack: check the name, or copy the file again."
        )
    if int(header["mode"]) not in _MODES:
        raise InputError(
            f"{path}: MRC mode {header['mode']} ({_REFUSED[int(header['mode'])]}) is not read; expected "
            f"0, 1, 2, 6 or 12: convert it (relion_image_handler --i {path.name} --o converted{path.suffix})."
        )
    return header, order


def _plausible(header: np.void) -> bool:
    sizes = [int(header[name]) for name in ("nx", "ny", "nz")]
    known = int(header["mode"]) in _MODES or int(header["mode"]) in _REFUSED
    return known and all(0 < n < 2**27 for n in sizes) and int(header["nsymbt"]) >= 0


def _size_text(header: np.void) -> str:
    return " x ".join(str(int(header[name])) for name in ("nx", "ny", "nz"))


def _voxel_size(header: np.void) -> tuple[float, float, float]:
    cells = [float(header["cella"][axis]) for axis in "xyz"]
    samples = [int(header[name]) for name in ("mx", "my", "mz")]
    sizes = [
        c / m if m > 0 and np.isfinite(c) and c > 0 else 0.0 for c, m in zip(cells, samples, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def check_complete(header: MrcHeader) -> None:
    """Refuse a file that is shorter than its header says.

    Raises
    ------
    InputError
        It is cut off.
    """
    if not header.compressed and header.file_bytes < header.data_offset + header.data_bytes:
        raise InputError(
            f"{header.path}: the header promises {header.n_images} sections of {header.shape[2]} x "
            f"{header.shape[1]} ({header.data_offset + header.data_bytes} bytes), the file holds "
            f"{header.n_complete_images} ({header.file_bytes} bytes): it is cut off; copy or write it again."
        )


def open_data(header: MrcHeader) -> npt.NDArray[Any]:
    """Data as stored, (nz, ny, nx), memory-mapped (packed files: in memory).

    Raises
    ------
    InputError
        The file is shorter than its header says.
    """
    if header.compressed:
        return _unpack(header)
    check_complete(header)
    data: npt.NDArray[Any] = np.memmap(
        header.path, dtype=header.dtype, mode="r", offset=header.data_offset, shape=header.shape
    )
    return data


def _unpack(header: MrcHeader) -> npt.NDArray[Any]:
    import mrcfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with mrcfile.open(header.path, permissive=True) as file:
                data = file.data
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{header.path}: could not be unpacked ({error}); copy it again.") from error
    if data is None:
        raise InputError(
            f"{header.path}: holds less data than its header says: it is cut off; copy it again."
        )
    return np.asarray(data).reshape(header.shape)
