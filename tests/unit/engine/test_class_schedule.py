"""Decisions of a classification: resolutions, coarser sampling, search grids, the random start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpiapp.engine.class_maximization import centring, moved
from mpiapp.engine.class_schedule import (
    ClassRules,
    class_search,
    class_shells,
    coarser_sampling,
    even_classes,
    own_gains,
)
from mpiapp.engine.iteration import Options
from mpiapp.engine.schedule import Policy
from mpiapp.engine.state import HalfState, Schedule, new_half
from mpiapp.model.search import Free

POLICY = Policy(64, 3.0, 150.0)
OPTIONS = Options(-1.0, 4.0, 5, 0.999, -1, -1.0, False, True, 1)
RULES = ClassRules("C1", Free.ALL, False, 3, None, 6.0, True)
PLANE = replace(RULES, psi_step_deg=12.0)


def half_with(*resolved: int) -> HalfState:
    """Classes of equal size that are resolved to these shells."""
    half = new_half(1, np.ones((1, 33)), np.full((len(resolved), 4), 0.25 / len(resolved)), 10.0)
    for k, shell in enumerate(resolved):
        half.data_vs_prior[k, : shell + 1] = 3.0
    return half


def test_resolution_of_each_class() -> None:
    half = half_with(11, 20, 2, 30)
    np.testing.assert_array_equal(class_shells(POLICY, half), [11, 20, 5, 30])


def test_a_dip_ends_the_resolution() -> None:
    """Shells beyond the first that falls below 1 do not count, as there are no halves to tell them from noise."""
    half = half_with(11)
    half.data_vs_prior[0, 14:20] = 9.0
    assert class_shells(POLICY, half)[0] == 11


def test_an_empty_class_has_no_resolution() -> None:
    half = half_with(11, 25)
    half.direction_prior[1] = 0
    np.testing.assert_array_equal(class_shells(POLICY, half), [11, 5])


@pytest.mark.parametrize(
    ("accuracy_deg", "order"),
    [(1.0, 3), (9.0, 3), (10.0, 2), (18.0, 2), (20.0, 1), (999.0, 0)],
)
def test_directions_are_as_coarse_as_the_accuracy_allows(accuracy_deg: float, order: int) -> None:
    """The fine step stays below 0.8 of the accuracy: 7.5 degrees at order 2, 15 at order 1."""
    s = Schedule(3, 18.0, 6.0, accuracy_rot_deg=accuracy_deg, accuracy_trans_A=1.0)
    changed = coarser_sampling(RULES, s)
    assert s.healpix_order == order
    assert changed == (order != 3)


@pytest.mark.parametrize(("accuracy_deg", "step"), [(2.0, 12.0), (16.0, 24.0), (999.0, 24.0)])
def test_in_plane_angles_are_as_coarse_as_the_accuracy_allows(accuracy_deg: float, step: float) -> None:
    s = Schedule(0, 18.0, 6.0, accuracy_rot_deg=accuracy_deg, accuracy_trans_A=1.0, psi_step_deg=12.0)
    coarser_sampling(PLANE, s)
    assert s.psi_step_deg == step


@pytest.mark.parametrize(("accuracy_A", "step"), [(1.0, 6.0), (5.0, 8.0), (100.0, 17.1)])
def test_offsets_are_as_coarse_as_the_accuracy_allows(accuracy_A: float, step: float) -> None:
    s = Schedule(3, 18.0, 6.0, accuracy_rot_deg=1.0, accuracy_trans_A=accuracy_A)
    coarser_sampling(RULES, s)
    assert s.offset_step_A == pytest.approx(step)


def test_search_of_averages() -> None:
    s = Schedule(0, 18.0, 6.0, current_size=60, perturbation=0.25, psi_step_deg=11.0)
    search = class_search(POLICY, OPTIONS, PLANE, s)
    assert search.planar
    assert search.n_directions == search.children == 1
    assert search.grid.psi_deg.size == 34  # an even number, of a step that is no larger
    np.testing.assert_allclose(search.coarse_psi_deg, search.grid.psi_deg + 0.25 * 360 / 34)
    np.testing.assert_array_equal(search.fine_matrices, np.eye(3)[None])
    # arc of a step of 11 degrees at a radius of 75 A, and 1.5 over it
    assert search.r_coarse == int(np.ceil(64 * 3.0 * 1.5 / (11.0 / 360 * np.pi * 150.0)))


def test_coarse_states_that_seem_unlikely_are_looked_at_more_closely() -> None:
    s = Schedule(2, 18.0, 6.0, current_size=40)
    search = class_search(POLICY, OPTIONS, RULES, s)
    assert search.fraction == 0.999
    assert search.passed_on == pytest.approx(1 - 1e-6, abs=1e-9)
    assert class_search(POLICY, OPTIONS, PLANE, replace(s, psi_step_deg=12.0)).passed_on == 0.999
    assert class_search(POLICY, OPTIONS, RULES, replace(s, sigma_deg=5.0)).passed_on == search.passed_on
    # without children nothing is known better later
    assert class_search(POLICY, OPTIONS, RULES, replace(s, oversampling=0)).passed_on == 0.999


def gains(rules: ClassRules = RULES, **schedule: float) -> np.ndarray:
    """Gains of two classes of 200 images, resolved to shells 8 and 16."""
    s = Schedule(3, 18.0, 6.0, current_size=40, **schedule)  # type: ignore[arg-type]
    shape = (64, 64) if "psi_step_deg" in schedule else (64, 64, 64)
    return own_gains(POLICY, OPTIONS, rules, s, half_with(8, 16), 400, np.ones(shape, np.float32), 1)


def test_gain_of_an_image_by_itself() -> None:
    """It grows with the resolution and is the less the further apart the grids are; none in global searches."""
    fixed = gains(replace(RULES, free=Free.CLASS))
    np.testing.assert_allclose(
        fixed, [0.75 * 4 * np.pi * (np.arange(n + 1) ** 2).sum() / 200 for n in (8, 16)]
    )
    local = gains(sigma_deg=5.0)
    assert (0.2 * fixed < local).all()
    assert (local < [0.95 * fixed[0], 0.8 * fixed[1]]).all()
    assert not gains().any()
    assert not gains(sigma_deg=5.0, change_class=0.02).any()
    np.testing.assert_array_equal(gains(sigma_deg=5.0, change_class=0.0, seeding=True), local)
    assert not gains(PLANE, psi_step_deg=12.0).any()


def test_search_without_alignment() -> None:
    s = Schedule(3, 18.0, 6.0, current_size=40, sigma_deg=5.0)
    search = class_search(POLICY, OPTIONS, replace(RULES, free=Free.CLASS), s)
    assert (search.oversampling, search.n_directions, search.sigma_deg) == (0, 1, None)


def test_particles_keep_their_random_class_in_the_first_iteration_only() -> None:
    s = Schedule(2, 18.0, 6.0, current_size=40, seeding=True, iteration=1)
    assert class_search(POLICY, OPTIONS, RULES, s).keep_class
    assert not class_search(POLICY, OPTIONS, RULES, replace(s, iteration=2)).keep_class
    assert not class_search(POLICY, OPTIONS, RULES, replace(s, seeding=False)).keep_class


def test_classes_of_equal_size() -> None:
    """Directions keep their distribution within a class, and empty classes stay empty."""
    half = half_with(8, 8, 8)
    half.direction_prior[:] = [[0.1, 0.2, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0], [0.2, 0.1, 0.1, 0.1]]
    even = even_classes(half)
    np.testing.assert_allclose(even.class_prior, [0.5, 0, 0.5])
    np.testing.assert_allclose(even.direction_prior[0], [0.1, 0.2, 0.1, 0.1])
    half.direction_prior[2] /= 5
    np.testing.assert_allclose(even_classes(half).direction_prior, even.direction_prior)


def test_strict_resolution_of_the_expectation() -> None:
    s = Schedule(2, 18.0, 6.0, current_size=40)
    search = class_search(POLICY, replace(OPTIONS, strict_highres_A=24.0), RULES, s)
    assert (search.r_coarse, search.r_score, search.r_max) == (8, 8, 20)


def centred(reference: np.ndarray, largest_px: float) -> np.ndarray:
    return moved(reference, centring(reference, largest_px))


def test_references_are_moved_to_their_centre_of_mass() -> None:
    image = np.zeros((16, 16), np.float32)
    image[12, 5] = 1.0  # y, x
    assert centred(image, 10.0)[8, 8] == 1.0
    assert centred(image, 2.5)[10, 7] == 1.0  # by two pixels at most
    volume = np.zeros((16, 16, 16), np.float32)
    volume[9, 6, 8] = 1.0
    assert centred(volume, 10.0)[8, 8, 8] == 1.0
