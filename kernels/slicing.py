"""Central slices of a reference: trilinear reading of the padded transform; ``insertion`` is the adjoint.

Twin in float64: ``mpiapp.model.projection.slice_volume``.
The padded transform is kept for x >= 0 only: an array (2 R + 1, 2 R + 1, R + 1) in z, y, x order with the origin
at (R, R, 0). R leaves one sample of margin outside the sphere that is used, so no neighbour is ever outside the array.

Pixel by pixel, many orientations together: orientations that lie close together reach voxels that lie close together,
which stay in the nearest cache. Orientation by orientation every slice came from far away: 1.5 times as long to read,
1.8 times as long to write. Places and weights come first, in a loop that vectorises; then two neighbours with both their
parts are one contiguous load. Gather instructions were measured to be two to three times slower.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL
from mpiapp.kernels.vectors import sum_rows_4

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
# Orientations that are read or inserted together
CHUNK = 64
_U1, _U2 = np.uint64(1), np.uint64(2)


@numba.njit(**KERNEL)
def places(orientation, n, padding, radius, kx, ky, index, work):  # type: ignore[no-untyped-def]
    """Where one pixel falls in several orientations: flat index of the lower neighbour, mirror sign, fractions."""
    ny = np.int32(2 * radius + 1)
    nx = np.int32(radius + 1)
    r32 = np.int32(radius)
    px = kx * padding
    py = ky * padding
    for o in range(n):
        x = orientation[0, o] * px + orientation[3, o] * py
        y = orientation[1, o] * px + orientation[4, o] * py
        z = orientation[2, o] * px + orientation[5, o] * py
        s = _ONE if x >= _ZERO else -_ONE
        x *= s
        y *= s
        z *= s
        x0 = np.floor(x)
        y0 = np.floor(y)
        z0 = np.floor(z)
        work[0, o] = s
        work[1, o] = x - x0
        work[2, o] = y - y0
        work[3, o] = z - z0
        index[o] = np.int32(
            np.int32(np.int32((np.int32(z0) + r32) * ny) + np.int32(y0) + r32) * nx + np.int32(x0)
        )


@numba.njit(**KERNEL)
def places_of_pixels(orientation, o, padding, radius, kx, ky, first, n, index, work):  # type: ignore[no-untyped-def]
    """As :func:`places`, of n pixels in one orientation."""
    ny = np.int32(2 * radius + 1)
    nx = np.int32(radius + 1)
    r32 = np.int32(radius)
    ax = padding * orientation[0, o]
    ay = padding * orientation[1, o]
    az = padding * orientation[2, o]
    bx = padding * orientation[3, o]
    by = padding * orientation[4, o]
    bz = padding * orientation[5, o]
    for e in range(n):
        x = ax * kx[first + e] + bx * ky[first + e]
        y = ay * kx[first + e] + by * ky[first + e]
        z = az * kx[first + e] + bz * ky[first + e]
        s = _ONE if x >= _ZERO else -_ONE
        x *= s
        y *= s
        z *= s
        x0 = np.floor(x)
        y0 = np.floor(y)
        z0 = np.floor(z)
        work[0, e] = s
        work[1, e] = x - x0
        work[2, e] = y - y0
        work[3, e] = z - z0
        index[e] = np.int32(
            np.int32(np.int32((np.int32(z0) + r32) * ny) + np.int32(y0) + r32) * nx + np.int32(x0)
        )


@numba.njit(**JIT)
def _read(volume, radius, index, work, n, out, first, p):  # type: ignore[no-untyped-def]
    """Trilinear reading where :func:`_places` says: pixel p of n slices."""
    nx = np.uint64(2 * (radius + 1))
    nxy = np.uint64(2 * (radius + 1) * (2 * radius + 1))
    for o in range(n):
        i = np.uint64(index[o]) * _U2
        fx = work[1, o]
        fy = work[2, o]
        fz = work[3, o]
        lower = _ONE - fz
        left = _ONE - fy
        a0, a1, a2, a3 = sum_rows_4(
            volume, i, i + nx, i + nxy, i + nxy + nx, lower * left, lower * fy, fz * left, fz * fy
        )
        out[first + o, 0, p] = a0 + fx * (a2 - a0)
        out[first + o, 1, p] = work[0, o] * (a1 + fx * (a3 - a1))


@numba.njit(**JIT)
def slice_directions(volume, radius, padding, matrices, kx, ky, out):  # type: ignore[no-untyped-def]
    """Slices at psi = 0 of many directions; those that follow one another best lie close together.

    Parameters
    ----------
    volume : (2 size,) float32
        The padded half transform, flat, real and imaginary parts interleaved; ``radius`` = R.
    padding : float32
    matrices : (n_dir, 3, 3) float32, D_d: object to image coordinates.
    kx, ky : (n_pix,) float32
    out : (n_dir, 2, n_pix) float32, written: real parts, imaginary parts.
    """
    index = np.empty(CHUNK, np.int32)
    work = np.empty((4, CHUNK), np.float32)
    orientation = np.empty((6, CHUNK), np.float32)
    for first in range(0, matrices.shape[0], CHUNK):
        n = min(CHUNK, matrices.shape[0] - first)
        for o in range(n):
            for c in range(6):
                orientation[c, o] = matrices[first + o, c // 3, c % 3]
        for p in range(kx.size):
            places(orientation, n, padding, radius, kx[p], ky[p], index, work)
            _read(volume, radius, index, work, n, out, first, p)
