"""Rotation matrices of particle orientations: Euler angles both ways, and the angles between orientations.

An orientation ``A = Rz(psi) Ry(tilt) Rz(rot)`` takes object coordinates to image coordinates. Its third row
is the viewing direction in the object frame, its first two rows are the axes of the image. Angles are in
degrees, as in files; matrices are float64 (refinement.md 1.1). All functions broadcast over leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Below this length of the in-plane part of the viewing direction, rot and psi can not be told apart.
# 16 times the epsilon of single precision, as in RELION, so that files hold the same angles.
POLE_TOLERANCE = 16.0 * float(np.finfo(np.float32).eps)


def euler_to_matrix(rot_deg: ArrayLike, tilt_deg: ArrayLike, psi_deg: ArrayLike) -> FloatArray:
    """Rotation matrices of Euler angles (ZYZ).

    Parameters
    ----------
    rot_deg, tilt_deg, psi_deg
        Angles in degrees, shapes that broadcast to a common shape ``s``.

    Returns
    -------
    (*s, 3, 3) float64
        ``Rz(psi) Ry(tilt) Rz(rot)``.
    """
    rot, tilt, psi = (np.deg2rad(np.asarray(x, np.float64)) for x in (rot_deg, tilt_deg, psi_deg))
    rot, tilt, psi = np.broadcast_arrays(rot, tilt, psi)
    ca, sa = np.cos(rot), np.sin(rot)
    cb, sb = np.cos(tilt), np.sin(tilt)
    cg, sg = np.cos(psi), np.sin(psi)
    matrix = np.empty((*rot.shape, 3, 3))
    matrix[..., 0, 0] = cg * cb * ca - sg * sa
    matrix[..., 0, 1] = cg * cb * sa + sg * ca
    matrix[..., 0, 2] = -cg * sb
    matrix[..., 1, 0] = -sg * cb * ca - cg * sa
    matrix[..., 1, 1] = -sg * cb * sa + cg * ca
    matrix[..., 1, 2] = sg * sb
    matrix[..., 2, 0] = sb * ca
    matrix[..., 2, 1] = sb * sa
    matrix[..., 2, 2] = cb
    return matrix


def matrix_to_euler(matrix: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Euler angles of rotation matrices, in RELION's ranges.

    Parameters
    ----------
    matrix
        (..., 3, 3) rotation matrices.

    Returns
    -------
    rot_deg, tilt_deg, psi_deg
        (...) float64; rot and psi in [-180, 180], tilt in [0, 180]. Where the viewing direction is along z
        (tilt 0 or 180), only the sum or difference of rot and psi is defined: rot is 0 there.
    """
    a = np.asarray(matrix, np.float64)
    in_plane = np.hypot(a[..., 0, 2], a[..., 1, 2])
    regular = in_plane > POLE_TOLERANCE
    up = a[..., 2, 2] > 0
    rot = np.where(regular, np.arctan2(a[..., 2, 1], a[..., 2, 0]), 0.0)
    tilt = np.where(regular, np.arctan2(in_plane, a[..., 2, 2]), np.where(up, 0.0, np.pi))
    psi_pole = np.where(up, np.arctan2(-a[..., 1, 0], a[..., 0, 0]), np.arctan2(a[..., 1, 0], -a[..., 0, 0]))
    psi = np.where(regular, np.arctan2(a[..., 1, 2], -a[..., 0, 2]), psi_pole)
    return np.rad2deg(rot), np.rad2deg(tilt), np.rad2deg(psi)


def rotation_z(psi_deg: ArrayLike) -> FloatArray:
    """In-plane rotations Rz(psi), rows (c, s, 0), (-s, c, 0), (0, 0, 1).

    Parameters
    ----------
    psi_deg
        (...) degrees.

    Returns
    -------
    (..., 3, 3) float64
    """
    psi = np.deg2rad(np.asarray(psi_deg, np.float64))
    matrix = np.zeros((*psi.shape, 3, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = np.cos(psi)
    matrix[..., 0, 1] = np.sin(psi)
    matrix[..., 1, 0] = -matrix[..., 0, 1]
    matrix[..., 2, 2] = 1.0
    return matrix


def psi_between(orientation: ArrayLike, direction_matrix: ArrayLike) -> FloatArray:
    """In-plane angle that brings a direction's matrix closest to an orientation.

    Maximises ``trace(Rz(psi)^T A D^T)``, so ``Rz(psi) D`` is the rotation nearest to ``A`` of all those with
    the viewing direction of ``D``. With ``A = Rz(psi) D`` it is psi itself.

    Parameters
    ----------
    orientation
        (..., 3, 3) matrices ``A``.
    direction_matrix
        (..., 3, 3) matrices ``D``.

    Returns
    -------
    (...) float64
        Degrees in [-180, 180]. 0 where the two viewing directions are opposite (every psi is equally good
        then).
    """
    a, d = np.asarray(orientation, np.float64), np.asarray(direction_matrix, np.float64)
    # With the first two rows of each as one complex vector, the sum is cos(psi) - i sin(psi), times a length.
    u = a[..., 0, :] + 1j * a[..., 1, :]
    v = d[..., 0, :] + 1j * d[..., 1, :]
    return np.asarray(np.rad2deg(-np.angle(np.sum(u * v.conj(), axis=-1))), np.float64)


def geodesic_deg(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Angle of the rotation that takes one orientation to another.

    Parameters
    ----------
    first, second
        (..., 3, 3) rotation matrices.

    Returns
    -------
    (...) float64
        Degrees in [0, 180]; from the chord length, so that small angles keep their digits.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    chord = np.sqrt(np.sum(difference * difference, axis=(-2, -1)))
    angle = 2.0 * np.arcsin(np.minimum(chord / (2.0 * np.sqrt(2.0)), 1.0))
    return np.asarray(np.rad2deg(angle), np.float64)


def angular_distance_rows_deg(first: ArrayLike, second: ArrayLike, operators: ArrayLike) -> FloatArray:
    """Distance of two orientations as RELION reports its angle changes (refinement.md 6.1).

    The mean over the three rows of the angle between the rows of one matrix and those of the other; the
    smallest over the symmetry mates ``first @ R_j``.

    Parameters
    ----------
    first, second
        (n, 3, 3) rotation matrices.
    operators
        (m, 3, 3) rotations of the point group, identity included.

    Returns
    -------
    (n,) float64
        Degrees.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    smallest = np.full(a.shape[0], np.inf)
    for operator in np.asarray(operators, np.float64):
        difference = a @ operator - b
        chord = np.sqrt(np.sum(difference * difference, axis=-1))
        angles = 2.0 * np.arcsin(np.minimum(0.5 * chord, 1.0))
        np.minimum(smallest, angles.mean(axis=-1), out=smallest)
    return np.asarray(np.rad2deg(smallest), np.float64)
