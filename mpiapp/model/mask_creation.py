"""Solvent masks from a density, or from nothing: threshold, extend, soften."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of
from mpiapp.model.masks import background_weight, centre_distance

FloatArray = NDArray[Any]
BoolArray = NDArray[np.bool_]

ENOUGH = 128  # voxels along an axis
SOLVENT_SHELL = (0.40, 0.48)  # of the box: radii between which there is solvent only, inside the corner mask
SIGMAS = 3.0
FRACTION_OF_PEAK = 0.05


def combine(binary: BoolArray, other: BoolArray, operation: str) -> BoolArray:
    """Join two binary masks: "and", "or", "and_not", "or_not"."""
    second = ~other if operation.endswith("not") else other
    return binary & second if operation.startswith("and") else binary | second


def extend(binary: BoolArray, pixels: float) -> BoolArray:
    """Grow a binary mask by voxels nearer than `pixels` to it; a negative number shrinks it likewise."""
    if pixels == 0:
        return binary
    if pixels > 0:
        return _distance_to(binary, pixels) < pixels
    return ~(_distance_to(~binary, -pixels) < -pixels)


def soft_edge(binary: BoolArray, width: float) -> NDArray[np.float32]:
    """Mask with a raised cosine around it: 1/2 + 1/2 cos(pi d/w) at distances d < w pixels.

    Returns
    -------
    float32 array of that shape, 0 to 1.
    """
    mask = binary.astype(np.float32)
    if width > 0:
        distance = _distance_to(binary, width)
        edge = ~binary & (distance < width)
        mask[edge] = 0.5 + 0.5 * np.cos(np.pi * distance[edge] / width)
    return mask


def _distance_to(binary: BoolArray, reach: float) -> NDArray[np.float64]:
    """Euclidean distance of every voxel to the nearest voxel of the mask; infinite beyond a reach, or a little more."""
    from scipy import ndimage  # slow to load

    distance = np.full(binary.shape, np.inf)
    near = _box_around(binary, int(np.ceil(reach)))
    if near is not None:
        distance[near] = ndimage.distance_transform_edt(~binary[near])
    return distance


def _box_around(binary: BoolArray, margin: int) -> tuple[slice, ...] | None:
    """Smallest box that holds a mask and a margin; None for an empty mask."""
    found = []
    for axis in range(binary.ndim):
        others = tuple(k for k in range(binary.ndim) if k != axis)
        place = np.flatnonzero(binary.any(axis=others))
        if not place.size:
            return None
        found.append(slice(max(0, place[0] - margin), place[-1] + margin + 1))
    return tuple(found)


def central_part(mask: FloatArray, fraction: float, width: float) -> NDArray[np.float32]:
    """Keep the central fraction along z with a raised cosine of `width` pixels beyond: for helices."""
    n = mask.shape[0]
    distance = np.abs(np.arange(n) - n // 2).astype(np.float64)
    keep = 1 - background_weight(distance, fraction * n / 2, width)
    return (mask * keep[:, None, None]).astype(np.float32)


def shell_mask(
    box: int, inner: float, outer: float, width: float, centre: Sequence[float] = (0.0, 0.0, 0.0)
) -> NDArray[np.float32]:
    """Spherical shell: 1 for inner <= r < outer, raised cosines of `width` pixels inside and outside.

    Parameters
    ----------
    box : edge of the mask
    inner, outer, width : pixels
    centre : (x, y, z) of the shell, pixels from the centre of the box

    Returns
    -------
    (box,) * 3 float32
    """
    axis = np.arange(box, dtype=np.float64) - box // 2
    x, y, z = centre
    r = np.sqrt((axis[:, None, None] - z) ** 2 + (axis[:, None] - y) ** 2 + (axis - x) ** 2)
    mask = ((r >= inner) & (r < outer)).astype(np.float32)
    if width > 0:
        for beyond in (inner - r, r - outer):
            edge = (beyond > 0) & (beyond < width)
            mask[edge] = 0.5 + 0.5 * np.cos(np.pi * beyond[edge] / width)
        mask[r == outer] = 1.0
    return mask


def automatic_threshold(density: FloatArray) -> float:
    """Density that separates a particle from solvent in a low-passed map.

    Mean and three standard deviations of the solvent in a shell near the edge of the box, but no less than
    5 % of the highest density, so that maps without noise get a mask as well. Of large maps every few voxels
    are looked at, at least `ENOUGH` along an axis, which are more than these figures need.
    """
    xp = module_of(density).xp
    box = density.shape[0]
    stride = max(1, box // ENOUGH)
    axes = (slice(box // 2 % stride, None, stride),) * 3
    some, r = density[axes], centre_distance(box, 3, xp, stride)
    solvent = some[(r > SOLVENT_SHELL[0] * box) & (r < SOLVENT_SHELL[1] * box)].astype(np.float64)
    peak = float(xp.percentile(some, 99.9))
    return max(float(solvent.mean() + SIGMAS * solvent.std()), FRACTION_OF_PEAK * peak)


def largest_piece(binary: BoolArray) -> BoolArray:
    """The largest connected piece of a binary mask (faces touch); specks of noise fall away."""
    from scipy import ndimage  # slow to load

    labels, n = ndimage.label(binary)
    if n <= 1:
        return binary
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
