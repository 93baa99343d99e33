"""Small rigid motion between two maps, from one linear least-squares fit."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mpiapp.model.arrays import to_host
from mpiapp.model.filters import lowpass_weight
from mpiapp.model.fourier import forward_3d, half_radius, inverse_3d, resize_half

F64 = NDArray[np.float64]


def low_passed(volume: NDArray[np.float32], pixel_size_A: float, resolution_A: float) -> F64:
    """A map (N, N, N) low-passed, (n, n, n) on the smallest box that holds what is left."""
    box = volume.shape[0]
    shell = box * pixel_size_A / resolution_A
    small = min(box, max(16, 2 * ceil(1.5 * shell) + 4))
    transform = to_host(resize_half(forward_3d(volume), small, 3))
    transform *= lowpass_weight(half_radius(small, 3), shell)
    return inverse_3d(transform).astype(float)


def _gradient(volume: F64) -> list[F64]:
    """Derivatives along x, y, z per pixel, by Fourier transform."""
    n = volume.shape[0]
    k = 2j * np.pi * fft.fftfreq(n)
    half = 2j * np.pi * fft.rfftfreq(n)
    k[n // 2] = half[-1] = 0
    transform = fft.rfftn(volume)
    factors = (half, k[:, None], k[:, None, None])
    return [fft.irfftn(transform * f, s=volume.shape) for f in factors]


def small_motion(
    moved: NDArray[np.float32],
    fixed: F64,
    pixel_size_A: float,
    resolution_A: float,
    *,
    axial: bool = False,
) -> tuple[F64, F64]:
    """Rotation vector w (radians) and shift c (pixels) that take one map to another: x_moved = x + w x x + c.

    Both maps are compared up to ``resolution_A``; their scales may differ. To first order
    moved = s fixed - s (w x x + c) . grad fixed, which is linear in s, s w and s c. Motions of a few degrees come out
    a few per cent too small; applied again and again, as in a refinement, that does not matter.

    Parameters
    ----------
    moved : (N, N, N) float32.
    fixed : (n, n, n) float64, as `low_passed` makes it of the other map with the same pixel size and resolution.
    axial : only the turn about and the shift along z are free (cyclic symmetry).

    Returns
    -------
    w, c : (3,) float64, x, y, z; zeros when the fixed map is flat.
    """
    target = low_passed(moved, pixel_size_A, resolution_A)
    n = fixed.shape[0]
    unit = moved.shape[0] / n
    gx, gy, gz = _gradient(fixed)
    axis = np.arange(n) - n // 2
    x, y, z = axis, axis[:, None], axis[:, None, None]
    turns = [y * gz - z * gy, z * gx - x * gz, x * gy - y * gx]
    columns = [turns[2], gz] if axial else [*turns, gx, gy, gz]
    design = np.stack([fixed.ravel(), *(-c.ravel() for c in columns)], axis=1)
    solution = np.linalg.lstsq(design.T @ design, design.T @ target.ravel(), rcond=None)[0]
    if abs(solution[0]) < 1e-12:
        return np.zeros(3), np.zeros(3)
    motion = solution[1:] / solution[0]
    if axial:
        return np.array([0, 0, motion[0]]), np.array([0, 0, motion[1] * unit])
    return motion[:3], motion[3:] * unit
