"""Local angular searches: the grid directions and in-plane angles near each particle's current orientation.

As refinement.md 4.11, for many particles at once. A direction of the grid (the asymmetric unit) is near a
particle if one of its symmetry mates is. The in-plane angle is compared through whole rotations rather than
through psi alone, so that the search window is right near the poles and for mates that turn the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.model.rotations import FloatArray
from mpiapp.model.sampling import DirectionGrid, direction_matrices
from mpiapp.model.symmetry import PointGroup

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

# Neighbours handled at a time: some 200 bytes each.
_CHUNK_NEIGHBOURS = 500_000


@dataclass(frozen=True, eq=False)
class LocalNeighbourhoods:
    """Directions near each of n particles, in compressed rows.

    Particle i owns the entries from ``offsets[i]`` up to, not including, ``offsets[i + 1]``.

    The entries of a particle are sorted by ``psi_center_deg``, ascending.

    Attributes
    ----------
    offsets
        (n + 1,) int64.
    direction
        (nnz,) int32 index into the directions of the grid.
    log_prior
        (nnz,) float32, ``-delta^2 / (2 sigma^2)`` with the angle delta between the particle's viewing
        direction and the nearest mate of the grid direction. Not normalised.
    psi_center_deg
        (nnz,) float32 in [0, 360): the in-plane angle at which the grid direction is closest to the particle's
        orientation. Centre of the window of in-plane angles.
    """

    offsets: NDArray[np.int64]
    direction: NDArray[np.int32]
    log_prior: NDArray[np.float32]
    psi_center_deg: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _MateTree:
    """All symmetry mates of the grid directions, which cover the whole sphere."""

    tree: cKDTree  # point m * n_directions + d is mate m of direction d
    image_axes: NDArray[np.complex128]  # (n_dir, 3), first row + i * second row of D_d


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Near pairs of a chunk of particles; flat arrays of one length."""

    particle: NDArray[np.int64]
    direction: NDArray[np.int64]
    mate: NDArray[np.int64]
    delta: FloatArray  # radians, 0 for the only direction of a particle with none in reach

    def take(self, index: NDArray) -> _Pairs:
        return _Pairs(self.particle[index], self.direction[index], self.mate[index], self.delta[index])


@lru_cache(maxsize=4)
def _mate_tree(grid: DirectionGrid, group: PointGroup, perturbation_deg: float) -> _MateTree:
    from scipy.spatial import cKDTree

    matrices = direction_matrices(grid.rot_deg, grid.tilt_deg, perturbation_deg)
    # Particle mates are a @ R_j (row vectors), so a grid direction d is compared as d @ R_j^T.
    mates = np.einsum("dx,jyx->jdy", matrices[:, 2], group.operators).reshape(-1, 3)
    return _MateTree(cKDTree(mates), matrices[:, 0] + 1j * matrices[:, 1])


def local_neighbourhoods(
    prior: ArrayLike,
    grid: DirectionGrid,
    group: PointGroup,
    sigma_deg: float,
    cutoff: float = 3.0,
    every_mate: bool = False,
    perturbation_deg: float = 0.0,
) -> LocalNeighbourhoods:
    """Grid directions near the current orientations of particles.

    Parameters
    ----------
    prior
        (n, 3, 3) current orientations.
    grid
        Directions, of the point group ``group``.
    group
        The point group.
    sigma_deg
        Width of the Gaussian prior, degrees.
    cutoff
        Directions closer than ``cutoff * sigma_deg`` are kept; where there is none, the nearest one with log
        prior 0.
    every_mate
        False: of several mates of a direction within reach of a particle, the closest counts, as in RELION.
        True: each makes an entry of its own with its own in-plane angle; it matters for particles seen along
        a symmetry axis, whose in-plane angle the closest mate alone leaves open.
    perturbation_deg
        That of the grid (:func:`mpiapp.model.sampling.direction_matrices`). RELION measures from the unperturbed grid,
        which is off by up to 1.1 coarse steps: more than the width of the prior of a usual search. Classes separate some
        iterations earlier without that; refinements then take more iterations to settle.

    Returns
    -------
    LocalNeighbourhoods

    Raises
    ------
    ValueError
        Grid and group do not belong together, or sigma or cutoff are not positive.
    """
    if grid.group != group.name:
        raise ValueError(f"the grid is of group {grid.group}, the operators are of {group.name}")
    if not (sigma_deg > 0.0 and cutoff > 0.0):
        raise ValueError(f"sigma_deg {sigma_deg} and cutoff {cutoff} have to be positive")
    matrices = np.asarray(prior, np.float64)
    reach = np.deg2rad(min(cutoff * sigma_deg, 180.0))
    mates = _mate_tree(grid, group, perturbation_deg)
    # Share of the sphere in the cap, with room for uneven grids.
    per_particle = 1.2 * mates.tree.n * 0.5 * (1.0 - np.cos(reach)) + 8.0
    chunk = max(1, int(_CHUNK_NEIGHBOURS / per_particle))
    parts = [
        _chunk_neighbourhoods(matrices[start : start + chunk], mates, group, reach, every_mate)
        for start in range(0, matrices.shape[0], chunk)
    ]
    return _join(parts, np.deg2rad(sigma_deg))


_Part = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]


def _chunk_neighbourhoods(
    prior: FloatArray, mates: _MateTree, group: PointGroup, reach: float, every_mate: bool
) -> _Part:
    """(counts, direction, delta in radians, psi centre) of some particles, sorted by particle and psi."""
    pairs = _near_pairs(prior[:, 2], mates, reach)
    if not every_mate and group.order > 1:
        pairs = _closest_mates(pairs)
    psi = _psi_centers(prior, mates, group, pairs)
    order = np.lexsort((pairs.direction, psi, pairs.particle))
    counts = np.bincount(pairs.particle, minlength=prior.shape[0])
    direction = pairs.direction[order].astype(np.int32)
    return counts, direction, pairs.delta[order].astype(np.float32), psi[order]


def _near_pairs(view: FloatArray, mates: _MateTree, reach: float) -> _Pairs:
    """Pairs of particles and grid mates closer than ``reach``; the nearest one for particles without any."""
    from scipy.spatial import cKDTree

    n_directions = mates.image_axes.shape[0]
    view = view / np.linalg.norm(view, axis=1, keepdims=True)
    chord = 2.0 * np.sin(0.5 * reach)
    found = cKDTree(view).sparse_distance_matrix(mates.tree, chord, output_type="ndarray")
    particle, point, distance = found["i"], found["j"], found["v"]
    inside = distance < chord
    particle, point = particle[inside], point[inside]
    delta = 2.0 * np.arcsin(np.minimum(0.5 * distance[inside], 1.0))
    alone = np.flatnonzero(np.bincount(particle, minlength=view.shape[0]) == 0)
    if alone.size:
        particle = np.concatenate([particle, alone])
        point = np.concatenate([point, mates.tree.query(view[alone])[1]])
        delta = np.concatenate([delta, np.zeros(alone.size)])  # kept for being nearest, not for being near
    mate, direction = np.divmod(point.astype(np.int64), n_directions)
    return _Pairs(particle.astype(np.int64), direction, mate, delta)


def _closest_mates(pairs: _Pairs) -> _Pairs:
    """Of the pairs with the same particle and direction, the one with the smallest distance."""
    # Rounded, so that of equally distant mates the first operator wins, whatever the order of the search.
    order = np.lexsort((pairs.mate, pairs.delta.round(9), pairs.direction, pairs.particle))
    pairs = pairs.take(order)
    new = np.ones(order.size, bool)
    new[1:] = (np.diff(pairs.particle) != 0) | (np.diff(pairs.direction) != 0)
    return pairs.take(np.flatnonzero(new))


def _psi_centers(
    prior: FloatArray, mates: _MateTree, group: PointGroup, pairs: _Pairs
) -> NDArray[np.float32]:
    """In-plane angles of pairs as ``psi_between(prior @ R_j, D_d)``, in [0, 360)."""
    axes = prior[:, 0] + 1j * prior[:, 1]
    mate_axes = np.einsum("nx,jxy->njy", axes, group.operators)
    product = mate_axes[pairs.particle, pairs.mate] * mates.image_axes[pairs.direction].conj()
    psi = np.rad2deg(-np.angle(product.sum(axis=-1))).astype(np.float32) % np.float32(360.0)
    psi[psi >= 360.0] = 0.0  # a small negative angle rounds up to the full turn
    return np.asarray(psi, np.float32)


def _join(parts: list[_Part], sigma: float) -> LocalNeighbourhoods:
    """One set of rows from the chunks, with distances turned into log priors."""
    empty = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32))
    counts, direction, delta, psi = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    offsets = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    log_prior = (-0.5 * np.square(delta / sigma)).astype(np.float32)
    return LocalNeighbourhoods(offsets, direction, log_prior, psi)
