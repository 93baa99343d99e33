"""Preparing images: the kernels against their twins over arrays."""

from __future__ import annotations

import numpy as np
import pytest
from mpiapp.kernels.insertion import add_sums
from mpiapp.kernels.preparation import mask_images, move_images, read_pixels, sum_shells
from scipy import fft

from mpiapp.model.fourier import shift_images
from mpiapp.model.images import shell_power
from mpiapp.model.masks import apply_soft_mask, soft_circle
from mpiapp.model.pixels import pixel_list

N, BOX = 7, 24


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(2.0, 1.0, shape).astype(np.float32)


def test_images_are_moved_and_what_enters_is_zero() -> None:
    images, gain = noise(N, BOX, BOX), np.linspace(0.5, 2, N).astype(np.float32)
    shifts = np.array([[0, 0], [3, -2], [-5, 7], [BOX, 0], [0, -BOX], [-40, 40], [23, -23]])
    out = np.full_like(images, np.nan)
    move_images(images, shifts, gain, out)
    np.testing.assert_array_equal(out, shift_images(images, shifts) * gain[:, None, None])


@pytest.mark.parametrize("radius", [5.0, 9.5, 40.0])
def test_outside_of_a_mask_is_the_mean_there(radius: float) -> None:
    images, mask = noise(N, BOX, BOX), soft_circle(BOX, radius, 3)
    out = np.empty_like(images)
    mask_images(images, mask, out)
    np.testing.assert_allclose(out, apply_soft_mask(images, mask), rtol=2e-6, atol=2e-6)


def test_elements_of_transforms_are_read() -> None:
    transforms = fft.rfft2(noise(N, BOX, BOX)).reshape(N, -1)
    pixels = pixel_list(8)
    factor = noise(len(pixels))
    out = np.empty((N, 2, len(pixels)), np.float32)
    read_pixels(transforms, pixels.half_index(BOX), factor, out)
    expected = transforms[:, pixels.half_index(BOX)] * factor
    np.testing.assert_allclose(out[:, 0] + 1j * out[:, 1], expected, rtol=1e-6)


def test_power_is_summed_by_shell() -> None:
    images = noise(N, BOX, BOX)
    pixels = pixel_list(BOX // 2, whole_shells=True, box=BOX)
    out = np.empty((N, BOX // 2 + 1))
    transforms = fft.rfft2(images).reshape(N, -1)
    sum_shells(transforms, pixels.half_index(BOX), pixels.shell_start, 1 / BOX**4, out)
    np.testing.assert_allclose(out, shell_power(images), rtol=1e-12)


def test_accumulators_of_threads_are_added() -> None:
    first, second = noise(50, 4), noise(50, 4)[::-1].copy()
    first[::3], second[::2] = 0, 0
    total = np.zeros((50, 3))
    for values in (first, second):
        add_sums(values, total)
    np.testing.assert_array_equal(total, first[:, :3].astype(float) + second[:, :3])
