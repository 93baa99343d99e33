"""Central slices of a reference: trilinear reading of the padded transform.

Twin in float64: ``mpiapp.model.projection.slice_volume``.
The padded transform is kept for x >= 0 only: an array (2 R + 1, 2 R + 1, R + 1) in z, y, x order with the origin
at (R, R, 0). R leaves one sample of margin outside the sphere that is used, so no neighbour is ever outside the array.

Positions and weights come first, in a loop that vectorises; the reading loop then takes two neighbours with both
their parts in one contiguous load. Gather instructions were measured to be two to three times slower.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_U1, _U2, _U3 = np.uint64(1), np.uint64(2), np.uint64(3)


@numba.njit(**KERNEL)
def _positions(matrix, padding, radius, kx, ky, index, sign, fx, fy, fz):  # type: ignore[no-untyped-def]
    """Flat index of the lower neighbour, mirror sign and fractions of every pixel of one slice."""
    ny = np.int32(2 * radius + 1)
    nx = np.int32(radius + 1)
    r32 = np.int32(radius)
    ax = matrix[0, 0] * padding
    ay = matrix[0, 1] * padding
    az = matrix[0, 2] * padding
    bx = matrix[1, 0] * padding
    by = matrix[1, 1] * padding
    bz = matrix[1, 2] * padding
    for p in range(kx.size):
        x = ax * kx[p] + bx * ky[p]
        y = ay * kx[p] + by * ky[p]
        z = az * kx[p] + bz * ky[p]
        s = _ONE if x >= _ZERO else -_ONE
        x *= s
        y *= s
        z *= s
        x0 = np.floor(x)
        y0 = np.floor(y)
        z0 = np.floor(z)
        fx[p] = x - x0
        fy[p] = y - y0
        fz[p] = z - z0
        sign[p] = s
        index[p] = np.int32(
            np.int32(np.int32((np.int32(z0) + r32) * ny) + np.int32(y0) + r32) * nx + np.int32(x0)
        )


@numba.njit(**JIT)
def _read(volume, radius, index, sign, fx, fy, fz, out_re, out_im):  # type: ignore[no-untyped-def]
    nx = np.uint64(2 * (radius + 1))
    nxy = np.uint64(2 * (radius + 1) * (2 * radius + 1))
    for p in range(index.size):
        i = np.uint64(index[p]) * _U2
        w = (_ONE - fz[p]) * (_ONE - fy[p])
        a0 = w * volume[i]
        a1 = w * volume[i + _U1]
        a2 = w * volume[i + _U2]
        a3 = w * volume[i + _U3]
        j = i + nx
        w = (_ONE - fz[p]) * fy[p]
        a0 += w * volume[j]
        a1 += w * volume[j + _U1]
        a2 += w * volume[j + _U2]
        a3 += w * volume[j + _U3]
        j = i + nxy
        w = fz[p] * (_ONE - fy[p])
        a0 += w * volume[j]
        a1 += w * volume[j + _U1]
        a2 += w * volume[j + _U2]
        a3 += w * volume[j + _U3]
        j += nx
        w = fz[p] * fy[p]
        a0 += w * volume[j]
        a1 += w * volume[j + _U1]
        a2 += w * volume[j + _U2]
        a3 += w * volume[j + _U3]
        out_re[p] = a0 + fx[p] * (a2 - a0)
        out_im[p] = sign[p] * (a1 + fx[p] * (a3 - a1))


@numba.njit(**JIT)
def slice_directions(volume, radius, padding, matrices, kx, ky, out):  # type: ignore[no-untyped-def]
    """Slices at psi = 0 of many directions.

    Parameters
    ----------
    volume : (2 size,) float32
        The padded half transform, flat, real and imaginary parts interleaved; ``radius`` = R.
    padding : float32
    matrices : (n_dir, 3, 3) float32, D_d: object to image coordinates.
    kx, ky : (n_pix,) float32
    out : (n_dir, 2, n_pix) float32, written: real parts, imaginary parts.
    """
    n = kx.size
    index = np.empty(n, np.int32)
    sign = np.empty(n, np.float32)
    fx = np.empty(n, np.float32)
    fy = np.empty(n, np.float32)
    fz = np.empty(n, np.float32)
    for d in range(matrices.shape[0]):
        _positions(matrices[d], padding, radius, kx, ky, index, sign, fx, fy, fz)
        _read(volume, radius, index, sign, fx, fy, fz, out[d, 0], out[d, 1])
