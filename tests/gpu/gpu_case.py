"""The expectation step of a small case by the float64 twins alone, and by the GPU backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from kernel_case import Case
from kernel_twin import add_particle, coarse_states, empty_sums, fine_states, image_power, local_log_prior
from numpy.typing import NDArray

from mpiapp.model.particles import Poses
from mpiapp.model.posterior import ImageSums, significance_threshold
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums

F64 = NDArray[np.float64]


@dataclass
class Twin:
    """What the float64 twins give."""

    sums: ImageSums
    noise: F64  # (n_optics, n_shells)
    accepted: F64  # (n,) weight of the accepted states
    n_significant: F64  # (n,)
    best_value: F64  # (n,) log weight of the best state
    p_max: F64
    best: F64  # (n, 3, 3) orientation of the best state


def twin_of(case: Case, search: Search) -> Twin:
    """Both passes and the sums of all particles, by the equations."""
    prior = case.model.direction_prior[0]
    flat = np.log(np.maximum(prior, np.exp(-8) * prior.max()))[:, None]
    sums, noise = empty_sums(), np.zeros((len(case.setup.optics), case.setup.n_shells))
    rows, best = [], []
    for i in range(len(case.data)):
        orientation = flat if search.sigma_deg is None else local_log_prior(case, i, search)
        value = coarse_states(case, i, search, orientation)
        if search.correlate:
            states = np.argwhere(value == value.max()).astype(np.int32)
        else:
            states = np.argwhere(value >= significance_threshold(value, search.fraction)).astype(np.int32)
        full = np.broadcast_to(orientation, value.shape[:2])
        priors = full[states[:, 0], states[:, 1]].astype(np.float32)
        planes = fine_states(case, i, search, states, priors)
        own = empty_sums()
        weight = sum(float(w.sum()) for w in add_particle(case, i, search, planes, [own]))
        power, reach = image_power(case, i), search.r_max + 1
        power[:reach] *= weight
        noise[case.data.optics[i]] += power + own.reference_power - 2 * own.cross
        sums.data += own.data
        sums.weight += own.weight
        values = np.concatenate([p.value.ravel() for p in planes])
        plane = max(planes, key=lambda p: p.value.max())
        best.append(plane.matrices[np.unravel_index(plane.value.argmax(), plane.value.shape)[0]])
        rows.append((weight, len(states), values.max(), 1 / np.exp(values - values.max()).sum()))
    columns = np.array(rows).T
    return Twin(sums, noise, *columns, np.array(best))


def run_gpu(
    case: Case, search: Search, precision: str, batch: int = 0, memory: int = 0
) -> tuple[WeightedSums, Poses, NDArray[np.bool_]]:
    """One expectation step of the GPU backend, the grid brought to the host."""
    from mpiapp.backend.gpu import GpuBackend

    backend = GpuBackend(0, precision, memory, batch)
    sums, poses, bad = backend.expectation(
        case.setup, case.model, search, case.data, case.poses, case.read, lambda n: False
    )
    sums.grid = sums.grid[0].get().astype(float)
    return sums, poses, bad


def relative(found: NDArray, expected: NDArray) -> float:
    """Distance of two arrays over the size of the second."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
