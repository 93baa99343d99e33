"""Reading the references that a job starts from: one map, the maps of a list, or a stack of class averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpiapp.errors import InputError

F32 = NDArray[np.float32]
MapFile = tuple[F32, float, list[str]]


def read_maps(path: str, pixel_size_A: float = -1.0) -> MapFile:
    """Maps of an MRC file, or those that a STAR file lists in rlnReferenceImage.

    Parameters
    ----------
    pixel_size_A : instead of that in the header, if positive

    Returns
    -------
    maps (n, box, box, box) float32; pixel size in A, 0 where the header says nothing; warnings.

    Raises
    ------
    InputError
        A file is missing or no reference, or the maps differ in box or pixel size.
    """
    paths = _listed(path) if path.endswith(".star") else [path]
    found = [_read_map(p, pixel_size_A) for p in paths]
    first = found[0]
    for name, (volume, size, _) in zip(paths, found, strict=True):
        if volume.shape != first[0].shape or abs(size - first[1]) > 0.001:
            raise InputError(
                f"{name}: box {volume.shape[0]} and pixel size {size:g} A, but {paths[0]} has {first[0].shape[0]} "
                f"and {first[1]:g} A; bring the maps of {path} to one scale"
            )
    return np.stack([v for v, _, _ in found]), first[1], [line for *_, lines in found for line in lines]


def _read_map(path: str, pixel_size_A: float) -> MapFile:
    from mpiapp.io.checks import check_reference
    from mpiapp.io.mrc import read_map

    volume, size = read_map(path)
    size = pixel_size_A if pixel_size_A > 0 else size
    return volume, size, check_reference(volume, size, path)


def _listed(path: str) -> list[str]:
    """Names of the maps in a STAR file: a table with rlnReferenceImage, of a model file or a list of maps."""
    from mpiapp.io.relion_tables import load_tables, locate_beside

    for block in load_tables(path).values():
        if "rlnReferenceImage" in block:
            names = block["rlnReferenceImage"]
            listed = [names] if isinstance(names, str) else list(names)
            return [str(locate_beside(Path(str(name)), path)) for name in listed]
    raise InputError(f"{path}: no table has a column rlnReferenceImage; give a map (MRC) or a list of maps")


def read_averages(path: str) -> MapFile:
    """Class averages of an MRC stack: images (n, box, box), pixel size, warnings.

    Raises
    ------
    InputError
        No stack of square even images, or values that are not finite.
    """
    from mpiapp.io.mrc import read_map

    if path.endswith(".star"):
        raise InputError(
            f"{path}: class averages are read from an MRC stack; give the .mrcs file that it names"
        )
    images, size = read_map(path)
    n, y, x = images.shape
    if n == y == x and not path.endswith(".mrcs"):
        raise InputError(
            f"{path}: looks like a map of {n} voxels an edge; class2d compares with averages, a stack named .mrcs"
        )
    if y != x or y % 2:
        raise InputError(f"{path}: images of {x} x {y} px; averages must be square with an even box")
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))
    if bad.size:
        raise InputError(f"{path}: image {bad[0] + 1} of {n} has NaN or infinite pixels; leave it out")
    flat = np.flatnonzero(images.min(axis=(1, 2)) == images.max(axis=(1, 2)))
    if flat.size:
        raise InputError(f"{path}: all pixels of image {flat[0] + 1} of {n} are the same; leave it out")
    return images, size, []


def one_for_each(references: F32, path: str, n_classes: int, given: bool) -> tuple[F32, int]:
    """References and their number: one for each class; a single one is copied for all.

    Raises
    ------
    InputError
        Several references, but not as many as classes were asked for.
    """
    n = len(references)
    if n == 1:
        return np.repeat(references, n_classes, axis=0), n_classes
    if given and n != n_classes:
        raise InputError(
            f"{path}: {n} references for --K {n_classes}; leave --K out, or give one reference or {n_classes} of them"
        )
    return references, n
