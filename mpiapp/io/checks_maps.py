"""Checks of the maps that a job starts from: the reference and the solvent mask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.checks_table import CheckOptions
from mpiapp.io.particles import ParticleTable

PIXEL_TOLERANCE_A = 0.001


def check_reference(array: npt.NDArray[np.floating], pixel_size_A: float, path: Path | str) -> list[str]:
    """Check that a map can be a reference: cubic, even, finite, not flat.

    Parameters
    ----------
    array
        (z, y, x) float32.
    pixel_size_A
        From the header; 0 where it says nothing.

    Returns
    -------
    warnings
        What the user should know, but work can begin.

    Raises
    ------
    InputError
        The map is no reference; the message says why and what to do.
    """
    _check_shape(array, path)
    bad = ~np.isfinite(array)
    if bad.any():
        z, y, x = np.argwhere(bad)[0]
        raise InputError(
            f"{path}: {int(bad.sum())} voxels are NaN or infinite, the first at x={x}, y={y}, z={z}; make "
            f"the map again or repair it (relion_image_handler --i map --remove_nan --o repaired)."
        )
    if float(array.min()) == float(array.max()):
        raise InputError(f"{path}: all voxels are {float(array.min()):g}; give a map that shows a particle.")
    warnings = []
    if pixel_size_A <= 0:
        warnings.append(f"{path}: the header has no pixel size; that of the particles is taken.")
    if _is_dark(array):
        warnings.append(
            f"{path}: the density in the middle is below that at the edge; the contrast may be inverted "
            f"(particles must be white: relion_image_handler --multiply_constant -1)."
        )
    return warnings


def _check_shape(array: npt.NDArray[np.floating], path: Path | str) -> None:
    size = " x ".join(map(str, array.shape[::-1]))
    if array.ndim != 3 or array.shape[0] == 1:
        raise InputError(f"{path}: is an image of {size} px; expected a three-dimensional map.")
    if len(set(array.shape)) > 1:
        raise InputError(f"{path}: a map of {size} voxels is not cubic; pad or cut it to a cube (--new_box).")
    if array.shape[0] % 2:
        raise InputError(
            f"{path}: a box of {array.shape[0]} voxels is odd; give an even one "
            f"(relion_image_handler --i map --new_box {array.shape[0] + 1} --o even)."
        )


def _is_dark(array: npt.NDArray[np.floating]) -> bool:
    """Whether the ball in the middle is, on average, darker than the rest by more than noise would do."""
    n = array.shape[0]
    middle = slice(n // 4, n - n // 4)
    core = array[middle, middle, middle]
    grid = (np.arange(n)[middle] - n // 2) ** 2
    inside = core[grid[:, None, None] + grid[:, None] + grid < (0.25 * n) ** 2]
    total, within = array.sum(dtype=np.float64), inside.sum(dtype=np.float64)
    difference = within / inside.size - (total - within) / (array.size - inside.size)
    return bool(difference < -0.1 * array.std(dtype=np.float64))


def check_mask(
    array: npt.NDArray[np.floating],
    pixel_size_A: float,
    path: Path | str,
    shape: tuple[int, ...] | None = None,
    reference_pixel_A: float | None = None,
) -> list[str]:
    """Check that a map can be a solvent mask: values 0 to 1, not empty, as large as the reference.

    Parameters
    ----------
    array
        (z, y, x).
    shape, reference_pixel_A
        Of the reference, to compare with.

    Returns
    -------
    warnings
        What the user should know, but work can begin.

    Raises
    ------
    InputError
        The map is no mask, or does not fit the reference.
    """
    if shape is not None and array.shape != tuple(shape):
        mine, other = (" x ".join(map(str, s[::-1])) for s in (array.shape, tuple(shape)))
        raise InputError(
            f"{path}: a mask of {mine} voxels for a reference of {other}; make the mask from it."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{path}: the mask has NaN or infinite voxels; make it again.")
    low, high = float(array.min()), float(array.max())
    if low < -1e-4 or high > 1 + 1e-4:
        raise InputError(
            f"{path}: mask values run from {low:g} to {high:g}; expected 0 to 1 (is it a map? "
            f"relion_mask_create)."
        )
    if high <= 0.5:
        raise InputError(f"{path}: the mask is empty (largest value {high:g}); lower its threshold.")
    warnings = []
    if low > 0.5:
        warnings.append(f"{path}: the mask has no solvent (smallest value {low:g}); it does nothing.")
    if not ((array > 0.01) & (array < 0.99)).any():
        warnings.append(f"{path}: the mask has no soft edge; a hard edge raises the FSC falsely.")
    if (
        reference_pixel_A
        and pixel_size_A > 0
        and abs(pixel_size_A - reference_pixel_A) > 0.01 * reference_pixel_A
    ):
        warnings.append(
            f"{path}: pixel size {pixel_size_A:.4f} A, that of the reference is {reference_pixel_A:.4f} A."
        )
    return warnings


def reference_fits(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Box and pixel size of the reference are those of the first optics group (RELION's rule)."""
    if options.reference_shape is None or options.trust_reference:
        return
    first = table.optics[0]
    box, pixel = options.reference_shape[-1], options.reference_pixel_A or 0.0
    unlike = pixel > 0 and abs(pixel - first.pixel_size_A) > PIXEL_TOLERANCE_A
    remedy = (
        f"bring it to the particles' scale: relion_image_handler --i reference --angpix {pixel or 1:g} "
        f"--rescale_angpix {first.pixel_size_A:g} --new_box {first.box} --o fitted"
    )
    if unlike:
        hint = "; a header value of 1 often means that it was never set" if pixel == 1.0 else ""
        yield (
            f"{options.reference_path}: pixel size {pixel:.4f} A, but that of the particles ({first.name}) "
            f"is {first.pixel_size_A:.4f} A{hint}; {remedy}."
        )
    if first.box and box != first.box:
        yield (
            f"{options.reference_path}: box {box}, but that of the particles ({first.name}) is {first.box}; "
            f"{remedy}."
        )
