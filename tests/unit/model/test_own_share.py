"""What an image gains by its own share of a reference, against direct simulation."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.own_share import kept_by_search, own_gain, own_log_weight


def test_the_gain_is_that_of_images_of_noise() -> None:
    """References made of noise: the images in them fit better than others, by what the formula says."""
    rng = np.random.default_rng(1)
    n_images, n_draws, tau2 = 12, 400, 0.2
    shells = np.repeat(np.arange(1, 6), np.round(np.pi * np.arange(1, 6)).astype(int))  # half plane, complex
    gain = []
    for _ in range(n_draws):
        x = rng.normal(size=(2 * n_images, shells.size, 2)) @ np.array([1, 1j])  # variance 1 per component
        reference = x[:n_images].sum(0) / (n_images + 1 / tau2)
        log_likelihood = -0.5 * (np.abs(x - reference) ** 2).sum(1)
        without = -0.5 * (np.abs(x) ** 2).sum(1)
        better = log_likelihood - without
        gain.append(better[:n_images].mean() - better[n_images:].mean())
    data_vs_prior = np.full((1, 6), n_images * tau2)
    expected = own_gain(
        data_vs_prior, np.array([n_images]), np.ones(6), dimensions=2, solvent_share=1.0, order=1
    )
    assert np.mean(gain) == pytest.approx(expected[0], rel=0.05)


def test_gain_of_maps() -> None:
    """Parameters of a map grow as the square of the shell; symmetry and the solvent mask leave fewer of them."""
    data_vs_prior = np.array([[9.0, 9.0, 1.0], [9.0, 9.0, 0.0]])
    images = np.array([10.0, 5.0])

    def gain(kept: list[float], share: float = 1.0, order: int = 1) -> np.ndarray:
        return own_gain(data_vs_prior, images, np.array(kept), dimensions=3, solvent_share=share, order=order)

    both = 4 * np.pi * np.array([(0.9 + 4 * 0.5) / 10, 0.9 / 5])
    np.testing.assert_allclose(gain([1, 1, 1]), both)
    np.testing.assert_allclose(gain([1, 1, 1], share=0.5, order=4), both / 8)
    np.testing.assert_allclose(gain([1, 1, 0]), 4 * np.pi * 0.9 / images)
    assert not own_gain(
        data_vs_prior, np.zeros(2), np.ones(3), dimensions=3, solvent_share=1.0, order=1
    ).any()


def test_what_a_turn_and_a_shift_leave() -> None:
    """Mean of exp(2 pi i k d / N) over the points of a sphere that is turned and shifted by d."""
    rng = np.random.default_rng(2)
    box, radius, turn_deg, shift_px = 64, 20.0, 3.5, 0.4
    points = rng.uniform(-1, 1, (40000, 3))
    points = radius * points[(points**2).sum(1) < 1]
    axis = rng.normal(size=points.shape)
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    moved = np.deg2rad(turn_deg) * np.cross(axis, points)[:, 0] + shift_px * rng.normal(size=len(points))
    shells = np.arange(13)
    found = np.exp(2j * np.pi * shells[:, None] * moved / box).mean(1).real
    expected = kept_by_search(13, box, radius, turn_deg, shift_px)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert expected[12] < 0.8


def test_weight_is_taken_from_the_class_of_an_image() -> None:
    weight = own_log_weight(np.array([3.0, 5.0]), np.array([2.0, 1.0]), np.array([1.0, 0.5]))
    np.testing.assert_allclose(weight, [[0, -5], [-1.5, 0]])
    assert own_log_weight(np.zeros(2), np.ones(2), np.ones(2)) is None
    assert own_log_weight(np.zeros(0), np.ones(2), np.ones(2)) is None
