"""Random phases: uniform, independent of each other and of the stream beside, with the symmetry of a real map."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model import arrays
from mpiapp.model.random_phases import randomise_transform

BOX = 32


def turned(seed: int, from_shell: float = 0.0) -> np.ndarray:
    """Unit amplitudes with random phases."""
    ones = np.ones((BOX, BOX, BOX // 2 + 1), np.complex64)
    return randomise_transform(ones, from_shell, np.random.default_rng(seed))


def far_from_zero(values: np.ndarray) -> float:
    """Mean of unit vectors in standard deviations of that of independent uniform ones."""
    return float(np.abs(values.mean()) * np.sqrt(values.size))


def test_phases_are_uniform_and_independent() -> None:
    a, b = turned(1)[:, :, 1:-1].astype(complex), turned(2)[:, :, 1:-1].astype(complex)
    for values in (a, a**2, a**3, a * b.conj(), a * b):
        assert far_from_zero(values) < 4
    for axis in range(3):
        for step in (1, 2, 5):
            assert far_from_zero(a * np.roll(a, step, axis).conj()) < 4
            assert far_from_zero(a * np.roll(a, step, axis)) < 4
    counts = np.histogram(np.angle(a), bins=64)[0]
    spread = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert 20 < spread < 120  # chi squared of 63 degrees of freedom


def test_a_real_map_has_all_of_the_power() -> None:
    """What is stored twice, on the planes k_x = 0 and N/2, agrees; nothing is lost on the way through real space."""
    transform = turned(3)
    again = np.fft.rfftn(np.fft.irfftn(transform, s=(BOX,) * 3, axes=(0, 1, 2)))
    np.testing.assert_allclose(again, transform, atol=2e-6)


def test_low_shells_stay_and_threads_do_not_matter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = rng.normal(size=(BOX,) * 3)
    transform = np.fft.rfftn(volume)
    found = randomise_transform(transform, 7, np.random.default_rng(5))
    k = np.fft.fftfreq(BOX, 1 / BOX)
    low = k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(BOX // 2 + 1) ** 2 < 49
    np.testing.assert_array_equal(found[low], transform[low])
    assert (found[~low] != transform[~low]).mean() > 0.999
    np.testing.assert_allclose(np.abs(found), np.abs(transform), rtol=1e-6)
    monkeypatch.setattr(arrays, "SLAB", 5)
    several = randomise_transform(transform, 7, np.random.default_rng(5), workers=2)
    np.testing.assert_array_equal(several, found)
