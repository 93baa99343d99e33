"""The radius-sorted half plane against counts and sums made pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpiapp.model.pixels import (
    pixel_list,
    put_pixels,
    round_half_away,
    shell_pixels,
    shell_sums,
    take_pixels,
)


def test_rounding_takes_halves_away_from_zero() -> None:
    assert round_half_away([0.5, 1.5, 2.5, -0.5, -2.5, 2.4999, 0.0]).tolist() == [1, 2, 3, -1, -3, 2, 0]


@pytest.mark.parametrize("radius", [0, 1, 2, 7, 31])
def test_list_is_every_half_plane_pixel_once_in_order(radius: int) -> None:
    pixels = pixel_list(radius)
    expected = sorted(
        (x * x + y * y, x, y)
        for x in range(radius + 1)
        for y in range(-radius, radius + 1)
        if x * x + y * y <= radius * radius and (x > 0 or y >= 0)
    )
    assert list(zip(pixels.r2.tolist(), pixels.kx.tolist(), pixels.ky.tolist(), strict=True)) == expected
    assert (pixels.kx[0], pixels.ky[0]) == (0, 0)
    assert pixels.shell.tolist() == [int(math.sqrt(r2) + 0.5) for r2, _, _ in expected]
    assert pixels.kx.dtype == pixels.ky.dtype == pixels.shell.dtype == np.int32


def test_counts_of_the_design() -> None:
    assert len(pixel_list(31)) == 1501
    assert len(pixel_list(55)) == 4739
    assert len(pixel_list(80)) == 10041
    assert len(pixel_list(31, whole_shells=True)) == 1563


def test_smaller_lists_are_prefixes() -> None:
    large = pixel_list(20)
    for radius in (0, 1, 5, 13, 20):
        small = pixel_list(radius)
        n = large.prefix(radius)
        assert n == len(small)
        assert np.array_equal(large.kx[:n], small.kx)
        assert np.array_equal(large.ky[:n], small.ky)


def test_arrays_are_shared_and_read_only() -> None:
    assert pixel_list(9) is pixel_list(9)
    with pytest.raises(ValueError):
        pixel_list(9).kx[0] = 1


@pytest.mark.parametrize("box", [4, 6, 32, 50])
def test_shell_pixels_counts_the_stored_transform(box: int) -> None:
    counts = [0] * (box // 2 + 1)
    for row in range(box):
        ky = row if row <= box // 2 else row - box
        for kx in range(box // 2 + 1):
            shell = int(math.sqrt(kx * kx + ky * ky) + 0.5)
            if shell <= box // 2 and not (kx == 0 and ky < 0):
                counts[shell] += 1
    assert shell_pixels(box).tolist() == counts


def test_shell_sums_of_prefixes(rng: np.random.Generator) -> None:
    pixels = pixel_list(12)
    values = rng.normal(size=(3, len(pixels)))
    expected = np.array([[row[pixels.shell == s].sum() for s in range(13)] for row in values])
    np.testing.assert_allclose(shell_sums(values, pixels), expected, rtol=1e-12, atol=1e-12)
    n = pixels.prefix(6.3)
    part = np.array([row[:n][pixels.shell[:n] == 6].sum() for row in values])
    sums = shell_sums(values[:, :n], pixels)
    np.testing.assert_allclose(sums[:, 6], part, rtol=1e-12)
    assert np.all(sums[:, 7:] == 0)
    assert np.all(shell_sums(values[:, :0], pixels) == 0)


def test_take_and_put_keep_a_real_image(rng: np.random.Generator) -> None:
    box = 16
    images = rng.normal(size=(3, box, box))
    transforms = np.fft.rfft2(images)
    pixels = pixel_list(box // 2)
    values = take_pixels(transforms, pixels)
    for n in (0, 5, 40):
        kx, ky = pixels.kx[n], pixels.ky[n]
        direct = [
            sum(
                image[y, x] * np.exp(-2j * np.pi * (kx * x + ky * y) / box)
                for y in range(box)
                for x in range(box)
            )
            for image in images
        ]
        np.testing.assert_allclose(values[:, n], direct, atol=1e-10)
    back = put_pixels(values, pixels, box)
    ky, kx = np.meshgrid(np.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1), indexing="ij")
    disc = kx**2 + ky**2 <= (box / 2) ** 2
    np.testing.assert_allclose(back[:, disc], transforms[:, disc], atol=1e-12)
    assert np.all(back[:, ~disc] == 0)


def test_a_box_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="box 16"):
        pixel_list(9).half_index(16)
    with pytest.raises(ValueError, match="radius"):
        pixel_list(-1)
