"""Normalisation, centring, layout and shifts against direct sums, and resampling against RELION."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mpiapp.model import fourier
from mpiapp.model.pixels import pixel_list, shell_pixels, take_pixels


def direct_transform(image: np.ndarray, kx: int, ky: int) -> complex:
    """Sum over pixels with the origin on element L/2, divided by their number."""
    length = image.shape[0]
    axis = np.arange(length) - length // 2
    wave = np.exp(-2j * np.pi * (ky * axis[:, None] + kx * axis[None, :]) / length)
    return complex((image * wave).sum() / length**2)


def band_limited(rng: np.random.Generator, box: int, radius: int) -> np.ndarray:
    """Smooth random map whose transform vanishes beyond a radius."""
    spectrum = np.fft.rfftn(rng.normal(size=(box,) * 3))
    k = np.fft.fftfreq(box, 1 / box)
    r2 = k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(box // 2 + 1) ** 2
    return np.fft.irfftn(np.where(r2 <= radius**2, spectrum, 0)).astype(np.float32)


def test_images_transform_as_the_direct_sum(rng: np.random.Generator) -> None:
    images = rng.normal(size=(2, 12, 12)).astype(np.float32)
    transforms = fourier.forward_2d(images)
    assert transforms.dtype == np.complex64
    assert transforms.shape == (2, 12, 7)
    for kx, ky in ((0, 0), (1, 0), (3, 5), (2, -4), (6, 6), (0, -1)):
        expected = [direct_transform(image, kx, ky) for image in images]
        np.testing.assert_allclose(transforms[:, ky % 12, kx], expected, atol=1e-6)
    before = transforms.copy()
    back = fourier.inverse_2d(transforms)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, images, atol=1e-5)
    assert np.array_equal(before, transforms)


def test_a_centred_point_has_a_flat_transform() -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    volume[4, 4, 4] = 512.0
    np.testing.assert_allclose(fourier.forward_3d(volume), np.ones((8, 8, 5)), atol=1e-6)
    np.testing.assert_allclose(fourier.inverse_3d(fourier.forward_3d(volume)), volume, atol=1e-4)
    with pytest.raises(ValueError, match="even"):
        fourier.forward_2d(np.zeros((5, 5), np.float32))


def test_a_central_section_is_n_times_the_projection(rng: np.random.Generator) -> None:
    volume = rng.normal(size=(10, 10, 10)).astype(np.float32)
    section = 10 * fourier.forward_3d(volume)[0]
    np.testing.assert_allclose(section, fourier.forward_2d(volume.sum(axis=0)), atol=1e-6)


def test_white_noise_has_sigma2_of_half_the_variance_over_pixels(rng: np.random.Generator) -> None:
    box, variance = 64, 2.5
    images = rng.normal(scale=np.sqrt(variance), size=(60, box, box)).astype(np.float32)
    sigma2 = 0.5 * fourier.power_spectrum(fourier.forward_2d(images)).mean(axis=0)
    expected = variance / (2 * box**2)
    error = expected / np.sqrt(60 * shell_pixels(box))
    assert np.all(np.abs(sigma2 - expected)[1:] < 4.5 * error[1:])


def test_power_sums_to_the_variance(rng: np.random.Generator) -> None:
    box = 32
    images = rng.normal(size=(3, box, box))
    k = np.fft.fftfreq(box, 1 / box)
    spectrum = np.fft.fft2(images) * ((k[:, None] ** 2 + k**2) < (box / 2 - 1) ** 2)
    images = np.fft.ifft2(spectrum).real
    power = fourier.power_spectrum(fourier.forward_2d(images), mean=False)
    np.testing.assert_allclose(2 * power[:, 1:].sum(axis=1), images.var(axis=(1, 2)), rtol=1e-12)


@pytest.mark.parametrize("duplicates", [False, True])
def test_power_spectrum_counts_the_column_as_asked(duplicates: bool, rng: np.random.Generator) -> None:
    box = 10
    transforms = (rng.normal(size=(2, 10, 6)) + 1j * rng.normal(size=(2, 10, 6))).astype(np.complex64)
    sums, counts = np.zeros((2, 6)), np.zeros(6)
    for row in range(box):
        ky = row if row <= 5 else row - box
        for kx in range(6):
            shell = int(np.hypot(kx, ky) + 0.5)
            if shell <= 5 and (duplicates or not (kx == 0 and ky < 0)):
                sums[:, shell] += np.abs(transforms[:, row, kx]) ** 2
                counts[shell] += 1
    mean = fourier.power_spectrum(transforms, duplicates=duplicates)
    total = fourier.power_spectrum(transforms, mean=False, duplicates=duplicates)
    np.testing.assert_allclose(mean, sums / counts, rtol=1e-5)
    np.testing.assert_allclose(total, sums, rtol=1e-5)


def test_cropping_keeps_logical_frequencies(rng: np.random.Generator) -> None:
    image = rng.normal(size=(16, 16)).astype(np.float32)
    small = fourier.resize_half(fourier.forward_2d(image), 8)
    assert small.shape == (8, 5)
    for kx, ky in ((0, 0), (4, 4), (3, -3), (0, 4), (1, -2)):
        assert small[ky % 8, kx] == pytest.approx(direct_transform(image, kx, ky), abs=1e-6)


def test_enlarging_drops_corners_and_crops_back(rng: np.random.Generator) -> None:
    transform = fourier.forward_3d(rng.normal(size=(8, 8, 8)).astype(np.float32))
    large = fourier.resize_half(transform, 14, ndim=3)
    k = np.array([0, 1, 2, 3, 4, -3, -2, -1])
    r2 = k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(5) ** 2
    assert np.count_nonzero(large) == np.count_nonzero(r2 <= 16)
    assert np.array_equal(fourier.resize_half(large, 8, ndim=3), np.where(r2 <= 16, transform, 0))


@pytest.mark.parametrize("box", [6, 7, 9, 12])
def test_real_space_resizing_keeps_the_centre(box: int, rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 9, 9))
    out = fourier.resize_real(values, box, 2)
    for dy in (-2, 0, 2):
        for dx in (-1, 0, 1):
            assert np.array_equal(out[:, box // 2 + dy, box // 2 + dx], values[:, 4 + dy, 4 + dx])
    if box > 9:
        assert out.sum() == pytest.approx(values.sum())


def test_resampling_reads_the_same_density(rng: np.random.Generator) -> None:
    """A band-limited map, evaluated by its Fourier series at the new voxels."""
    box, new, ratio = 16, 24, 1.5
    volume = band_limited(rng, box, 5)
    fine = fourier.resample_map(volume, 3.0, 2.0, new)
    full = np.fft.fftn(np.fft.ifftshift(volume)) / box**3
    k = np.fft.fftfreq(box, 1 / box)
    for z, y, x in ((12, 12, 12), (13, 10, 12), (5, 17, 8)):
        waves = [np.exp(2j * np.pi * k * (i - new // 2) / ratio / box) for i in (z, y, x)]
        expected = np.einsum("zyx,z,y,x", full, *waves).real
        assert fine[z, y, x] == pytest.approx(expected, abs=1e-6)
    same = fourier.resample_map(volume, 3.0, 3.0, 12)
    assert np.array_equal(same, volume[2:14, 2:14, 2:14])


@pytest.mark.parametrize(("box", "ratio"), [(64, 3 / 2.8), (64, 0.777), (100, 1.0619), (65, 1.31)])
def test_resampled_boxes_keep_the_scale(box: int, ratio: float) -> None:
    padded, resampled = fourier.resample_boxes(box, ratio, 1.0)
    assert padded % 2 == resampled % 2 == 0
    assert box <= padded <= 2 * box
    assert abs(resampled / (padded * ratio) - 1) * box / 2 < 0.05


@pytest.mark.relion
@pytest.mark.parametrize("pixel_out", [4.0, 2.4])
def test_resampling_agrees_with_relion(
    relion: Path, tmp_path: Path, rng: np.random.Generator, pixel_out: float
) -> None:
    volume = rng.normal(size=(32, 32, 32)).astype(np.float32)
    with mrcfile.new(tmp_path / "in.mrc", volume) as file:
        file.voxel_size = 3.0
    flags = ["--i", "in.mrc", "--o", "out.mrc", "--angpix", "3", "--rescale_angpix", str(pixel_out)]
    subprocess.run([relion / "relion_image_handler", *flags], cwd=tmp_path, check=True, capture_output=True)
    expected = mrcfile.read(tmp_path / "out.mrc")
    found = fourier.resample_map(volume, 3.0, pixel_out, expected.shape[0])
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_whole_pixel_shifts_fill_with_zero(rng: np.random.Generator) -> None:
    images = rng.normal(size=(5, 6, 6)).astype(np.float32)
    shifts = np.array([[0, 0], [2, -1], [-3, 4], [6, 0], [100, -100]])
    moved = fourier.shift_images(images, shifts)
    for image, out, (dx, dy) in zip(images, moved, shifts, strict=True):
        expected = np.zeros((6, 6), np.float32)
        for y in range(6):
            for x in range(6):
                if 0 <= y - dy < 6 and 0 <= x - dx < 6:
                    expected[y, x] = image[y - dy, x - dx]
        assert np.array_equal(out, expected)
    assert fourier.shift_images(images, np.zeros((5, 2), int)) is not images


def test_phase_shift_is_the_whole_pixel_shift(rng: np.random.Generator) -> None:
    images = np.zeros((3, 16, 16), np.float32)
    images[:, 5:11, 5:11] = rng.normal(size=(3, 6, 6))
    shifts = np.array([[1, 2], [-3, 0], [2, -4]])
    transforms = fourier.forward_2d(images)
    pixels = pixel_list(7)
    ramp = fourier.phase_ramp(pixels.kx, pixels.ky, shifts, 16)
    assert ramp.dtype == np.complex64
    expected = take_pixels(fourier.forward_2d(fourier.shift_images(images, shifts)), pixels)
    np.testing.assert_allclose(take_pixels(transforms, pixels) * ramp, expected, atol=1e-6)
