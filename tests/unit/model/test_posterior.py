"""Significant states and weighted sums of the float64 twin, in closed forms (checklist items 6 and 8)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpiapp.model.particles import OpticsModel
from mpiapp.model.posterior import (
    ImageSums,
    add_residual,
    back_project,
    normalised,
    significance_threshold,
    significant_weights,
)
from mpiapp.model.projection import grid_radius, slice_volume
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.scores import Observation, image_samples, observe, references, shifted

BOX, RADIUS, N_SHELLS = 24, 8, 13
GRID = grid_radius(RADIUS, 2.0)
OPTICS = OpticsModel(BOX, 3.0, 1.0, (1.0, 0.0, 0.0, 1.0), (), (), False)
MATRICES = euler_to_matrix([10.0, -75.0], [40.0, 95.0], [5.0, 60.0])
SHIFTS_A = np.array([[0.0, 0.0], [3.0, -4.0], [1.0, 2.0]])
WEIGHTS = np.array([[0.5, 0.2, 0.0], [0.0, 0.25, 0.0]])


def test_states_in_descending_order() -> None:
    log_weight = np.log([0.5, 0.02, 0.3, 0.08, 0.1])
    assert significance_threshold(log_weight, 0.7) == pytest.approx(np.log(0.3))
    assert significance_threshold(log_weight, 0.85) == pytest.approx(np.log(0.1))
    assert significance_threshold(log_weight, 0.95) == pytest.approx(np.log(0.08))
    assert significance_threshold(log_weight, 0.999) == pytest.approx(np.log(0.02))
    assert significance_threshold(log_weight, 0.999, maximum=2) == pytest.approx(np.log(0.3))
    assert significance_threshold(log_weight, 0.1, maximum=4) == pytest.approx(np.log(0.5))


def test_accepted_weights_are_not_scaled_up() -> None:
    weights = significant_weights(np.log([0.6, 0.3, 0.1]), 0.8)
    np.testing.assert_allclose(weights, [0.6, 0.3, 0.0])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=40), st.floats(-500, 500))
def test_weights_do_not_depend_on_a_constant(values: list[float], constant: float) -> None:
    """Item 6, and item 8: what is accepted sums to between the fraction and 1."""
    a = np.array(values)
    np.testing.assert_allclose(normalised(a + constant), normalised(a), rtol=1e-9, atol=1e-12)
    kept = significant_weights(a, 0.999)
    assert 0.999 - 1e-9 <= kept.sum() <= 1 + 1e-12
    smallest = kept[kept > 0].min()
    assert (normalised(a)[kept == 0] <= smallest).all()


@pytest.fixture
def seen(rng: np.random.Generator) -> Observation:
    coefficients = np.zeros(8)
    return observe(
        rng.normal(size=(BOX, BOX)),
        image_samples(OPTICS, RADIUS),
        OPTICS,
        coefficients,
        np.full(N_SHELLS, 0.5),
        2.0,
    )


@pytest.fixture
def volume(rng: np.random.Generator) -> NDArray[np.complex128]:
    shape = (2 * GRID + 1, 2 * GRID + 1, GRID + 1)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def test_residual_is_the_expected_square(seen: Observation, volume: NDArray) -> None:
    """The three terms are those of w |Ref - X_t|^2, summed by shell."""
    sums = ImageSums.zeros(GRID, N_SHELLS)
    add_residual(sums, seen, volume, 2.0, MATRICES, SHIFTS_A, WEIGHTS)
    refs, images = references(seen, volume, 2.0, MATRICES), shifted(seen, SHIFTS_A)
    expected = np.zeros(N_SHELLS)
    for r in range(2):
        for t in range(3):
            square = WEIGHTS[r, t] * np.abs(refs[r] - images[t]) ** 2
            expected += np.bincount(seen.samples.shell, square, N_SHELLS)
    np.testing.assert_allclose(sums.noise, expected)
    assert not sums.data.any()
    # the scale of the reference that fits best is XA / AA
    assert sums.reference_power[RADIUS + 1 :].sum() == 0


def test_back_projection_is_an_adjoint(seen: Observation, volume: NDArray) -> None:
    sums = ImageSums.zeros(GRID, N_SHELLS)
    back_project(sums, seen, 2.0, MATRICES, SHIFTS_A, WEIGHTS)
    images = shifted(seen, SHIFTS_A)
    sections = slice_volume(volume, 2.0, MATRICES, *seen.samples.q)
    # contrast is the scale of 2, and 1 / sigma2 is 2
    expected = sum(
        4 * WEIGHTS[r, t] * np.vdot(images[t], sections[r]).real for r in range(2) for t in range(3)
    )
    assert np.vdot(sums.data, volume).real == pytest.approx(expected)
    assert sums.weight.sum() == pytest.approx(WEIGHTS.sum() * 2**2 * 2 * seen.samples.q.shape[1])


def test_premultiplied_images_are_not_multiplied_again(seen: Observation) -> None:
    plain, once = ImageSums.zeros(GRID, N_SHELLS), ImageSums.zeros(GRID, N_SHELLS)
    back_project(plain, seen, 2.0, MATRICES, SHIFTS_A, WEIGHTS)
    back_project(once, seen, 2.0, MATRICES, SHIFTS_A, WEIGHTS, premultiplied=True)
    np.testing.assert_allclose(plain.data, 2 * once.data)
    np.testing.assert_allclose(plain.weight, once.weight)
