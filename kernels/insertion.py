"""Writing images into the padded grids of maps and class averages: the adjoint of slicing.

Twins in float64: ``mpiapp.model.projection.insert_slices``, ``mpiapp.model.averages.insert_planes``.
Grids are laid out as padded transforms are, see ``mpiapp.kernels.slicing``; those of averages have no z axis.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT
from mpiapp.kernels.slicing import CHUNK, places, places_of_pixels
from mpiapp.kernels.vectors import add_row_3, add_row_pair_3

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_U1 = np.uint64(1)
# Up to so many orientations go one after the other: pixel by pixel, what a loop costs before it begins is then most of it
_FEW = 7


@numba.njit(**JIT)
def insert_image(mean, total, factor, power, orientation, kx, ky, grid):  # type: ignore[no-untyped-def]
    """Add one image at several orientations to the padded grids of the classes (the adjoint of slicing).

    Pixel by pixel, all orientations: those of one image lie close together, so the voxels that a pixel reaches stay
    in the nearest cache. Orientation by orientation every slice was fetched from far away: 1.8 times as long.

    Parameters
    ----------
    mean : (n, 2 n_pix) float32, the image at each orientation, real parts, then imaginary parts.
    total : (n,) float32 weights of the orientations.
    factor, power : (n_pix,) float32, what an image and a weight are multiplied with at each pixel.
    orientation : (6, CHUNK) float32, the first two rows of n <= CHUNK orientation matrices.
    grid : Grid; its values are changed in place, ``base`` tells where the grid of each orientation's class begins.
    """
    n = mean.shape[0]
    if n <= _FEW:
        _insert_few(mean, total, factor, power, orientation, kx, ky, grid)
        return
    n_pix = kx.size
    radius = grid.radius
    values = grid.values
    work = grid.work
    nx = np.uint64(radius + 1)
    nxy = np.uint64((radius + 1) * (2 * radius + 1))
    for p in range(n_pix):
        places(orientation, n, grid.padding, radius, kx[p], ky[p], grid.place, work)
        f = factor[p]
        g = power[p]
        for o in range(n):
            re = f * mean[o, p]
            im = f * mean[o, n_pix + p] * work[0, o]
            w = g * total[o]
            fx = work[1, o]
            fy = work[2, o]
            fz = work[3, o]
            first = np.uint64(grid.place[o]) + grid.base[o]
            for dz in range(2):
                cz = fz if dz else _ONE - fz
                for dy in range(2):
                    c1 = cz * (fy if dy else _ONE - fy)
                    i = first + np.uint64(dz) * nxy + np.uint64(dy) * nx
                    c0 = c1 * (_ONE - fx)
                    c1 *= fx
                    add_row_3(values, i, c0, re, im, w)
                    add_row_3(values, i + _U1, c1, re, im, w)


@numba.njit(**JIT)
def _insert_few(mean, total, factor, power, orientation, kx, ky, grid):  # type: ignore[no-untyped-def]
    """As :func:`insert_image`, orientation by orientation and CHUNK pixels at a time: a third of the time for one."""
    n_pix = kx.size
    radius = grid.radius
    values = grid.values
    work = grid.work
    nx = np.uint64(radius + 1)
    nxy = np.uint64((radius + 1) * (2 * radius + 1))
    for first in range(0, n_pix, CHUNK):
        n = min(CHUNK, n_pix - first)
        for o in range(mean.shape[0]):
            places_of_pixels(orientation, o, grid.padding, radius, kx, ky, first, n, grid.place, work)
            for e in range(n):
                p = first + e
                re = factor[p] * mean[o, p]
                im = factor[p] * mean[o, n_pix + p] * work[0, e]
                w = power[p] * total[o]
                fx = work[1, e]
                fy = work[2, e]
                fz = work[3, e]
                i = np.uint64(grid.place[e]) + grid.base[o]
                add_row_pair_3(values, i, (_ONE - fz) * (_ONE - fy), fx, re, im, w)
                add_row_pair_3(values, i + nx, (_ONE - fz) * fy, fx, re, im, w)
                add_row_pair_3(values, i + nxy, fz * (_ONE - fy), fx, re, im, w)
                add_row_pair_3(values, i + nxy + nx, fz * fy, fx, re, im, w)


@numba.njit(**JIT)
def insert_plane(mean, total, factor, power, orientation, kx, ky, grid):  # type: ignore[no-untyped-def]
    """As :func:`insert_image`, into the grids of class averages, (2 R + 1, R + 1) in y, x order."""
    n_pix = kx.size
    radius = np.int32(grid.radius)
    values = grid.values
    nx = np.uint64(radius + 1)
    for o in range(mean.shape[0]):
        w_o = total[o]
        base = grid.base[o]
        ax, ay = orientation[0, o] * grid.padding, orientation[1, o] * grid.padding
        bx, by = orientation[3, o] * grid.padding, orientation[4, o] * grid.padding
        for p in range(n_pix):
            x = ax * kx[p] + bx * ky[p]
            y = ay * kx[p] + by * ky[p]
            s = _ONE if x >= _ZERO else -_ONE
            x *= s
            y *= s
            x0 = np.floor(x)
            y0 = np.floor(y)
            fx = x - x0
            fy = y - y0
            re = factor[p] * mean[o, p]
            im = factor[p] * mean[o, n_pix + p] * s
            w = power[p] * w_o
            i = base + np.uint64(np.int32(y0) + radius) * nx + np.uint64(np.int32(x0))
            for dy in range(2):
                c1 = fy if dy else _ONE - fy
                c0 = c1 * (_ONE - fx)
                c1 *= fx
                add_row_3(values, i, c0, re, im, w)
                add_row_3(values, i + _U1, c1, re, im, w)
                i += nx


@numba.njit(**JIT)
def add_sums(values, total):  # type: ignore[no-untyped-def]
    """Add the accumulators of a thread, (n, 4) float32, to the sums of all, (n, 3) float64."""
    for i in range(values.shape[0]):
        for c in range(3):
            total[i, c] += values[i, c]
