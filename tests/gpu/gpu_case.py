"""The expectation step of a small case by the float64 twins alone, and by the GPU backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from class_case import coarse_values, fixed_states
from kernel_case import Case
from kernel_twin import Scored, add_particle, empty_sums, fine_states, image_power, local_log_prior, prepare
from numpy.typing import NDArray

from mpiapp.model.particles import Poses
from mpiapp.model.posterior import ImageSums, significance_threshold
from mpiapp.model.search import Free, Search
from mpiapp.model.sums import WeightedSums

F64 = NDArray[np.float64]


@dataclass
class Twin:
    """What the float64 twins give."""

    sums: list[ImageSums]  # a class each
    noise: F64  # (n_optics, n_shells)
    class_weight: F64  # (n_class,)
    class_shift: F64  # (n_class, 2)
    accepted: F64  # (n,) weight of the accepted states
    n_significant: F64  # (n,)
    best_value: F64  # (n,) log weight of the best state
    p_max: F64
    best_class: F64  # (n,) number of the class, from 1
    best: F64  # (n, 3, 3) orientation of the best state


def twin_of(case: Case, search: Search) -> Twin:
    """Both passes and the sums of all particles, by the equations."""
    n_class = len(case.model.transforms)
    sums, noise = (
        [empty_sums() for _ in range(n_class)],
        np.zeros((len(case.setup.optics), case.setup.n_shells)),
    )
    class_weight, class_shift = np.zeros(n_class), np.zeros((n_class, 2))
    rows, best = [], []
    for i in range(len(case.data)):
        planes, shifts, n_significant = states_of(case, i, search)
        own = [empty_sums() for _ in range(n_class)]
        weights = add_particle(case, i, search, planes, own, shifts)
        total = prepare(case, i).old_A + shifts
        for plane, w in zip(planes, weights, strict=True):
            class_weight[plane.of_class] += w.sum()
            class_shift[plane.of_class] += w.sum(axis=0) @ total
        weight = sum(float(w.sum()) for w in weights)
        power, reach = image_power(case, i), search.r_max + 1
        power[:reach] *= weight
        noise[case.data.optics[i]] += power
        for mine, its in zip(sums, own, strict=True):
            mine.data += its.data
            mine.weight += its.weight
            noise[case.data.optics[i]] += its.reference_power - 2 * its.cross
        values = np.concatenate([p.value.ravel() for p in planes])
        plane = max(planes, key=lambda p: p.value.max())
        best.append(plane.matrices[np.unravel_index(plane.value.argmax(), plane.value.shape)[0]])
        p_max = 1 / np.exp(values - values.max()).sum()
        rows.append((weight, n_significant, values.max(), p_max, plane.of_class + 1))
    return Twin(sums, noise, class_weight, class_shift, *np.array(rows).T, np.array(best))


def states_of(case: Case, i: int, search: Search) -> tuple[list[Scored], F64, int]:
    """Fine states of a particle, the shifts that they are at, and how many coarse states are significant."""
    if search.free is not Free.ALL:
        planes, shifts = fixed_states(case, i, search)
        tried = len(search.coarse_shifts_A) if search.free is Free.SHIFTS else 1
        return planes, shifts, len(planes) * tried
    value = coarse_values(case, i, search)
    value = value.reshape(-1, *value.shape[2:])
    if search.correlate:
        states = np.argwhere(value == value.max()).astype(np.int32)
    else:
        states = np.argwhere(value >= significance_threshold(value, search.passed_on)).astype(np.int32)
    prior = case.model.direction_prior
    full = np.log(np.maximum(prior, np.exp(-8) * prior.max(axis=1, keepdims=True))).reshape(-1, 1)
    if search.sigma_deg is not None:
        full = np.tile(local_log_prior(case, i, search), (len(prior), 1))
    priors = np.broadcast_to(full, value.shape[:2])[states[:, 0], states[:, 1]].astype(np.float32)
    return fine_states(case, i, search, states, priors), search.fine_shifts_A, len(states)


def run_gpu(
    case: Case, search: Search, precision: str, batch: int = 0, memory: int = 0
) -> tuple[WeightedSums, Poses, NDArray[np.bool_]]:
    """One expectation step of the GPU backend, the grid brought to the host."""
    from mpiapp.backend.gpu import GpuBackend

    backend = GpuBackend(0, precision, memory, batch)
    sums, poses, bad = backend.expectation(
        case.setup, case.model, search, case.data, case.poses, case.read, lambda n: False
    )
    sums.grid = sums.grid.get().astype(float)
    return sums, poses, bad


def errors_of(found: WeightedSums, poses: Poses, twin: Twin, planar: bool) -> dict[str, float]:
    """Distances of all sums from those of the twin, of all classes together."""
    data, weight = (np.stack([getattr(s, name) for s in twin.sums]) for name in ("data", "weight"))
    if planar:  # the plane z = 0 of the twin's volumes
        middle = data.shape[1] // 2
        data, weight = data[:, middle], weight[:, middle]
    return {
        "data": relative(found.grid[..., 0] + 1j * found.grid[..., 1], data),
        "weight": relative(found.grid[..., 2], weight),
        "noise": relative(found.noise[:, 1:], twin.noise[:, 1:]),  # the origin is left out of scores
        "p_max": float(np.abs(poses.p_max - twin.p_max).max()),
        "significant": float(np.abs(poses.n_significant / twin.n_significant - 1).max()) / 10,
        "classes": relative(found.direction_weight.sum(axis=1), twin.class_weight),
        "offsets": relative(found.class_shift, twin.class_shift),
    }


def relative(found: NDArray, expected: NDArray) -> float:
    """Distance of two arrays over the size of the second."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
