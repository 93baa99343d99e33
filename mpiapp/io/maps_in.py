"""Maps that a job starts from: read, checked, with a pixel size that is known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.mrc import read_map

LOG = logging.getLogger(__name__)
PIXEL_TOLERANCE = 1e-3  # relative


class InputMap(NamedTuple):
    """A map (z, y, x) float32 of even cubic box, and its pixel size in angstrom."""

    density: npt.NDArray[np.float32]
    pixel_size_A: float


def load_map(path: Path | str, angpix: float = -1.0) -> InputMap:
    """Read a map that must be finite, cubic and of an even box.

    Parameters
    ----------
    angpix : pixel size that overrides the header's; -1 takes the header's

    Raises
    ------
    InputError
        The file is no such map, or its pixel size is unknown.
    """
    return _first(_read(path), path, angpix)


def load_alike(
    paths: Sequence[Path | str], angpix: float = -1.0
) -> tuple[InputMap, list[npt.NDArray[np.float32]]]:
    """Read maps side by side: the first as `load_map` does, the others as `load_like` the first.

    Raises
    ------
    InputError
        As of these; what is wrong with an earlier file is said first.
    """
    with ThreadPoolExecutor(len(paths)) as pool:
        found = [pool.submit(_read, path) for path in paths]
    first = _first(found[0].result(), paths[0], angpix)
    rest = zip(found[1:], paths[1:], strict=True)
    return first, [_alike(read.result(), path, first, paths[0]) for read, path in rest]


def load_like(path: Path | str, like: InputMap, of: Path | str) -> npt.NDArray[np.float32]:
    """Read a map that must have the shape of another one.

    Parameters
    ----------
    like, of : the other map and its name

    Raises
    ------
    InputError
        The file is no map, or its shape is another.
    """
    return _alike(_read(path), path, like, of)


def refuse_stack(path: Path | str) -> None:
    """Refuse a file whose name says that it is a stack of images, before it is read.

    Raises
    ------
    InputError
        The name ends in .mrcs.
    """
    if str(path).endswith(".mrcs"):
        raise InputError(f"{path}: a stack of images; give a map (.mrc).")


def _read(path: Path | str) -> InputMap:
    """A map that is a finite cube of even edge, and the pixel size in its header, 0 where there is none."""
    refuse_stack(path)
    density, header_A = read_map(path)
    _check_values(density, path)
    return InputMap(density, header_A)


def _first(read: InputMap, path: Path | str, angpix: float) -> InputMap:
    """The map with the pixel size that counts."""
    density, header_A = read
    pixel = angpix if angpix > 0 else header_A
    if pixel <= 0:
        raise InputError(f"{path}: the header has no pixel size; give it with --angpix.")
    if angpix > 0 and header_A > 0 and abs(angpix - header_A) > PIXEL_TOLERANCE * angpix:
        LOG.warning("%s: --angpix %g overrides the header's %g A.", path, angpix, header_A)
    return InputMap(density, pixel)


def _alike(read: InputMap, path: Path | str, like: InputMap, of: Path | str) -> npt.NDArray[np.float32]:
    """The map, which must have the shape of another one; warns of another pixel size."""
    density, pixel = read
    if density.shape != like.density.shape:
        mine, other = (" x ".join(map(str, a.shape[::-1])) for a in (density, like.density))
        raise InputError(f"{path}: a map of {mine} voxels, but {of} has {other}; give maps of one shape.")
    if pixel > 0 and abs(pixel - like.pixel_size_A) > 10 * PIXEL_TOLERANCE * pixel:
        LOG.warning("%s: pixel size %.4f A, that of %s is %.4f A.", path, pixel, of, like.pixel_size_A)
    return density


def _check_values(density: npt.NDArray[np.float32], path: Path | str) -> None:
    size = " x ".join(map(str, density.shape[::-1]))
    if len(set(density.shape)) > 1 or density.shape[0] % 2:
        like_images = density.shape[0] != density.shape[1] == density.shape[2]
        edge = max(density.shape) + max(density.shape) % 2
        raise InputError(
            f"{path}: a map of {size} voxels; expected a cube of even edge "
            f"(mpiapp image_handler --i map --new_box {edge} --o cube)"
            f"{'; or is it a stack of images?' if like_images else '.'}"
        )
    bad = ~np.isfinite(density)
    if bad.any():
        z, y, x = np.argwhere(bad)[0]
        raise InputError(
            f"{path}: {int(bad.sum())} voxels are NaN or infinite, the first at x={x}, y={y}, z={z}; "
            "make the map again."
        )
