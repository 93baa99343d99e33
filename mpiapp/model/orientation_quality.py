"""How well the views of a data set cover Fourier space, and how even the resolution is over directions.

* Sampling compensation factor (Baldwin and Lyumkis, Prog. Biophys. Mol. Biol. 150 (2020) 160): with rho(u) the density of
  slices through direction u relative to its mean, SCF = 1/<1/rho>: 1 for even views, 8/pi^2 = 0.81 for views from all
  sides around one axis, towards 0 for a few views. Directions that no slice touches leave rho = 0; their share is told
  apart, and the factor of the rest is multiplied by the share that is touched (SCF*).
* Conical FSC (Tan et al., Nat. Methods 14 (2017) 793): the FSC of coefficients within 20 degrees of a direction, its
  resolution at 0.143, and the sphericity of the surface that these resolutions make in Fourier space.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import healpix
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from mpiapp.model.fourier import axis_frequencies
from mpiapp.model.fsc import first_shell_below
from mpiapp.model.symmetry import PointGroup, directions

F64 = NDArray[np.float64]
VIEW_ORDER = 5  # HEALPix order at which views are counted
CELL_ORDER = 3  # and Fourier directions, 7.3 degrees apart
CONE_DEG = 20.0
THRESHOLD = 0.143
# shells of large boxes have more coefficients than a cone needs: one in (box / ENOUGH) is taken beyond ALL_BELOW
ENOUGH, ALL_BELOW = 128, 48


@dataclass(frozen=True)
class Coverage:
    """Sampling of Fourier space by a set of views.

    Attributes
    ----------
    factor : SCF* in 0 .. 1
    empty : share of directions that no slice touches
    direction : (n, 3) directions of Fourier space, one hemisphere
    density : (n,) slices through each, relative to the mean
    """

    factor: float
    empty: float
    direction: F64
    density: F64


def _grid(order: int) -> F64:
    """Pixel centres of a HEALPix grid, (12 4^order, 3)."""
    n = 12 * 4**order
    return np.stack(healpix.pix2vec(2**order, np.arange(n), nest=True), axis=1)


def coverage(rot_deg: F64, tilt_deg: F64, group: PointGroup) -> Coverage:
    """Coverage of Fourier space by particles seen along their directions and those of their symmetry mates.

    Parameters
    ----------
    rot_deg, tilt_deg : (n,) Euler angles
    """
    seen = directions(np.atleast_1d(rot_deg), np.atleast_1d(tilt_deg))
    mates = np.einsum("ni,gij->gnj", seen, group.operators).reshape(-1, 3)
    pixel = healpix.vec2pix(2**VIEW_ORDER, *mates.T, nest=True)
    counts = np.bincount(pixel, minlength=12 * 4**VIEW_ORDER)
    views = _grid(VIEW_ORDER)[counts > 0].astype(np.float32)
    weight = counts[counts > 0].astype(
        np.float32
    )  # whole numbers, exact up to 16 million views of a direction
    grid = _grid(CELL_ORDER + 1)
    half = grid[(grid[:, 2] > 0) | ((grid[:, 2] == 0) & (grid[:, 1] >= 0))]
    # a slice is as thick as the grid of views is coarse
    width = 1.5 * np.sqrt(4 * np.pi / (12 * 4**VIEW_ORDER))
    parts = np.array_split(half.astype(np.float32), 16)
    density = np.concatenate([(np.abs(part @ views.T) < width).astype(np.float32) @ weight for part in parts])
    density = density.astype(np.float64) / max(density.mean(), 1e-300)
    touched = density > 0
    share = float(touched.mean())
    factor = share / float(np.mean(1 / density[touched])) if share > 0 else 0.0
    return Coverage(factor, 1 - share, half, density)


@dataclass(frozen=True)
class ConicalFsc:
    """FSC by direction.

    Attributes
    ----------
    direction : (n, 3) axes of the cones, one hemisphere
    curves : (n, N//2 + 1) FSC
    resolution_A : (n,) at 0.143
    sphericity : of the surface |k| = 1/resolution, 1 for a sphere
    """

    direction: F64
    curves: F64
    resolution_A: F64
    sphericity: float


def conical_fsc(
    first: NDArray[Any],
    second: NDArray[Any],
    pixel_size_A: float,
    cone_deg: float = CONE_DEG,
    *,
    workers: int = 1,
) -> ConicalFsc:
    """FSC within cones about many directions.

    Parameters
    ----------
    first, second : (N, N, N//2 + 1) half transforms of the half maps, in FFT order
    pixel_size_A : of the maps
    cone_deg : half angle of the cones
    workers : threads
    """
    box = first.shape[0]
    sums = _sums_by_cell(first, second, workers)
    cells = _grid(CELL_ORDER)
    axes = cells[cells[:, 2] > 0]
    # what lies opposite is the same coefficient
    near = (np.abs(axes @ cells.T) > np.cos(np.radians(cone_deg))).astype(np.float64)
    cross, power1, power2 = (near @ part for part in sums)
    norm = np.sqrt(power1 * power2)
    # the lowest shells have no coefficient in some cones, which says nothing against them
    curves = np.divide(cross, norm, out=np.ones_like(norm), where=norm > 0)
    last = np.array([first_shell_below(curve, THRESHOLD) for curve in curves])
    last = np.maximum(np.where(last < 0, box // 2, last - 1), 1)
    return ConicalFsc(axes, curves, box * pixel_size_A / last, sphericity(axes, last.astype(np.float64)))


def _sums_by_cell(first: NDArray[Any], second: NDArray[Any], workers: int) -> F64:
    """Sums of Re(a b*), |a|^2 and |b|^2 by direction and shell: (3, n_cells, N//2 + 1)."""
    box = first.shape[0]
    parts = np.array_split(np.arange(box), workers)
    with ThreadPoolExecutor(workers) as pool:
        total: F64 = sum(pool.map(lambda planes: _sums_of_planes(first, second, planes), parts), np.zeros(()))
    return total.reshape(3, 12 * 4**CELL_ORDER, box // 2 + 1)


def _sums_of_planes(first: NDArray[Any], second: NDArray[Any], planes: NDArray[np.int64]) -> F64:
    """The same over some planes of the transforms, flat: (3, n_cells * (N//2 + 1))."""
    box = first.shape[0]
    n_shells = box // 2 + 1
    size = 12 * 4**CELL_ORDER * n_shells
    k = axis_frequencies(box)
    sums = np.zeros((3, size))
    stride = max(1, box // ENOUGH)
    for z in planes:
        radius = np.sqrt(k[z] ** 2 + k[:, None] ** 2 + np.arange(n_shells) ** 2)
        shell = np.floor(radius + 0.5).astype(np.int64)
        inside = (shell < n_shells) & (shell > 0)
        iy, ix = np.nonzero(inside)
        if stride > 1:
            kept = (shell[iy, ix] < ALL_BELOW) | (np.arange(iy.size) % stride == z % stride)
            iy, ix = iy[kept], ix[kept]
        place = (ix.astype(float), k[iy].astype(float), np.full(ix.size, float(k[z])))
        index = healpix.vec2pix(2**CELL_ORDER, *place, nest=True) * n_shells + shell[iy, ix]
        a, b = first[z, iy, ix].astype(np.complex128), second[z, iy, ix].astype(np.complex128)
        for total, values in zip(sums, ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2), strict=True):
            total += np.bincount(index, values, size)
    return sums


def sphericity(axes: F64, radius: F64) -> float:
    """Sphericity pi^(1/3) (6 V)^(2/3) / A of the closed surface with these radii along axes and their opposites.

    Parameters
    ----------
    axes : (n, 3) unit vectors of one hemisphere;  radius : (n,) > 0
    """
    points = np.concatenate([axes, -axes])
    corners = (points * np.concatenate([radius, radius])[:, None])[ConvexHull(points).simplices]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    volume = np.abs(np.einsum("ni,ni->n", a, np.cross(b, c))).sum() / 6
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area)
