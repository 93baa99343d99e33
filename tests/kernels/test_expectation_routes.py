"""Results do not depend on batches, threads, tables or companions; images that can not be used are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from kernel_case import BOX, Case, distorted, make_case, make_search, optics_model, run, traced
from kernel_twin import coarse_states, fine_states, prepare

from mpiapp.backend import cpu, references, task
from mpiapp.model.particles import Poses
from mpiapp.model.reconstruct import hermitian_sum
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg, rotation_z
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums

Result = tuple[WeightedSums, Poses, np.ndarray]
SEARCHES = {"global": make_search(), "local": make_search(sigma_deg=8.0)}


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case([optics_model(), distorted()], per_group=5)


@pytest.fixture(scope="module", params=SEARCHES)
def reference(request: pytest.FixtureRequest, case: Case) -> tuple[Search, Result]:
    """The search, and its result with everything as it comes, on one thread."""
    search = SEARCHES[request.param]
    return search, run(case, search)


def assert_same(found: Result, expected: Result, tolerance: float = 1e-5) -> None:
    """Equal poses and flags; sums equal within rounding."""
    for field in fields(WeightedSums):
        a, b = getattr(found[0], field.name), getattr(expected[0], field.name)
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b), field.name
    for name in ("rot_deg", "tilt_deg", "psi_deg", "origin_A", "n_significant"):
        np.testing.assert_array_equal(getattr(found[1], name), getattr(expected[1], name))
    for name in ("norm", "p_max", "log_likelihood"):
        np.testing.assert_allclose(getattr(found[1], name), getattr(expected[1], name), rtol=1e-4)
    np.testing.assert_array_equal(found[2], expected[2])


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_batch_size(
    case: Case, reference: tuple[Search, Result], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "BATCH", batch)
    assert_same(run(case, reference[0]), reference[1])


def test_threads(case: Case, reference: tuple[Search, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "BATCH", 2)
    assert_same(run(case, reference[0], threads=3), reference[1])


@pytest.mark.parametrize("per_particle", [0, 10_000])
def test_slices_from_a_table_or_on_demand(
    case: Case, reference: tuple[Search, Result], per_particle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "TABLE_ROWS_PER_PARTICLE", per_particle)
    assert_same(run(case, reference[0]), reference[1])


def test_shift_phases_from_a_table_or_on_demand(
    case: Case, reference: tuple[Search, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "PHASE_BYTES", 0)
    # products of two phases against sines of the whole one: rounding of another kind
    assert_same(run(case, reference[0]), reference[1], tolerance=1e-4)


def test_halves_add_up(case: Case, reference: tuple[Search, Result]) -> None:
    rows = np.arange(len(case.data))
    parts = [
        run(replace(case, data=case.data.take(r), poses=case.poses.take(r)), reference[0])
        for r in (rows[::2], rows[1::2])
    ]
    poses = Poses.zeros(rows.size)
    poses.put(rows[::2], parts[0][1])
    poses.put(rows[1::2], parts[1][1])
    assert_same((parts[0][0] + parts[1][0], poses, np.zeros(rows.size, bool)), reference[1])


def test_mask_noise_belongs_to_the_particle(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --zero_mask surroundings are random numbers: the same in any batch."""
    noisy = replace(case, setup=replace(case.setup, zero_mask=False))
    expected = run(noisy, SEARCHES["local"])
    monkeypatch.setattr(cpu, "BATCH", 3)
    assert_same(run(noisy, SEARCHES["local"]), expected)
    assert not np.array_equal(expected[0].noise, run(case, SEARCHES["local"])[0].noise)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite(case: Case, reference: tuple[Search, Result], value: float) -> None:
    """They are marked, and all sums are those of the others."""
    images = [stack.copy() for stack in case.images]
    images[0][1, 3, 4] = images[1][4, 0, 0] = value
    found = run(replace(case, images=images), reference[0])
    bad = np.zeros(len(case.data), bool)
    bad[[1, 9]] = True
    np.testing.assert_array_equal(found[2], bad)
    good = np.flatnonzero(~bad)
    others = run(replace(case, data=case.data.take(good), poses=case.poses.take(good)), reference[0])
    assert_same((found[0], found[1].take(good), found[2][good]), others)


def test_nothing_but_bad_images(case: Case) -> None:
    images = [np.full_like(stack, np.nan) for stack in case.images]
    sums, _, bad = run(replace(case, images=images), SEARCHES["global"])
    assert bad.all()
    assert not any(array.any() for array in sums.arrays())


@pytest.mark.parametrize("other", ["magnified", "coarser"])
def test_groups_that_reach_beyond_others(other: str) -> None:
    """Each group reads and writes inside its own arrays up to the last shell, whoever shares its batch.

    A magnification or a coarser pixel takes pixels of the model beyond Nyquist of the image; samples there have no
    weight, and those of the image beyond the model's sphere are not written.
    """
    radius = BOX // 2
    second = {
        "magnified": optics_model(magnification=(0.9, 0.0, 0.0, 1.1)),
        "coarser": optics_model(18, 4.5),
    }[other]
    both = make_case([optics_model(), second], per_group=2, radius=radius)
    search = make_search(r_max=radius)
    together = run(both, search)
    assert np.isfinite(together[0].grid).all()
    parts = []
    for rows in (np.arange(2), np.arange(2, 4)):
        parts.append(run(replace(both, data=both.data.take(rows), poses=both.poses.take(rows)), search))
    poses = Poses.zeros(4)
    poses.put(np.arange(2), parts[0][1])
    poses.put(np.arange(2, 4), parts[1][1])
    assert_same(together, (parts[0][0] + parts[1][0], poses, np.zeros(4, bool)))


def test_correlation_keeps_the_best_state_only(case: Case) -> None:
    """refinement.md 4.7: the best coarse state, then the best of its children, with weight 1."""
    search = make_search(correlate=True)
    found = traced(case, search)
    for i in (0, 7):
        value = coarse_states(case, i, search, np.zeros((search.n_directions, 1)))
        assert len(found.states[i]) == 1
        kept = value[tuple(found.states[i][0])]
        # several may be equal within rounding
        assert kept > value.max() - 1e-4
        planes = fine_states(case, i, search, found.states[i], found.priors[i])
        plane = max(planes, key=lambda p: p.value.max())
        direction, shift = np.unravel_index(plane.value.argmax(), plane.value.shape)
        poses = found.poses
        angles = euler_to_matrix(poses.rot_deg[i], poses.tilt_deg[i], poses.psi_deg[i])
        assert geodesic_deg(angles, plane.matrices[direction]) < 1e-3
        expected = prepare(case, i).old_A + search.fine_shifts_A[shift]
        np.testing.assert_allclose(poses.origin_A[i], expected)
    np.testing.assert_array_equal(found.poses.p_max, 1)
    np.testing.assert_array_equal(found.poses.n_significant, 1)
    np.testing.assert_array_equal(found.poses.norm, case.poses.norm)
    assert found.sums.weight == pytest.approx(len(case.data))


@pytest.mark.parametrize("maximum", [1, 3])
def test_most_significant_states(case: Case, maximum: int) -> None:
    search = make_search(max_significant=maximum, fraction=0.9999999)
    found = traced(case, search)
    unlimited = traced(case, replace(search, max_significant=0))
    for few, many in zip(found.states, unlimited.states, strict=True):
        assert len(few) == min(maximum, len(many))
        assert {tuple(s) for s in few} <= {tuple(s) for s in many}


def test_frame_of_the_reference(case: Case) -> None:
    """A direction D is read at D G: with a G that takes the grid to itself every pose A becomes A G^T."""
    n_dir = make_search().n_directions
    flat = replace(case.model, direction_prior=np.full((1, n_dir), 1.0 / n_dir))
    turn = rotation_z(90.0)
    search = make_search(perturbation=0.0)
    plain = run(replace(case, model=flat), search)
    turned = run(replace(case, model=replace(flat, frame=turn)), search)
    before, after = (euler_to_matrix(p.rot_deg, p.tilt_deg, p.psi_deg) for p in (plain[1], turned[1]))
    assert geodesic_deg(after, before @ turn.T).max() < 1e-3
    np.testing.assert_allclose(turned[1].log_likelihood, plain[1].log_likelihood, atol=0.01)
    # images go into the map at the poses that are reported: W is turned as well
    weight = [result[0].grid[0].copy() for result in (plain, turned)]
    for sums in weight:
        hermitian_sum(sums)
    whole = [np.concatenate([w[::-1, ::-1, :0:-1, 2], w[..., 2]], axis=2) for w in weight]
    options = [np.rot90(whole[0], k, axes=(1, 2)) for k in (1, 3)]
    assert min(np.linalg.norm(o - whole[1]) for o in options) < 1e-3 * np.linalg.norm(whole[0])


def stopping_after(n: int) -> Callable[[int], bool]:
    """A step that asks for the end once n particles are done."""
    done = [0]

    def step(count: int) -> bool:
        done[0] += count
        return done[0] >= n

    return step


def test_a_stop_is_obeyed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "BATCH", 2)
    backend = cpu.CpuBackend(1)
    sums, _, _ = backend.expectation(
        case.setup, case.model, SEARCHES["local"], case.data, case.poses, case.read, stopping_after(4)
    )
    backend.pool.shutdown()
    assert sums.n_particles == 4
