"""How particles are divided into batches, and their neighbourhoods in local searches: the same on every device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.model.local_search import LocalNeighbourhoods, local_neighbourhoods
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.search import Search

# Particles whose sums a device takes in single precision alone. Near the origin an element gets about ten numbers of each,
# and the rounding of half a million additions is 1e-5 of the sum; of fifty million additions nothing would be left.
PARTICLES_OF_A_SUM = 50_000


def batches_of(
    setup: ImagingSetup, data: ParticleData, order: NDArray[np.int64], size: int
) -> Iterator[NDArray[np.int64]]:
    """Rows of the batches: particles of one box and pixel size together, in the given order."""
    shape = [(o.box, round(o.pixel_size_A, 6)) for o in setup.optics]
    kinds = sorted(set(shape))
    kind = np.array([kinds.index(s) for s in shape])[data.optics]
    for k in range(len(kinds)):
        rows = order[kind[order] == k]
        for start in range(0, rows.size, size):
            yield rows[start : start + size]


def runs_of(batches: Sequence[NDArray[np.int64]], most: int) -> list[list[NDArray[np.int64]]]:
    """Batches in runs, each of fewer particles than ``most`` and a batch."""
    runs: list[list[NDArray[np.int64]]] = []
    room = 0
    for rows in batches:
        if room <= 0:
            runs.append([])
            room = most
        runs[-1].append(rows)
        room -= rows.size
    return runs


def even_batch(n: int, largest: int, lanes: int) -> int:
    """Size of batches of n images that keep all lanes busy to the end."""
    rounds = -(-n // (lanes * largest))
    return max(1, -(-n // (lanes * rounds))) if n else 1


def neighbourhoods(setup: ImagingSetup, search: Search, poses: Poses) -> LocalNeighbourhoods | None:
    """Directions near each particle's orientation, None in a global search."""
    if search.sigma_deg is None:
        return None
    prior = euler_to_matrix(poses.rot_deg, poses.tilt_deg, poses.psi_deg)
    # near a symmetry axis the nearest mate alone can miss the right in-plane angle
    return local_neighbourhoods(
        prior,
        search.grid,
        setup.group,
        search.sigma_deg,
        every_mate=True,
        perturbation_deg=search.turn_deg if search.prior_perturbed else 0.0,
    )


def rows_of(near: LocalNeighbourhoods, rows: NDArray[np.int64]) -> LocalNeighbourhoods:
    """Neighbourhoods of some particles."""
    count = np.diff(near.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    index = np.repeat(near.offsets[rows] - offsets[:-1], count) + np.arange(offsets[-1])
    return LocalNeighbourhoods(
        offsets, near.direction[index], near.log_prior[index], near.psi_center_deg[index]
    )
