"""Several classes at once against the float64 twins: which class, which direction, and the sums of each class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from class_case import SEARCHES, class_case, coarse_values, fixed_states
from kernel_case import Case, Traced, make_search, run, traced
from kernel_twin import Scored, add_particle, empty_sums, fine_states, prepare
from numpy.typing import NDArray

from mpiapp.backend.candidates import rows_near
from mpiapp.model.averages import hermitian_sum_planes
from mpiapp.model.local_search import LocalNeighbourhoods
from mpiapp.model.posterior import ImageSums, normalised
from mpiapp.model.reconstruct import hermitian_sum
from mpiapp.model.search import Free, Search

F64 = NDArray[np.float64]


@dataclass
class Comparison:
    """An expectation step and its twin."""

    case: Case
    search: Search
    found: Traced
    planes: list[list[Scored]]
    weights: list[list[F64]]  # accepted weights of each plane
    sums: list[ImageSums]  # a class each
    shifts: list[F64]  # of each particle


@pytest.fixture(scope="module", params=SEARCHES)
def comparison(request: pytest.FixtureRequest) -> Comparison:
    search = SEARCHES[request.param]
    case = class_case(search)
    found = traced(case, search)
    planes, weights, all_shifts = [], [], []
    sums = [empty_sums() for _ in case.model.transforms]
    for i in range(len(case.data)):
        if search.free is Free.ALL:
            own, shifts = (
                fine_states(case, i, search, found.states[i], found.priors[i]),
                search.fine_shifts_A,
            )
        else:
            own, shifts = fixed_states(case, i, search)
        planes.append(own)
        all_shifts.append(shifts)
        weights.append(add_particle(case, i, search, own, sums, shifts))
    return Comparison(case, search, found, planes, weights, sums, all_shifts)


def class_weights(c: Comparison) -> F64:
    """(n_particles, n_class) accepted weights."""
    out = np.zeros((len(c.planes), len(c.sums)))
    for i, planes in enumerate(c.planes):
        for plane, w in zip(planes, c.weights[i], strict=True):
            out[i, plane.of_class] += w.sum()
    return out


def test_accepted_states(comparison: Comparison) -> None:
    """Classes compete: the best states of all of them together are kept until their weight exceeds the share."""
    c = comparison
    if c.search.free is not Free.ALL:
        pytest.skip("nothing is selected")
    for i in range(len(c.case.data)):
        value = coarse_values(c.case, i, c.search)
        accepted = np.zeros((value.shape[0] * value.shape[1], *value.shape[2:]), bool)
        accepted[tuple(c.found.states[i].T)] = True
        order = value.ravel().argsort()[::-1]
        weight = normalised(value).ravel()[order]
        better = np.cumsum(weight) - weight
        kept = accepted.ravel()[order]
        assert kept[better < c.search.passed_on - 2e-4].all()
        assert not kept[better > c.search.passed_on + 2e-4].any()


def test_classes_and_their_weights(comparison: Comparison) -> None:
    c = comparison
    weight = class_weights(c)
    found = c.found.sums.direction_weight.sum(axis=1)
    np.testing.assert_allclose(found, weight.sum(axis=0), atol=0.02)
    for i, planes in enumerate(c.planes):
        best = max(planes, key=lambda p: p.value.max())
        assert c.found.poses.class_number[i] == best.of_class + 1
    if c.search.keep_class:
        np.testing.assert_array_equal(c.found.poses.class_number, c.case.poses.class_number)


def test_maps_of_the_classes(comparison: Comparison) -> None:
    c = comparison
    total = np.sqrt(sum(np.linalg.norm(s.data) ** 2 + np.linalg.norm(s.weight) ** 2 for s in c.sums))
    for k, sums in enumerate(c.sums):
        grid = c.found.sums.grid[k].copy()
        expected = np.stack([sums.data.real, sums.data.imag, sums.weight], axis=-1)
        if c.search.planar:
            expected = expected[expected.shape[2] - 1]
        (hermitian_sum_planes if c.search.planar else hermitian_sum)(grid)
        (hermitian_sum_planes if c.search.planar else hermitian_sum)(expected)
        assert np.linalg.norm(grid - expected) < 0.01 * total  # measured at most 0.0055


def test_noise_of_all_classes_together(comparison: Comparison) -> None:
    c = comparison
    cross, power = (
        np.sum([getattr(s, name) for s in c.sums], axis=0) for name in ("cross", "reference_power")
    )
    reach = c.search.r_max + 1
    sigma2 = c.case.model.sigma2[0, :reach]
    for name, expected in (("cross", cross), ("power", power)):
        found = (c.found.fine[name] * sigma2).sum(axis=0)
        np.testing.assert_allclose(
            found[1:], expected[1:reach], rtol=0.02, atol=2e-3 * np.abs(expected).max()
        )


def test_offsets_of_the_classes(comparison: Comparison) -> None:
    c = comparison
    expected = np.zeros((len(c.sums), 2))
    for i, planes in enumerate(c.planes):
        total = prepare(c.case, i).old_A + c.shifts[i]
        for plane, w in zip(planes, c.weights[i], strict=True):
            expected[plane.of_class] += w.sum(axis=0) @ total
    np.testing.assert_allclose(c.found.sums.class_shift, expected, atol=0.15)


def test_poses_that_are_not_searched_for_stay(comparison: Comparison) -> None:
    c = comparison
    before, after = c.case.poses, c.found.poses
    if c.search.free is Free.ALL:
        pytest.skip("all are searched for")
    for name in ("rot_deg", "tilt_deg", "psi_deg"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    stayed = (after.origin_A == before.origin_A).all(axis=1)
    assert (stayed if c.search.free is Free.CLASS else ~stayed).all()


def test_scores_can_be_limited_while_sums_are_not() -> None:
    """With --strict_highres_exp the likelihood ends at a radius; noise and map do not."""
    search = make_search(r_score=7)
    case = class_case(search)
    found = traced(case, search)
    model = replace(case.model, transforms=[t.copy() for t in case.model.transforms])
    short = traced(replace(case, model=model), replace(search, r_max=7, r_score=None))
    np.testing.assert_allclose(found.fine["log_best"], short.fine["log_best"], atol=2e-3)
    np.testing.assert_array_equal(found.poses.class_number, short.poses.class_number)
    assert (found.fine["power"][:, 8:10] > 0).all()


@pytest.mark.parametrize("name", ["local", "shifts only", "class only", "averages, class only"])
def test_what_an_image_gains_by_itself_is_taken_back(name: str) -> None:
    """The weight of the class that an image was in goes down by the gain and its weight there; the others share the rest."""
    search = replace(SEARCHES[name], fraction=0.9999999)
    case = class_case(search)
    # noisy enough for every class to have some weight
    case = replace(case, model=replace(case.model, sigma2=60 * case.model.sigma2))
    case.poses.p_max[:] = 0.5
    n = len(case.model.transforms)
    plain = [class_share(case, search, i) for i in range(4)]
    gain = np.array([2.0, 6.0, 3.0])[:n]
    taken = [
        class_share(replace(case, model=replace(case.model, own_gain=gain)), search, i) for i in range(4)
    ]
    for i, (before, after) in enumerate(zip(plain, taken, strict=True)):
        own = int(case.poses.class_number[i]) - 1
        expected = before * np.exp(-0.5 * gain * (np.arange(n) == own))
        np.testing.assert_allclose(after, expected / expected.sum(), atol=2e-3)
    assert np.abs(np.subtract(plain, taken)).max() > 0.05


def class_share(case: Case, search: Search, i: int) -> F64:
    """Posterior of the classes of one particle."""
    one = np.array([i])
    case = replace(case, data=case.data.take(one), poses=case.poses.take(one))
    weight = run(case, search)[0].direction_weight.sum(axis=1)
    return np.asarray(weight / weight.sum())


def test_an_empty_class_is_never_chosen() -> None:
    search = make_search()
    case = class_case(search)
    prior = case.model.direction_prior.copy()
    prior[1] = 0
    found = traced(replace(case, model=replace(case.model, direction_prior=prior / prior.sum())), search)
    assert (found.poses.class_number == 1).all()
    assert not found.sums.grid[1].any()


def test_neighbourhoods_of_classes() -> None:
    """Every class at each direction, or the particle's own class only; sorted by angle as before."""
    psi = np.array([10, 20, 30, 5, 15], np.float32)
    near = LocalNeighbourhoods(np.array([0, 3, 5]), np.arange(5, dtype=np.int32), -psi, psi)
    both = rows_near(near, np.array([1]), 2, 100, None)
    np.testing.assert_array_equal(both.offsets, [0, 4])
    np.testing.assert_array_equal(both.direction, [3, 103, 4, 104])
    np.testing.assert_array_equal(both.psi_center_deg, [5, 5, 15, 15])
    own = rows_near(near, np.array([1, 0]), 2, 100, np.array([1, 0], np.int32))
    np.testing.assert_array_equal(own.direction, [103, 104, 0, 1, 2])
