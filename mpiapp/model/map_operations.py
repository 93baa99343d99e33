"""Whole maps turned, mirrored and averaged in real space."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mpiapp.model.symmetry import PointGroup

FloatArray = NDArray[Any]


def invert_hand(volume: FloatArray) -> FloatArray:
    """Mirror along x about element N/2, so that symmetry axes stay where they are; (z, y, x) to (z, y, x)."""
    n = volume.shape[2]
    return np.ascontiguousarray(volume[:, :, (n - np.arange(n)) % n])


def symmetrise_map(volume: FloatArray, group: PointGroup) -> NDArray[np.float32]:
    """Average a map over the rotations of a point group about element N/2, by cubic splines.

    Parameters
    ----------
    volume : (z, y, x) map, cubic
    group : its operators

    Returns
    -------
    (z, y, x) float32; what a rotation brings in from outside the box is 0.
    """
    centre = np.full(3, volume.shape[0] // 2, float)
    coefficients = ndimage.spline_filter(volume.astype(np.float32), order=3, output=np.float32)
    total = np.zeros(volume.shape)
    for operator in group.operators:
        # operators act on (x, y, z), arrays are indexed (z, y, x)
        matrix = operator[::-1, ::-1]
        total += ndimage.affine_transform(
            coefficients, matrix, centre - matrix @ centre, order=3, prefilter=False, output=np.float32
        )
    return (total / len(group.operators)).astype(np.float32)
