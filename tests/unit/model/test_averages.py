"""Class averages: their transforms, and averages from sums, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mpiapp.model.averages import (
    average_from_sums,
    average_spectra,
    average_spectrum,
    centre_of_mass,
    hermitian_sum_planes,
    insert_planes,
    lowpass_average,
    plain_average,
    transform_average,
)
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius
from mpiapp.model.rotations import rotation_z
from mpiapp.model.scores import transform_at

BOX, R_MAX, PADDING, N_SHELLS = 32, 12, 2.0, 17


def blobs(turn_deg: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """Image of a few Gaussians without symmetry, turned: a point x of it lies at Rz(turn) x + shift."""
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    image = np.zeros((BOX, BOX))
    turn = rotation_z(turn_deg)[:2, :2]
    for centre, height in (((3.0, 1.0), 1.0), ((-4.0, 2.0), 0.7), ((0.5, -5.0), 0.5)):
        cx, cy = turn @ centre + np.asarray(shift)
        image += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.5**2))
    return image


def test_transform_is_the_fourier_transform() -> None:
    pixels = pixel_list(R_MAX)
    transform = transform_average(blobs(), R_MAX)
    assert transform.shape == (2 * R_MAX + 3, R_MAX + 2)
    found = transform[pixels.ky + R_MAX + 1, pixels.kx]
    expected = transform_at(blobs(), np.stack([pixels.kx, pixels.ky]).astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    inside = np.zeros(transform.shape, bool)
    inside[pixels.ky + R_MAX + 1, pixels.kx] = inside[R_MAX + 1 - pixels.ky, pixels.kx] = True
    assert not transform[~inside & (np.arange(R_MAX + 2) > 0)].any()


def test_transform_up_to_nyquist() -> None:
    transform = transform_average(blobs(), BOX // 2)
    assert transform.shape == (BOX + 3, BOX // 2 + 2)
    assert np.isfinite(transform).all()


def test_power_of_white_noise() -> None:
    """Variance v a pixel is v / (2 N^2) per component (refinement.md 1.5)."""
    rng = np.random.default_rng(1)
    images = rng.normal(scale=3.0, size=(300, BOX, BOX))
    power = np.mean([average_spectrum(transform_average(i, R_MAX), N_SHELLS) for i in images], axis=0)
    np.testing.assert_allclose(power[1 : R_MAX + 1], 9.0 / (2 * BOX**2), rtol=0.12)
    assert not power[R_MAX + 1 :].any()


def sums_of(n: int, weight: float = 2.0) -> NDArray[np.float64]:
    """Sums of exact images at n in-plane angles, with equal weights."""
    pixels = pixel_list(R_MAX)
    angles = 360.0 * np.arange(n) / n + 3.0
    k = np.stack([pixels.kx, pixels.ky]).astype(float)
    # what is turned by psi is seen at A x
    values = np.stack([transform_at(blobs(a), k) for a in angles])
    sums = insert_planes(
        weight * values,
        np.full(values.shape, weight),
        grid_radius(R_MAX, PADDING),
        PADDING,
        rotation_z(angles),
        *k,
    )
    hermitian_sum_planes(sums)
    return sums


@pytest.mark.parametrize("plain", [True, False])
def test_average_of_turned_images_is_the_image(plain: bool) -> None:
    sums = sums_of(90)
    if plain:
        found = plain_average(sums, BOX, PADDING)
    else:
        found = average_from_sums(sums, np.full(N_SHELLS, 1e6), BOX, PADDING)
    expected = lowpass_average(blobs(), 1.0, BOX / (R_MAX + 2))
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    inside = np.hypot(x, y) < 0.4 * BOX
    assert np.corrcoef(found[inside], expected[inside])[0, 1] > 0.995
    assert found[inside].std() == pytest.approx(expected[inside].std(), rel=0.03)


def test_prior_and_spectra() -> None:
    """Weight W everywhere: the gain is W / (W + 1 / (p^2 T tau2)) and data against prior W p^2 T tau2."""
    radius = grid_radius(R_MAX, PADDING)
    sums = np.zeros((2 * radius + 1, radius + 1, 3))
    sums[..., 0] = sums[..., 2] = 5.0
    tau2 = np.full(N_SHELLS, 0.03)
    tau2[9] = 0.0
    spectra = average_spectra(sums, tau2, PADDING, tau2_fudge=2.0)
    ratio = 5.0 * PADDING**2 * 2.0 * 0.03
    shells = np.setdiff1d(np.arange(R_MAX + 1), [9])
    np.testing.assert_allclose(spectra.data_vs_prior[shells], ratio)
    np.testing.assert_allclose(spectra.sigma2_ref[: R_MAX + 1], 1 / (5.0 * PADDING**2))
    np.testing.assert_allclose(spectra.coverage[shells], 1.0)
    assert not spectra.data_vs_prior[R_MAX + 1 :].any()
    flat = np.full(N_SHELLS, 0.03)
    half = average_from_sums(sums, flat, BOX, PADDING, tau2_fudge=2.0, minres_map=0)
    whole = average_from_sums(sums, np.full(N_SHELLS, 1e9), BOX, PADDING, minres_map=0)
    np.testing.assert_allclose(half, whole * ratio / (ratio + 1), atol=1e-5 * whole.max())


def test_both_copies_of_the_first_column_are_added() -> None:
    rng = np.random.default_rng(2)
    sums = rng.normal(size=(3, 7, 4, 3))
    before = sums.copy()
    hermitian_sum_planes(sums)
    np.testing.assert_array_equal(sums[:, :, 1:], before[:, :, 1:])
    np.testing.assert_array_equal(sums[:, 3, 0], before[:, 3, 0])
    np.testing.assert_allclose(sums[1, 1, 0], before[1, 1, 0] + before[1, 5, 0] * [1, -1, 1])
    np.testing.assert_allclose(sums[1, 5, 0], before[1, 5, 0] + before[1, 1, 0] * [1, -1, 1])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.0)])
def test_centre_of_mass(shift: tuple[float, float]) -> None:
    own = np.array([[3.0, 1.0], [-4.0, 2.0], [0.5, -5.0]])
    expected = np.average(own, axis=0, weights=[1.0, 0.7, 0.5]) + shift
    np.testing.assert_allclose(centre_of_mass(blobs(0.0, shift)), expected, atol=0.01)
    volume = np.zeros((8, 8, 8))
    volume[5, 4, 2] = 1.0  # z, y, x
    np.testing.assert_allclose(centre_of_mass(volume), [-2, 0, 1])
    np.testing.assert_array_equal(centre_of_mass(-volume), [0, 0, 0])
