"""Half maps of nothing but noise: the corrected FSC tells no resolution beyond that of the mask."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.fourier import forward_2d, forward_3d, half_radius
from mpiapp.model.fsc import first_shell_below, solvent_corrected_fsc
from mpiapp.model.mask_creation import extend, soft_edge
from mpiapp.model.masks import soft_sphere
from mpiapp.model.noise_substitution import randomise_images, true_fsc

BOX, SEEDS = 48, 20


def tight_mask() -> np.ndarray:
    """A ragged mask with a soft edge of two pixels only."""
    rng = np.random.default_rng(0)
    blobs = np.zeros((BOX,) * 3, bool)
    blobs[tuple(rng.integers(BOX // 3, 2 * BOX // 3, (3, 25)))] = True
    return soft_edge(extend(blobs, 4.0), 2.0)


def mask_shell(mask: np.ndarray) -> int:
    """Shell within which the transform of a mask holds all but a hundredth of its power."""
    power = np.abs(forward_3d(mask.astype(np.float64), centre=False)) ** 2
    shell = (half_radius(BOX, 3) + 0.5).astype(int).ravel()
    total = np.bincount(shell, power.ravel())
    return int(np.searchsorted(np.cumsum(total) / total.sum(), 0.99))


@pytest.mark.parametrize("name", ["tight", "loose"])
def test_at_most_one_seed_in_twenty_tells_a_resolution(name: str) -> None:
    mask = tight_mask() if name == "tight" else soft_sphere(BOX, 0.35 * BOX, 6)
    beyond = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng([3, seed])
        halves = [rng.standard_normal((BOX,) * 3, dtype=np.float32) for _ in range(2)]
        curve = solvent_corrected_fsc(*halves, mask, seed, clip=False).corrected
        beyond += first_shell_below(curve, 0.143) - 1 > mask_shell(mask)
    print(f"{name}: {beyond} of {SEEDS} beyond shell {mask_shell(mask)}")
    assert beyond <= 1


def test_a_tight_mask_alone_makes_signal_look_finer_than_it_is() -> None:
    """What the correction is for: shared detail to shell 6 leaks within the mask, and is taken out again."""
    rng = np.random.default_rng(8)
    low = half_radius(BOX, 3) <= 6
    common = np.fft.irfftn(np.fft.rfftn(rng.normal(size=(BOX,) * 3)) * low) * 20
    halves = [(common + rng.normal(size=common.shape)).astype(np.float32) for _ in range(2)]
    found = solvent_corrected_fsc(*halves, tight_mask(), 1, clip=False)
    after = slice(9, 13)
    assert found.masked[after].mean() > 0.3
    assert abs(found.corrected[after].mean()) < 0.15


def test_images_keep_their_amplitudes_and_lose_their_phases(rng: np.random.Generator) -> None:
    images = rng.normal(size=(6, 32, 32)).astype(np.float32)
    ids = np.arange(6)
    changed = randomise_images(images, 8.0, 5, ids)
    before, after = forward_2d(images), forward_2d(changed)
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-6)
    kept = half_radius(32, 2) < 8
    np.testing.assert_allclose(after[:, kept], before[:, kept], atol=1e-6)
    lost = (before * after.conj()).real[:, ~kept].sum() / (np.abs(before) ** 2)[:, ~kept].sum()
    assert abs(lost) < 0.1
    np.testing.assert_array_equal(randomise_images(images[3:4], 8.0, 5, ids[3:4])[0], changed[3])


def test_true_fsc() -> None:
    curve = true_fsc(np.array([1.0, 0.9, 0.8, 0.6, 0.5]), np.array([1.0, 0.9, 0.7, 0.2, 0.0]), 1)
    np.testing.assert_allclose(curve, [1, 0.9, 0.8, 0.5, 0.5])
