"""Writing images into the padded grids of maps and class averages: the adjoint of slicing.

Twins in float64: ``mpiapp.model.projection.insert_slices``, ``mpiapp.model.averages.insert_planes``.
Grids are laid out as padded transforms are, see ``mpiapp.kernels.slicing``; those of averages have no z axis.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
# Orientations of one image that are inserted together
CHUNK = 64
_U1 = np.uint64(1)


@numba.njit(**KERNEL)
def _places(orientation, n, padding, radius, kx, ky, index, work):  # type: ignore[no-untyped-def]
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
    n_pix = kx.size
    radius = grid.radius
    values = grid.values
    work = grid.work
    nx = np.uint64(radius + 1)
    nxy = np.uint64((radius + 1) * (2 * radius + 1))
    for p in range(n_pix):
        _places(orientation, n, grid.padding, radius, kx[p], ky[p], grid.place, work)
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
                    values[i, 0] += c0 * re
                    values[i, 1] += c0 * im
                    values[i, 2] += c0 * w
                    i += _U1
                    values[i, 0] += c1 * re
                    values[i, 1] += c1 * im
                    values[i, 2] += c1 * w


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
                values[i, 0] += c0 * re
                values[i, 1] += c0 * im
                values[i, 2] += c0 * w
                values[i + _U1, 0] += c1 * re
                values[i + _U1, 1] += c1 * im
                values[i + _U1, 2] += c1 * w
                i += nx
