"""The float64 scores against sums written out pixel by pixel, and their two quadratures against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mpiapp.model.aberrations import fold_beam_tilt, odd_phase
from mpiapp.model.ctf import ctf, ctf_coefficients
from mpiapp.model.masks import soft_circle
from mpiapp.model.particles import OpticsModel
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import slice_volume, transform_reference
from mpiapp.model.rotations import euler_to_matrix, rotation_z
from mpiapp.model.scores import (
    correlations,
    demodulated,
    image_samples,
    log_offset_prior,
    log_weights,
    model_samples,
    observe,
    references,
    shifted,
    transform_at,
)

BOX, PIXEL_A, RADIUS, SCALE = 32, 2.0, 12, 1.3
OPTICS = OpticsModel(BOX, PIXEL_A, 1.0, (1.0, 0.0, 0.0, 1.0), (), (), False)
CTF = ctf_coefficients(300.0, 2.7, 0.1, np.array([4000.0]), np.array([3600.0]), np.array([25.0]))[0]
NO_CTF = np.zeros(8)
MATRICES = euler_to_matrix([10.0, -75.0, 140.0], [40.0, 95.0, 160.0], [5.0, 60.0, -120.0])
SHIFTS_A = np.array([[0.0, 0.0], [2.0, -4.0], [-1.3, 0.7]])
FLAT = np.full(BOX // 2 + 1, 2e-4)


@pytest.fixture(scope="module")
def volume() -> NDArray[np.complex64]:
    """Padded transform of a few blobs."""
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
    density = np.zeros((BOX,) * 3)
    for cx, cy, cz in np.random.default_rng(2).uniform(-5, 5, (9, 3)):
        density += np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * 1.4**2))
    return transform_reference(density.astype(np.float32), RADIUS, 2.0)


def projection(
    volume: NDArray, matrix: NDArray, shift_px: NDArray, coefficients: NDArray
) -> NDArray[np.float64]:
    """Image of the reference at an orientation, with its CTF, moved by a shift."""
    samples = image_samples(OPTICS, RADIUS)
    kx, ky = samples.k.astype(int)
    value = slice_volume(volume, 2.0, matrix[None], kx, ky)[0]
    if coefficients[6]:
        unit = 1 / (BOX * PIXEL_A)
        value = value * ctf(kx * unit, ky * unit, coefficients[None], dtype=np.float64)[0]
    value *= np.exp(-2j * np.pi / BOX * (shift_px @ samples.k)) * (-1.0) ** (kx + ky)
    half = np.zeros((BOX, BOX // 2 + 1), complex)
    half[ky, kx] = value
    up = ky[(kx == 0) & (ky > 0)]
    half[-up, 0] = half[up, 0].conj()
    return np.fft.irfft2(half, s=(BOX, BOX)) * BOX**2


def test_transform_at_integer_pixels(rng: np.random.Generator) -> None:
    image = rng.normal(size=(BOX, BOX))
    pixels = pixel_list(RADIUS)
    found = transform_at(image, np.stack([pixels.kx, pixels.ky]).astype(float))
    expected = np.fft.fft2(np.fft.ifftshift(image))[pixels.ky, pixels.kx] / BOX**2
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_demodulation_acts_on_integer_pixels(rng: np.random.Generator) -> None:
    optics = replace(OPTICS, odd_zernike=fold_beam_tilt((), (2.0, -1.0), 300.0, 2.7))
    image = rng.normal(size=(BOX, BOX))
    samples = image_samples(optics, RADIUS)
    sx, sy = samples.k / (BOX * PIXEL_A)
    expected = transform_at(image, samples.k) * np.exp(-1j * odd_phase(optics.odd_zernike, sx, sy))
    np.testing.assert_allclose(transform_at(demodulated(image, optics), samples.k), expected, atol=1e-14)


def test_log_weights_are_gaussian(volume: NDArray, rng: np.random.Generator) -> None:
    """Differences between states are those of -|Ref - X_t|^2 / (2 sigma2), summed over pixels in a loop."""
    image = rng.normal(size=(BOX, BOX)) * 0.05
    sigma2 = FLAT * rng.uniform(0.5, 2.0, FLAT.size)
    seen = observe(image, image_samples(OPTICS, RADIUS), OPTICS, CTF, sigma2, SCALE)
    found = log_weights(seen, volume, 2.0, MATRICES, SHIFTS_A)
    transform = np.fft.fft2(np.fft.ifftshift(image)) / BOX**2
    pixels = pixel_list(RADIUS)
    expected = np.zeros((len(MATRICES), len(SHIFTS_A)))
    for r, matrix in enumerate(MATRICES):
        section = slice_volume(volume, 2.0, matrix[None], pixels.kx, pixels.ky)[0]
        for t, shift in enumerate(SHIFTS_A / PIXEL_A):
            for p, (kx, ky) in enumerate(zip(pixels.kx, pixels.ky, strict=True)):
                s = int(np.hypot(kx, ky) + 0.5)
                if s == 0:
                    continue
                unit = 1 / (BOX * PIXEL_A)
                c = ctf(np.array([kx * unit]), np.array([ky * unit]), CTF[None], dtype=np.float64)[0, 0]
                x = transform[ky, kx] * np.exp(-2j * np.pi * (kx * shift[0] + ky * shift[1]) / BOX)
                expected[r, t] -= abs(SCALE * c * section[p] - x) ** 2 / (2 * sigma2[s])
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], atol=1e-9)


def test_the_right_state_is_the_best(volume: NDArray) -> None:
    """Item 6: without noise and with small sigma2 all the weight is at the truth."""
    shift_px = -SHIFTS_A[1] / PIXEL_A  # the particle lies at minus its offset
    image = projection(volume, MATRICES[2], shift_px, CTF)
    seen = observe(image, image_samples(OPTICS, RADIUS), OPTICS, CTF, FLAT * 1e-3, 1.0)
    value = log_weights(seen, volume, 2.0, MATRICES, SHIFTS_A)
    assert np.unravel_index(value.argmax(), value.shape) == (2, 1)
    weight = np.exp(value - value.max())
    assert weight.max() / weight.sum() > 0.999
    cc = correlations(seen, volume, 2.0, MATRICES, SHIFTS_A)
    assert cc[2, 1] == pytest.approx(1.0, abs=1e-6)
    assert np.abs(cc).max() <= 1 + 1e-12
    assert (np.delete(cc.ravel(), 7) < 0.97).all()


def test_shifts_move_the_image(rng: np.random.Generator) -> None:
    image = rng.normal(size=(BOX, BOX))
    samples = image_samples(OPTICS, RADIUS)
    moved = np.roll(image, (-2, 3), axis=(0, 1))  # by (3, -2) pixels
    found = shifted(observe(image, samples, OPTICS, NO_CTF, FLAT, 1.0), np.array([[6.0, -4.0]]))[0]
    np.testing.assert_allclose(found, transform_at(moved, samples.k), atol=1e-13)


def test_premultiplied_images_have_the_ctf_twice() -> None:
    samples = image_samples(OPTICS, RADIUS)
    image = np.zeros((BOX, BOX))
    plain = observe(image, samples, OPTICS, CTF, FLAT, SCALE)
    twice = observe(image, samples, replace(OPTICS, premultiplied=True), CTF, FLAT, SCALE)
    unit = 1 / (BOX * PIXEL_A)
    c = ctf(*(samples.k * unit), CTF[None], dtype=np.float64)[0]
    np.testing.assert_allclose(plain.contrast, SCALE * c)
    np.testing.assert_allclose(plain.ctf_power, SCALE**2 * c**2)
    np.testing.assert_allclose(twice.contrast, SCALE * c**2)
    np.testing.assert_allclose(twice.ctf_power, SCALE * c**2)


def test_noise_of_unknown_shells_has_no_weight() -> None:
    sigma2 = FLAT.copy()
    sigma2[5] = 0.0
    seen = observe(np.zeros((BOX, BOX)), image_samples(OPTICS, RADIUS), OPTICS, NO_CTF, sigma2, 1.0)
    shell = seen.samples.shell
    assert not seen.inverse_sigma2[shell == 5].any()
    np.testing.assert_allclose(seen.inverse_sigma2[shell != 5], 1 / 2e-4)
    assert seen.score_weight[0] == 0
    np.testing.assert_array_equal(seen.score_weight[1:], seen.inverse_sigma2[1:])


def test_magnified_pixels() -> None:
    """refinement.md 1.7: an image frequency k reads the model at M k / m."""
    optics = replace(OPTICS, box=40, ratio=1.25, magnification=(1.02, 0.01, -0.02, 0.98))
    samples = image_samples(optics, RADIUS)
    m = np.array([[1.02, 0.01], [-0.02, 0.98]])
    np.testing.assert_allclose(samples.q, m @ samples.k / 1.25)
    assert (np.hypot(*samples.q) <= RADIUS + 1e-6).all()
    turned = model_samples(optics, RADIUS, 30.0)
    np.testing.assert_allclose(m @ turned.k / 1.25, turned.q)
    pixels = pixel_list(RADIUS)
    np.testing.assert_allclose(rotation_z(-30.0)[:2, :2] @ turned.q, [pixels.kx, pixels.ky], atol=1e-12)
    # as many image pixels by density as by count, but for the rim
    assert turned.density * turned.q.shape[1] == pytest.approx(samples.q.shape[1], rel=0.05)


def test_both_quadratures_agree(volume: NDArray, rng: np.random.Generator) -> None:
    """Turned pixels of the model against those of the image: the same integral.

    They agree as far as the product of image and reference is compact in real space: the image is masked, the CTF
    spreads little, the noise is white. Strong defocus in a tight box, and steps of sigma2 from shell to shell (which
    repeat at just the edge of the box), were measured to make it an order of magnitude worse.
    """
    image = projection(volume, MATRICES[0], np.zeros(2), CTF) + rng.normal(size=(BOX, BOX)) * 0.7
    image *= soft_circle(BOX, 9.0, 4.0)
    psi = np.arange(0.0, 90.0, 7.0)
    whole = observe(image, image_samples(OPTICS, RADIUS), OPTICS, CTF, FLAT * 2, 1.0)
    error, spread = [], []
    for angle in psi:
        turned = observe(image, model_samples(OPTICS, RADIUS, angle), OPTICS, CTF, FLAT * 2, 1.0)
        a, b = (log_weights(o, volume, 2.0, MATRICES, SHIFTS_A) for o in (whole, turned))
        error.append(a - b)
        spread.append(a)
    # measured: 0.4 nats where states differ by 95
    assert np.std(error) < 0.01 * np.std(spread)


def test_references_and_priors(volume: NDArray) -> None:
    seen = observe(np.zeros((BOX, BOX)), image_samples(OPTICS, RADIUS), OPTICS, NO_CTF, FLAT, SCALE)
    found = references(seen, volume, 2.0, MATRICES)
    np.testing.assert_allclose(found, SCALE * slice_volume(volume, 2.0, MATRICES, *seen.samples.k))
    np.testing.assert_allclose(log_offset_prior(np.array([[3.0, 4.0], [0.0, 0.0]]), 5.0), [-0.5, 0.0])
