"""How well the views of a data set cover Fourier space, and how even the resolution is over directions.

* Sampling compensation factor (Baldwin and Lyumkis, Prog. Biophys. Mol. Biol. 150 (2020) 160): with rho(u) the density of
  slices through direction u relative to its mean, SCF = 1/<1/rho>: 1 for even views, 8/pi^2 = 0.81 for views from all
  sides around one axis, towards 0 for a few views. Directions that no slice touches leave rho = 0; their share is told
  apart, and the factor of the rest is multiplied by the share that is touched (SCF*).
* Conical FSC (Tan et al., Nat. Methods 14 (2017) 793): the FSC of coefficients within 20 degrees of a direction, its
  resolution at 0.143, and the sphericity of the surface that these resolutions make in Fourier space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import healpix
import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import in_slabs, module_of, to_host
from mpiapp.model.fourier import axis_frequencies
from mpiapp.model.fsc import correct_fsc, first_shell_below
from mpiapp.model.symmetry import PointGroup, directions

F64 = NDArray[np.float64]
VIEW_ORDER = 5  # HEALPix order at which views are counted
CELL_ORDER = 3  # and Fourier directions, 7.3 degrees apart
CONE_DEG = 20.0
THRESHOLD = 0.143
FACE = (
    128  # places along the edge of a face of the cube on which directions are looked up, half a degree apart
)
# A cone of fewer coefficients can fall below the threshold by chance: single coefficients of a map may be weak.
IN_CONE = 50
# Directions are told apart from this multiple of the first shell that has as many. Of 103 pairs of simulated maps of a ball
# in noise, alike from all sides, that reached it, none had a sphericity below 0.80; of those that did not, down to 0.4.
BEYOND = 1.5
FALLEN = 2 / 3  # of the shell that the whole map reaches: a cone that ends before has no views
# shells of large boxes have more coefficients than a cone needs: one in (box / ENOUGH) is taken beyond ALL_BELOW
ENOUGH, ALL_BELOW = 128, 48
FILLED = 8  # slices through a direction, on average, of views from all sides; fewer leave gaps by chance


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
    # A slice is as thick as the grid of views is coarse; of few views, so thick that as many from all sides leave no gap: a
    # direction is missed by all n slices with the probability (1 - width)^n.
    width = max(1.5 * np.sqrt(4 * np.pi / (12 * 4**VIEW_ORDER)), FILLED / len(seen))
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
    resolution_A : (n,) at 0.143; dips of shells that have few coefficients in a cone do not count
    sphericity : of the surface |k| = 1/resolution, 1 for a sphere
    """

    direction: F64
    curves: F64
    resolution_A: F64
    sphericity: float

    def missing(self, resolution_A: float) -> float:
        """Share of directions that stay far behind the resolution of the whole map."""
        return float(np.mean(self.resolution_A > resolution_A / FALLEN))


def first_counted_shell(cone_deg: float = CONE_DEG) -> int:
    """First shell with enough independent coefficients within a cone: half of its sphere holds 2 pi s^2 of them."""
    return int(np.ceil(np.sqrt(IN_CONE / (2 * np.pi * (1 - np.cos(np.radians(cone_deg)))))))


def tells_directions(box: int, pixel_size_A: float, resolution_A: float) -> bool:
    """Whether maps of some resolution have enough coefficients to tell directions apart."""
    return round(box * pixel_size_A / resolution_A) >= BEYOND * first_counted_shell()


def conical_fsc(
    first: NDArray[Any],
    second: NDArray[Any],
    pixel_size_A: float,
    cone_deg: float = CONE_DEG,
    *,
    randomised: F64 | None = None,
    randomise_from: int = 0,
    workers: int = 1,
) -> ConicalFsc:
    """FSC within cones about many directions.

    That of masked maps is corrected for the mask as the FSC of all directions is, shell by shell: a mask that is much longer
    one way than another is corrected for on average only.

    Parameters
    ----------
    first, second : (N, N, N//2 + 1) half transforms of the half maps, in FFT order
    pixel_size_A : of the maps
    cone_deg : half angle of the cones
    randomised, randomise_from : (N//2 + 1,) FSC of masked maps with random phases, and the first shell that has them
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
    if randomised is not None:
        curves = correct_fsc(curves, randomised, randomise_from, clip=False)
    last = np.array([_last_shell(curve, first_counted_shell(cone_deg)) for curve in curves])
    return ConicalFsc(axes, curves, box * pixel_size_A / last, sphericity(axes, last.astype(np.float64)))


def _last_shell(curve: F64, counted: int) -> int:
    """Last shell above the threshold, not counting dips before the first shell that counts unless they last till there."""
    below = first_shell_below(curve, THRESHOLD, start=counted)
    if below == counted:
        below = first_shell_below(curve, THRESHOLD)
    return max(below - 1 if below >= 0 else curve.size - 1, 1)


def _sums_by_cell(first: NDArray[Any], second: NDArray[Any], workers: int) -> F64:
    """Sums of Re(a b*), |a|^2 and |b|^2 by direction and shell: (3, n_cells, N//2 + 1)."""
    box, n_shells = first.shape[0], first.shape[2]
    k = axis_frequencies(box)
    stride = max(1, box // ENOUGH)
    low, reach, whole = np.arange(box), n_shells, [first, second]
    if stride > 1:
        low, reach = np.flatnonzero(np.abs(k) < ALL_BELOW), ALL_BELOW
        here = module_of(first).xp.asarray(low)
        whole = [array[here][:, here, :reach] for array in (first, second)]
    total = _sums_of_part(whole, k[low], k[low], (1, reach), n_shells, workers)
    # of the others every few rows, from another one in each plane
    for begin in range(stride if stride > 1 else 0):
        rows = slice(-begin % stride, None, stride)
        parts = [array[begin::stride, rows] for array in (first, second)]
        total += _sums_of_part(parts, k[begin::stride], k[rows], (reach, n_shells), n_shells, workers)
    return total.reshape(3, 12 * 4**CELL_ORDER, n_shells)


def _sums_of_part(
    pair: list[NDArray[Any]],
    kz: NDArray[np.int64],
    ky: NDArray[np.int64],
    between: tuple[int, int],
    n_shells: int,
    workers: int,
) -> F64:
    """The same over some planes and rows, those shells that are between two numbers: (3, n_cells * n_shells)."""
    first, second = pair
    arrays = module_of(first)
    xp = arrays.xp
    size = 12 * 4**CELL_ORDER * n_shells
    cell = xp.asarray(_cells_of_faces().ravel())
    z, y, x = (xp.asarray(k.astype(np.float32)) for k in (kz, ky, np.arange(first.shape[2])))
    plane = y[:, None] ** 2 + x**2

    def work(part: slice) -> Any:
        shell = xp.floor(xp.sqrt(z[part, None, None] ** 2 + plane) + np.float32(0.5)).astype(np.int32)
        index = cell[_places_on_faces(z[part, None, None], y[:, None], x, xp)] * n_shells + shell
        index = xp.where((shell >= between[0]) & (shell < between[1]), index, size).ravel()
        a, b = first[part], second[part]
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        return xp.stack([arrays.bincount(index, values.ravel(), size) for values in products])

    return np.asarray(to_host(sum(in_slabs(work, first, workers))))


@lru_cache(maxsize=1)
def _cells_of_faces() -> NDArray[np.int32]:
    """HEALPix cell of each place on three faces of a cube, (3, FACE, FACE): a direction is looked up without an angle.

    On face d the component d is 1; the others run from -1 to 1, in the order z, y, x without d.
    """
    at = (np.arange(FACE) + 0.5) * (2 / FACE) - 1
    u, v = np.meshgrid(at, at, indexing="ij")
    ones = np.ones_like(u)
    faces = [np.insert(np.stack([u, v]), d, ones, axis=0) for d in range(3)]
    return np.stack([healpix.vec2pix(2**CELL_ORDER, x, y, z, nest=True) for z, y, x in faces]).astype(
        np.int32
    )


def _places_on_faces(z: NDArray[Any], y: NDArray[Any], x: NDArray[Any], xp: Any) -> NDArray[Any]:
    """Flat index into `_cells_of_faces` of the directions of coefficients, or of those opposite."""
    depth, height, width = abs(z), abs(y), abs(x)
    along_z, along_y = (depth >= height) & (depth >= width), height >= width
    major = xp.where(along_z, z, xp.where(along_y, y, x))
    scale = np.float32(FACE / 2) / xp.where(major == 0, np.float32(1), major)
    u = xp.where(along_z, y, z) * scale
    v = xp.where(along_z | along_y, x, y) * scale
    face = xp.where(along_z, 0, xp.where(along_y, 1, 2)) * (FACE * FACE)
    u, v = (xp.minimum((w + np.float32(FACE / 2)).astype(np.int32), FACE - 1) for w in (u, v))
    return face + u * FACE + v  # type: ignore[no-any-return]


def sphericity(axes: F64, radius: F64) -> float:
    """Sphericity pi^(1/3) (6 V)^(2/3) / A of the closed surface with these radii along axes and their opposites.

    Parameters
    ----------
    axes : (n, 3) pixel centres of a HEALPix grid with z > 0;  radius : (n,) > 0
    """
    points = np.concatenate([axes, -axes])
    corners = (points * np.concatenate([radius, radius])[:, None])[_faces_of_rings(points)]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    volume = np.abs(np.einsum("ni,ni->n", a, np.cross(b, c))).sum() / 6
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area)


def _faces_of_rings(points: F64) -> NDArray[np.int64]:
    """Triangles between HEALPix pixel centres that close a surface, as indices: (m, 3). (SciPy's convex hull takes longer
    to load than all of this job's science on a device.)

    The grid's rings are regular polygons in parallel planes. Between two rings, each side of one is joined to the corner
    of the other that is nearest in azimuth to the middle of the side.
    """
    height, azimuth = points[:, 2].round(9), np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
    order = np.lexsort((azimuth, height))
    rings = np.split(order, np.flatnonzero(np.diff(height[order])) + 1)
    faces = []
    for ring in (rings[0], rings[-1]):
        faces.append(np.stack([np.full(ring.size - 2, ring[0]), ring[1:-1], ring[2:]], axis=1))
    for low, high in pairwise(rings):
        # two sides above each other make a trapezium; they lean to opposite sides, so that it is halved
        for ring, other, lean in ((low, high, -1e-6), (high, low, 1e-6)):
            middle = azimuth[ring] + np.pi / ring.size
            nearest = np.rint((middle - azimuth[other[0]]) * other.size / (2 * np.pi) + lean).astype(np.int64)
            faces.append(np.stack([ring, np.roll(ring, -1), other[nearest % other.size]], axis=1))
    return np.concatenate(faces)
