"""Sharpening against closed forms: a Gaussian has a known B-factor, filters are what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.fourier import forward_3d, half_radius, inverse_3d
from mpiapp.model.guinier import EMPTY, fit_line, log_amplitudes, squared_frequencies
from mpiapp.model.radial import amplitude_sums, filter_radially, radii, shell_of_squares
from mpiapp.model.sharpen import Mtf, Sharpening, fsc_weight, make_filter, mtf_weight

BOX, PIXEL = 32, 2.0


def random_transform(rng: np.random.Generator, bfactor: float = 0.0) -> np.ndarray:
    """Transform of a real map whose amplitudes are exp(-B/4 s^2) with random phases."""
    noise = forward_3d(rng.standard_normal((BOX,) * 3), centre=False)
    s = half_radius(BOX, 3).astype(float) / (BOX * PIXEL)
    return noise / np.abs(noise) * np.exp(-bfactor / 4 * s**2)


def test_radial_filter_is_a_function_of_the_radius(rng: np.random.Generator) -> None:
    transform = random_transform(rng)
    expected = transform * np.cos(half_radius(BOX, 3).astype(float))
    filter_radially(transform, np.cos(radii(BOX)))
    np.testing.assert_allclose(transform, expected, atol=1e-5)


def test_amplitudes_of_shells(rng: np.random.Generator) -> None:
    transform = random_transform(rng) * rng.uniform(1, 2, size=(BOX, BOX, BOX // 2 + 1))
    weights = np.exp(-0.01 * radii(BOX) ** 2)
    found = log_amplitudes(*amplitude_sums(transform), weights, BOX)
    shell = np.floor(half_radius(BOX, 3).astype(float) + 0.5)
    filtered = np.abs(transform) * np.exp(-0.01 * half_radius(BOX, 3).astype(float) ** 2)
    expected = [np.log(filtered[shell == s].mean()) for s in range(BOX // 2 + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert log_amplitudes(*amplitude_sums(0 * transform), weights, BOX)[3] == EMPTY
    assert shell_of_squares(BOX)[[0, 6, 7, 256]].tolist() == [0, 2, 3, 16]


@pytest.mark.parametrize("bfactor", [80.0, 250.0])
def test_fit_finds_the_decay_and_sharpening_undoes_it(rng: np.random.Generator, bfactor: float) -> None:
    transform = random_transform(rng, bfactor)
    made = make_filter(transform, PIXEL, Sharpening(fit_from_A=20.0))
    assert made.fit is not None
    # means over shells of finite width: the slope is exact to their curvature
    assert made.bfactor_A2 == pytest.approx(-bfactor, rel=0.01)
    assert made.fit.correlation > 0.999
    filter_radially(transform, made.weights)
    amplitude = np.abs(transform)
    inside = half_radius(BOX, 3) <= BOX // 2
    np.testing.assert_allclose(amplitude[inside], 1.0, rtol=0.02)
    assert np.all(amplitude[~inside] == 0)


def test_fit_of_an_exact_line() -> None:
    s2 = squared_frequencies(64, 1.5)
    y = 3.0 - 40.0 * s2
    y[:5] = 100.0  # beyond the lowest resolution
    y[30:] = EMPTY
    fit = fit_line(s2, y, 64 * 1.5 / 5, 0.0)
    assert (fit.slope_A2, fit.intercept, fit.correlation) == pytest.approx((-40.0, 3.0, 1.0))
    assert fit.bfactor_A2 == pytest.approx(-160.0)
    with pytest.raises(ValueError, match="1 shells"):
        fit_line(s2, y, 64 * 1.5 / 28.9, 0.0)


def test_weights_of_fsc_and_detector() -> None:
    fsc = np.array([1.0, 0.5, 0.2, 0.00005, 0.9])
    np.testing.assert_allclose(fsc_weight(fsc), [1, np.sqrt(1 / 1.5), np.sqrt(0.4 / 1.2), 0, 0])
    mtf = Mtf(np.array([0.0, 0.1, 0.2]), np.array([1.0, 0.8, 0.4]))
    np.testing.assert_allclose(mtf_weight(mtf, np.array([0.05, 0.15, 0.5])), [0.9, 0.6, 0.4])


def test_steps_multiply(rng: np.random.Generator) -> None:
    """MTF, FSC, given B-factor and low-pass, each recomputed on the whole grid."""
    transform = random_transform(rng)
    fsc = np.linspace(1, 0.3, BOX // 2 + 1)
    mtf = Mtf(np.array([0.0, 0.25]), np.array([1.0, 0.5]))
    steps = Sharpening(mtf, fsc, -120.0, low_pass_A=6.0, edge=4.0)
    made = make_filter(transform, PIXEL, steps)
    assert list(made.guinier) == ["original", "mtf", "weighted", "sharpened"]
    r = half_radius(BOX, 3).astype(float)
    s = r / (BOX * PIXEL)
    shell = np.minimum(np.floor(r + 0.5).astype(int), BOX // 2)
    expected = np.sqrt(2 * fsc / (1 + fsc))[shell] * np.exp(30 * s**2) / (1 - 2 * s)
    cutoff = 11  # the shell nearest to 6 A
    expected *= 0.5 + 0.5 * np.cos(np.pi * np.clip((r - cutoff + 2) / 4, 0, 1))
    expected[(r >= BOX // 2)] = 0
    found = transform.copy()
    filter_radially(found, made.weights)
    np.testing.assert_allclose(found, transform * expected, atol=2e-5)
    assert np.isfinite(inverse_3d(found, centre=False)).all()
