"""Parameters of the model from the sums of an expectation step (refinement.md 5.4, 5.6)."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from mpiapp.backend.base import ImagingSetup
from mpiapp.engine.maximization import (
    join_radius,
    low_resolution_part,
    new_scales,
    new_sigma2,
    regularised_map,
    set_low_resolution_part,
    tempered,
    update_parameters,
    with_spectra,
)
from mpiapp.engine.state import HalfState
from mpiapp.model.pixels import shell_pixels
from mpiapp.model.projection import grid_radius, squared_radius, transform_reference
from mpiapp.model.reconstruct import Spectra
from mpiapp.model.sums import WeightedSums
from mpiapp.model.symmetry import point_group

BOX, PIXEL_A, N_SHELLS, N_CLASS, N_DIR = 32, 2.5, 17, 2, 12
SETUP = ImagingSetup(BOX, PIXEL_A, 2.0, 60.0, 5.0, True, [], 3, point_group("C1"), 1)


def half_state() -> HalfState:
    """Parameters that nothing below should give by chance."""
    shells = np.arange(N_SHELLS)
    spectra = [np.full((N_CLASS, N_SHELLS), v) for v in (0.1, 0.2, 0.3, 0.4)]
    scalars = np.array([1.3, 7.0, -5.0, 0.2])
    sigma2 = np.stack([2e-3 + 1e-4 * shells, 5e-3 + 1e-4 * shells])
    prior = np.full((N_CLASS, N_DIR), 1 / (N_CLASS * N_DIR))
    centre, accuracy = np.zeros((2, N_CLASS, 2))
    return HalfState(
        sigma2, np.array([0.8, 1.1, 1.1]), prior, centre, *spectra, scalars=scalars, accuracy=accuracy
    )


def empty_sums() -> WeightedSums:
    return WeightedSums.zeros((N_CLASS, 3, 3, 2, 3), 2, N_SHELLS, 3, N_CLASS, N_DIR)


def test_sums_add_up() -> None:
    rng = np.random.default_rng(1)
    a, b = (
        WeightedSums.from_arrays([rng.normal(size=x.shape) for x in empty_sums().arrays()]) for _ in range(2)
    )
    total = a + b
    for field in fields(WeightedSums):
        np.testing.assert_array_equal(
            getattr(total, field.name), getattr(a, field.name) + getattr(b, field.name)
        )
    before = a.grid.copy()
    a += b
    np.testing.assert_array_equal(a.grid, before + b.grid)


def test_noise_of_white_images_is_found_again() -> None:
    """Item 9: residuals of variance v a pixel in n images give v / (2 L^2) in every shell."""
    sums, variance, n = empty_sums(), 3.0, 400
    pixels = shell_pixels(BOX).astype(float)
    expected_power = variance / BOX**2
    sums.noise[0] = n * pixels * expected_power
    sums.noise_pixels[0] = n * pixels
    found = new_sigma2(half_state().sigma2, sums)
    np.testing.assert_allclose(found[0], variance / (2 * BOX**2))


def test_noise_of_a_group_without_images_stays() -> None:
    sums = empty_sums()
    sums.noise[0] = sums.noise_pixels[0] = 1.0
    np.testing.assert_array_equal(new_sigma2(half_state().sigma2, sums)[1], half_state().sigma2[1])


def test_gaps_in_the_noise_are_filled() -> None:
    """Shells that a group of other pixel size leaves empty take the value of the shell before."""
    sums = empty_sums()
    sums.noise[1], sums.noise_pixels[1] = 4e-3, 1.0
    sums.noise[1, 5] = 0.0
    found = new_sigma2(half_state().sigma2, sums)[1]
    np.testing.assert_allclose(found, 2e-3)
    sums.noise_pixels[1, 9] = 0.0  # not seen at all: as before
    assert new_sigma2(half_state().sigma2, sums)[1, 9] == half_state().sigma2[1, 9]


def test_scales_have_a_weighted_mean_of_one() -> None:
    sums, size = empty_sums(), np.array([10, 30, 60])
    sums.signal_power[:] = [2.0, 4.0, 5.0]
    sums.signal_product[:] = [1.8, 4.4, 5.5]  # 0.9, 1.1, 1.1
    mean = (10 * 0.9 + 30 * 1.1 + 60 * 1.1) / 100
    np.testing.assert_allclose(new_scales(sums, size, np.ones(3)), np.array([0.9, 1.1, 1.1]) / mean)


def test_scales_are_clipped_about_the_median() -> None:
    sums, size = empty_sums(), np.array([1, 1, 1])
    sums.signal_power[:] = 1.0
    sums.signal_product[:] = [0.01, 1.0, 40.0]
    found = new_scales(sums, size, np.ones(3))
    np.testing.assert_allclose(found / found[1], [0.2, 1.0, 5.0])
    assert found.mean() == pytest.approx(1)


def test_groups_without_signal_have_scale_one() -> None:
    sums = empty_sums()
    sums.signal_power[:2], sums.signal_product[:2] = 1.0, 1.0
    np.testing.assert_allclose(new_scales(sums, np.array([5, 5, 0]), np.ones(3)), 1.0)


@pytest.fixture
def sums() -> WeightedSums:
    """Sums of 50 particles whose weights add up to 49.98."""
    s = empty_sums()
    s.totals[:] = [49.98, 2 * 49.98 * 36.0, 50 * 1.1, -1234.5, 50 * 0.7, 50]
    s.direction_weight[0, :2], s.direction_weight[1, 2] = [9.98, 10.0], 30.0
    s.class_shift[:] = [[19.98, -19.98], [60.0, 0.0]]
    s.noise[:], s.noise_pixels[:] = 4e-3, 1.0
    s.signal_power[:], s.signal_product[:] = 1.0, [0.5, 1.0, 1.5]
    return s


def test_scalars(sums: WeightedSums) -> None:
    found = update_parameters(
        half_state(), sums, np.array([20, 20, 10]), scale=True, norm=True, correlate=False
    )
    assert found.average_norm == pytest.approx(1.1)
    assert found.sigma_offset_A == pytest.approx(6.0)
    np.testing.assert_allclose(found.scalars[2:], [-1234.5, 0.7])
    assert found.direction_prior.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.direction_prior, sums.direction_weight / 49.98)
    np.testing.assert_allclose(found.class_prior, [19.98 / 49.98, 30 / 49.98])
    np.testing.assert_allclose(found.offset_centre_A, [[1, -1], [2, 0]])
    np.testing.assert_allclose(found.sigma2, 2e-3)
    np.testing.assert_allclose(found.scale, np.array([0.5, 1.0, 1.5]) / 0.9)
    np.testing.assert_array_equal(found.tau2, half_state().tau2)


def test_orientations_that_were_not_searched_leave_the_directions(sums: WeightedSums) -> None:
    """Class sizes change, the distribution of the directions within a class does not."""
    old = half_state()
    old.direction_prior[:] = np.random.default_rng(4).uniform(size=old.direction_prior.shape)
    old.direction_prior[:] /= old.direction_prior.sum()
    lone = replace(sums, direction_weight=np.array([[19.98], [30.0]]))
    found = update_parameters(old, lone, np.ones(3, int), scale=True, norm=True, correlate=False)
    np.testing.assert_allclose(found.class_prior, [19.98 / 49.98, 30 / 49.98])
    for k in range(N_CLASS):
        mine = found.direction_prior[k] / found.class_prior[k]
        np.testing.assert_allclose(mine, old.direction_prior[k] / old.class_prior[k])


def test_offsets_keep_a_smallest_spread(sums: WeightedSums) -> None:
    sums.totals[1] = 0.01
    found = update_parameters(half_state(), sums, np.ones(3, int), scale=True, norm=True, correlate=False)
    assert found.sigma_offset_A**2 == pytest.approx(2.0)


def test_corrections_can_be_off(sums: WeightedSums) -> None:
    found = update_parameters(half_state(), sums, np.ones(3, int), scale=False, norm=False, correlate=False)
    assert found.average_norm == half_state().average_norm
    np.testing.assert_array_equal(found.scale, half_state().scale)
    one_group = replace(half_state(), scale=np.array([1.0]))
    lone = replace(sums, signal_power=np.array([2.0]), signal_product=np.array([3.0]))
    found = update_parameters(one_group, lone, np.array([50]), scale=True, norm=True, correlate=False)
    np.testing.assert_array_equal(found.scale, [1.0])


def test_a_correlation_says_nothing_of_noise_and_scale(sums: WeightedSums) -> None:
    found = update_parameters(half_state(), sums, np.ones(3, int), scale=True, norm=True, correlate=True)
    np.testing.assert_array_equal(found.sigma2, half_state().sigma2)
    np.testing.assert_array_equal(found.scale, half_state().scale)
    assert found.average_norm == half_state().average_norm
    assert found.sigma_offset_A == pytest.approx(6.0)


def test_spectra_are_taken_over() -> None:
    rng = np.random.default_rng(2)
    spectra = [Spectra(*rng.uniform(size=(4, N_SHELLS))) for _ in range(N_CLASS)]
    found = with_spectra(half_state(), spectra)
    for name in ("sigma2_ref", "tau2", "data_vs_prior", "coverage"):
        for k in range(N_CLASS):
            np.testing.assert_array_equal(getattr(found, name)[k], getattr(spectra[k], name))
    np.testing.assert_array_equal(found.sigma2, half_state().sigma2)


@pytest.mark.parametrize(
    ("join_A", "resolution_A", "shell"),
    [(40.0, 20.0, 2), (40.0, 60.0, 2), (30.0, 20.0, 3), (10.0, 16.0, 5), (-1.0, 20.0, 0)],
)
def test_radius_of_the_joined_part(join_A: float, resolution_A: float, shell: int) -> None:
    """80 A across: never finer than the current resolution, rounded up to whole shells."""
    assert join_radius(SETUP, join_A, 1 / resolution_A) == 2 * shell


def test_low_resolution_part_and_back() -> None:
    radius = grid_radius(6, 2.0)
    shape = (2 * radius + 1, 2 * radius + 1, radius + 1)
    grid = np.random.default_rng(3).normal(size=(*shape, 3))
    inside = squared_radius(radius) <= 16
    part = low_resolution_part(grid, 4)
    np.testing.assert_array_equal(part, grid[inside])
    other = grid.copy()
    set_low_resolution_part(other, 4, 0.5 * part)
    np.testing.assert_array_equal(other[inside], 0.5 * grid[inside])
    np.testing.assert_array_equal(other[~inside], grid[~inside])


def test_the_prior_damps_the_map() -> None:
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
    volume = np.exp(-(x**2 + y**2 + z**2) / (2 * 2.0**2)).astype(np.float32)
    transform = transform_reference(volume, 12, 2.0)
    weight = 2.0
    grid = np.stack(
        [weight * transform.real, weight * transform.imag, np.full(transform.shape, weight)], axis=-1
    )
    plain = regularised_map(SETUP, grid, None, 1.0, 5, 1)
    # a prior that halves every element from shell 0 on
    tau2 = np.full(N_SHELLS, 1 / (8 * weight))
    half = regularised_map(SETUP, grid, Spectra(tau2, tau2, tau2, tau2), 1.0, 0, 1)
    np.testing.assert_allclose(half, 0.5 * plain, atol=1e-5 * plain.max())
    assert plain.max() == pytest.approx(volume.max(), rel=0.02)


def test_parameters_after_a_mini_batch_are_running_means() -> None:
    """0.9 of the old and 0.1 of the new; offsets by their variances, priors sum to 1, the likelihood is the new one."""
    old, new = half_state(), half_state()
    new.sigma2[:] *= 3
    new.scale[:] *= 2
    old.scalars[:] = [1.0, 6.0, -5.0, 0.2]
    new.scalars[:] = [2.0, 10.0, -7.0, 0.4]
    found = tempered(old, new, 0.9)
    np.testing.assert_allclose(found.sigma2, 1.2 * old.sigma2)
    np.testing.assert_allclose(found.scale, 1.1 * old.scale)
    np.testing.assert_allclose(found.scalars, [1.1, np.sqrt(0.9 * 36 + 0.1 * 100), -7.0, 0.4])
    assert found.direction_prior.sum() == pytest.approx(1)
    assert tempered(old, new, 0.0) is new
