"""Summing the accumulators over a point group (refinement.md 2.6). Twin: ``model.symmetry`` in the tests."""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT


@numba.njit(**JIT)
def symmetrise_planes(grid, radius, operators, first, last, out):  # type: ignore[no-untyped-def]
    """Add to planes z = first .. last - 1 of ``out`` the grid read at every operator's image of the point.

    Parameters
    ----------
    grid, out : (2 R + 1, 2 R + 1, R + 1, 3) float64: D (real, imaginary) and W; ``radius`` = R.
    operators : (n, 3, 3) float64 without the identity.
    """
    reach2 = (radius - 1) * (radius - 1)
    for k in range(first, last):
        z = k - radius
        for j in range(2 * radius + 1):
            y = j - radius
            for x in range(radius + 1):
                if x * x + y * y + z * z > reach2:
                    continue
                for o in range(operators.shape[0]):
                    m = operators[o]
                    qx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z
                    qy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z
                    qz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z
                    sign = 1.0
                    if qx < 0.0:
                        sign = -1.0
                        qx = -qx
                        qy = -qy
                        qz = -qz
                    x0 = int(np.floor(qx))
                    y0 = int(np.floor(qy))
                    z0 = int(np.floor(qz))
                    fx = qx - x0
                    fy = qy - y0
                    fz = qz - z0
                    re = 0.0
                    im = 0.0
                    w = 0.0
                    for dz in range(2):
                        zz = z0 + dz + radius
                        if zz < 0 or zz > 2 * radius:
                            continue
                        cz = fz if dz else 1.0 - fz
                        for dy in range(2):
                            yy = y0 + dy + radius
                            if yy < 0 or yy > 2 * radius:
                                continue
                            cy = cz * (fy if dy else 1.0 - fy)
                            for dx in range(2):
                                if x0 + dx > radius:
                                    continue
                                c = cy * (fx if dx else 1.0 - fx)
                                re += c * grid[zz, yy, x0 + dx, 0]
                                im += c * grid[zz, yy, x0 + dx, 1]
                                w += c * grid[zz, yy, x0 + dx, 2]
                    out[k, j, x, 0] += re
                    out[k, j, x, 1] += sign * im
                    out[k, j, x, 2] += w
