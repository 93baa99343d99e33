"""Noise spectra: recovered from synthetic images, mapped between groups, repaired."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model import noise
from mpiapp.model.fourier import forward_2d, power_spectrum
from mpiapp.model.pixels import round_half_away, shell_pixels


def test_known_noise_is_recovered_under_a_common_signal(rng: np.random.Generator) -> None:
    """Two groups with their own noise and the same image in every particle; the third group is empty."""
    box, n = 32, 300
    shells = np.arange(17)
    truth = np.stack([2e-4 / (1 + shells / 5.0), np.full(17, 1e-4)])
    y, x = np.mgrid[-16:16, -16:16]
    signal = 0.5 * np.exp(-(x**2 + y**2) / 18.0).astype(np.float32)
    mean_power = np.zeros((3, 17))
    total = np.zeros((box, box))
    for group in range(2):
        images = noise.colour_noise(rng.standard_normal((n, box, box)), truth[group]) + signal
        total += images.sum(axis=0)
        mean_power[group] = power_spectrum(forward_2d(images), duplicates=True).mean(axis=0)
    average_power = power_spectrum(forward_2d(total / (2 * n)), duplicates=True)
    found = noise.initial_sigma2(mean_power, average_power, np.array([n, n, 0]))
    assert np.all(found[2] == 0)
    # the average image keeps 1/600 of the noise; signal and noise cross terms blur the low shells
    error = truth / np.sqrt(n * shell_pixels(box)) + truth.mean(axis=0) / 600
    power_of_signal = power_spectrum(forward_2d(signal))
    error += np.sqrt(power_of_signal * truth / (n * shell_pixels(box)))
    assert np.all(np.abs(found[:2] - truth)[:, 1:] < 5 * error[:, 1:])


def test_negative_estimates_take_a_neighbour() -> None:
    assert noise.replace_negative(np.array([-1.0, -2.0, 3.0, 4.0, 0.0, -1.0, 5.0])).tolist() == [
        3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 5.0,
    ]  # fmt: skip
    assert noise.replace_negative(np.array([[-1.0, -1.0], [2.0, -1.0]])).tolist() == [[0.0, 0.0], [2.0, 2.0]]
    repaired = noise.initial_sigma2(np.array([[4.0, 1.0, 6.0]]), np.array([2.0, 3.0, 2.0]), np.array([5]))
    assert repaired.tolist() == [[1.0, 1.0, 2.0]]


def test_gaps_take_the_shell_before() -> None:
    assert noise.fill_gaps(np.array([0.0, 2.0, 0.0, 1e-16, 3.0])).tolist() == [0.0, 2.0, 2.0, 2.0, 3.0]
    assert noise.fill_gaps(np.array([1.0, 0.0])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("group", "ratio"), [((64, 3.0), 1.0), ((128, 1.5), 1.0), ((96, 3.0), 1.5), ((50, 2.4), 0.625)]
)
def test_shells_of_groups(group: tuple[int, float], ratio: float) -> None:
    m = noise.shell_ratio(*group, 64, 3.0)
    assert m == pytest.approx(ratio)
    shells = np.arange(33)
    image = round_half_away(m * shells)
    # the same spatial frequency, to half a shell of the image
    frequency = shells / (64 * 3.0)
    assert np.all(np.abs(image / (group[0] * group[1]) - frequency) <= 0.5001 / (group[0] * group[1]))
    assert np.all(np.abs(noise.to_model_shell(image, m) - shells) <= max(1, 0.5 / ratio))


def test_shell_mapping_rounds_away_from_zero() -> None:
    assert noise.to_model_shell(np.array([1, 3, 5]), 2.0).tolist() == [1, 2, 3]


def test_spectrum_of_a_finer_and_a_coarser_group() -> None:
    spectrum = np.array([1.0, 2.0, 3.0, 4.0])
    assert noise.spectrum_to_group(spectrum, 8, 2.0).tolist() == [1, 2, 2, 3, 3, 4, 4, 0]
    assert noise.spectrum_to_group(spectrum, 3, 0.5, beyond=9.0).tolist() == [1, 3, 9]


def test_sums_of_a_group_arrive_once() -> None:
    sums = np.arange(1.0, 9.0)
    onto = noise.sums_to_model(sums, 5, 2.0)
    assert onto.tolist() == [1.0, 2.0 + 3.0, 4.0 + 5.0, 6.0 + 7.0, 8.0]
    assert noise.sums_to_model(sums, 2, 2.0).sum() == 6.0
    assert noise.sums_to_model(sums, 20, 0.5).sum() == sums.sum()


def test_streams_depend_on_seed_purpose_and_particle() -> None:
    def draw(seed: int, purpose: str, particle: int) -> float:
        return float(noise.particle_generator(seed, purpose, particle).standard_normal())

    assert draw(1, "mask noise", 5) == draw(1, "mask noise", 5)
    values = {draw(*key) for key in ((1, "a", 5), (2, "a", 5), (1, "b", 5), (1, "a", 6), (-1, "a", 5))}
    assert len(values) == 5


def test_colouring_keeps_real_images_and_corners_empty(rng: np.random.Generator) -> None:
    out = noise.colour_noise(rng.standard_normal((2, 16, 16)), np.ones(9))
    transform = np.fft.fft2(out)
    k = np.fft.fftfreq(16, 1 / 16)
    corner = np.hypot(k[:, None], k) > 8.5
    assert np.abs(transform[:, corner]).max() < 1e-3
    assert np.abs(transform[:, ~corner]).min() > 1e-3
