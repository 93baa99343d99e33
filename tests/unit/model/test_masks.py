"""Soft masks against their formula pixel by pixel, fills against sums, noise against its spectrum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpiapp.errors import InputError
from mpiapp.model import masks
from mpiapp.model.fourier import forward_2d, power_spectrum
from mpiapp.model.pixels import shell_pixels


def test_circle_follows_the_raised_cosine() -> None:
    mask = masks.soft_circle(32, 9.5, 4.0)
    assert mask.dtype == np.float32
    for y in range(32):
        for x in range(32):
            r = math.hypot(x - 16, y - 16)
            if r < 9.5:
                expected = 1.0
            elif r > 13.5:
                expected = 0.0
            else:
                expected = 0.5 - 0.5 * math.cos(math.pi * (13.5 - r) / 4.0)
            assert mask[y, x] == pytest.approx(expected, abs=1e-6)


def test_sphere_holds_the_circle_as_its_section() -> None:
    sphere = masks.soft_sphere(20, 6.0, 3.0)
    assert sphere.shape == (20, 20, 20)
    circle = masks.soft_circle(20, 6.0, 3.0)
    for section in (sphere[10], sphere[:, 10], sphere[:, :, 10]):
        np.testing.assert_allclose(section, circle, atol=1e-6)
    sharp = masks.soft_circle(8, 2.0, 0.0)
    assert set(np.unique(sharp)) == {0.0, 1.0}
    assert sharp.sum() == 13


def test_fill_is_the_mean_of_the_solvent(rng: np.random.Generator) -> None:
    images = (rng.normal(size=(3, 24, 24)) + np.array([5.0, -1.0, 0.0])[:, None, None]).astype(np.float32)
    mask = masks.soft_circle(24, 6.0, 5.0)
    out = masks.apply_soft_mask(images, mask)
    assert out.dtype == np.float32
    for image, found in zip(images.astype(np.float64), out, strict=True):
        outside = 1.0 - mask.astype(np.float64)
        mean = (outside * image).sum() / outside.sum()
        np.testing.assert_allclose(found, mask * image + outside * mean, atol=1e-5)


def test_fill_of_a_map_and_of_given_noise(rng: np.random.Generator) -> None:
    volume = rng.normal(size=(12, 12, 12)).astype(np.float32)
    mask = masks.soft_sphere(12, 3.0, 2.0)
    out = masks.apply_soft_mask(volume, mask)
    assert out[6, 6, 6] == pytest.approx(volume[6, 6, 6], abs=1e-6)
    assert np.ptp(out[mask == 0]) < 1e-6
    fill = rng.normal(size=volume.shape).astype(np.float32)
    mixed = masks.apply_soft_mask(volume, mask, fill)
    np.testing.assert_allclose(mixed, mask * volume + (1 - mask) * fill, atol=1e-6)


def test_a_mask_that_covers_all_leaves_the_image(rng: np.random.Generator) -> None:
    images = rng.normal(size=(2, 8, 8)).astype(np.float32)
    assert np.array_equal(masks.apply_soft_mask(images, np.ones((8, 8), np.float32)), images)


def test_noise_is_of_the_particle_and_has_the_spectrum() -> None:
    box = 32
    sigma2 = 1e-4 / (1.0 + np.arange(17) / 4.0)
    many = masks.mask_noise(7, np.arange(100), sigma2, box)
    assert many.dtype == np.float32
    some = masks.mask_noise(7, [41, 3], sigma2, box)
    np.testing.assert_allclose(some, many[[41, 3]], atol=1e-7)
    assert not np.allclose(masks.mask_noise(8, [41], sigma2, box), some[:1])
    found = 0.5 * power_spectrum(forward_2d(many)).mean(axis=0)
    error = sigma2 / np.sqrt(100 * shell_pixels(box))
    assert np.all(np.abs(found - sigma2)[1:] < 4.5 * error[1:])


def test_solvent_mask_is_checked() -> None:
    good = masks.soft_sphere(8, 2.0, 1.0)
    masks.check_mask(good, (8, 8, 8))
    with pytest.raises(InputError, match="shape"):
        masks.check_mask(good, (6, 6, 6))
    with pytest.raises(InputError, match=r"solvent.mrc has values from .* to 1.2"):
        masks.check_mask(1.2 * good, (8, 8, 8), "solvent.mrc")
    with pytest.raises(InputError, match="nan"):
        masks.check_mask(np.full((8, 8, 8), np.nan), (8, 8, 8))
