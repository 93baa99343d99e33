"""Images read at turned frequencies and CTFs evaluated there: kernels against their float64 twins."""

from __future__ import annotations

import numpy as np
import pytest
from mpiapp.kernels.inplane import shift_row, turn_image, turn_weights, turned_ctf
from numpy.typing import NDArray

from mpiapp.backend.reach import image_radius
from mpiapp.model.aberrations import even_gamma
from mpiapp.model.ctf import ctf, ctf_coefficients
from mpiapp.model.fourier import phase_ramp
from mpiapp.model.images import padded_planes
from mpiapp.model.interpolation import OVERSAMPLING, plane_radius, sample_plane
from mpiapp.model.masks import soft_circle
from mpiapp.model.particles import OpticsModel
from mpiapp.model.pixels import pixel_list
from mpiapp.model.rotations import rotation_z
from mpiapp.model.scores import model_samples, transform_at

BOX, RADIUS = 32, 13
GEOMETRIES = {
    "turn": np.eye(2),
    "magnified": np.array([[1.02, 0.03], [-0.02, 0.97]]),
    "smaller box": 0.8 * np.eye(2),
}


def noise_image(rng: np.random.Generator, diameter: float = 0.7) -> NDArray[np.float32]:
    """White noise inside a soft circle; ``diameter`` 2 leaves the whole box."""
    circle = soft_circle(BOX, diameter * BOX / 2 - 3, 3)
    return (rng.normal(size=(BOX, BOX)) * circle).astype(np.float32)


def read_turned(plane: NDArray[np.complex64], geometry: NDArray[np.float64], psi: float) -> tuple:
    """Half-plane pixels read by the kernels, and their frequencies (2, n)."""
    pixels = pixel_list(RADIUS - 1)
    g = geometry @ rotation_z(psi)[:2, :2]
    n, reach = len(pixels), plane_radius(RADIUS)
    index, sign, weights = np.empty(n, np.int32), np.empty(n, np.float32), np.empty((8, n), np.float32)
    turn_weights(
        reach,
        *g.astype(np.float32).ravel(),
        pixels.kx.astype(np.float32),
        pixels.ky.astype(np.float32),
        index,
        sign,
        weights,
    )
    row = np.empty((2, n), np.float32)
    turn_image(plane.view(np.float32).ravel(), reach, index, sign, weights, row[0], row[1])
    return row[0] + 1j * row[1], g @ np.stack([pixels.kx, pixels.ky])


def rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(np.abs(values) ** 2)))


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("psi", [0.0, 37.0, 141.0, -95.0])
def test_turned_images_are_those_of_the_twin(rng: np.random.Generator, name: str, psi: float) -> None:
    plane = padded_planes(noise_image(rng)[None], RADIUS)[0]
    found, k = read_turned(plane, GEOMETRIES[name], psi)
    expected = sample_plane(plane, *k)
    # measured 2e-6 of the r.m.s. value: polynomials of degree 7 in single precision
    assert np.abs(found - expected).max() < 1e-5 * rms(expected)


# measured 4.4e-4 to 4.7e-4 for masked images, 6.2e-4 for noise up to the edges of the box, in any box
@pytest.mark.parametrize(("diameter", "bound"), [(0.5, 6e-4), (0.8, 6e-4), (2.0, 8e-4)])
def test_turned_images_are_nearly_the_exact_transform(
    rng: np.random.Generator, diameter: float, bound: float
) -> None:
    image = noise_image(rng, diameter)
    plane = padded_planes(image[None], RADIUS)[0]
    errors, values = [], []
    for psi in np.arange(0.0, 360.0, 23.0):
        found, k = read_turned(plane, np.eye(2), psi)
        expected = transform_at(image, k)
        errors.append(found - expected)
        values.append(expected)
    assert rms(np.concatenate(errors)) < bound * rms(np.concatenate(values))


def test_planes_go_on_beyond_nyquist(rng: np.random.Generator) -> None:
    """The transform of pixels repeats; magnified or coarser groups read it there, without weight."""
    image = noise_image(rng)
    radius = BOX - 2
    plane = padded_planes(image[None], radius)[0]
    angle = np.linspace(0, 2 * np.pi, 200)
    k = radius * np.stack([np.cos(angle), np.sin(angle)])
    expected = transform_at(image, k)
    assert rms(sample_plane(plane, *k) - expected) < 8e-4 * rms(expected)


@pytest.mark.parametrize("matrix", [(1.0, 0.0, 0.0, 1.0), (0.93, 0.02, -0.01, 1.05)])
@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.3])
def test_planes_hold_every_sample_that_is_read(ratio: float, matrix: tuple[float, ...]) -> None:
    """The window reaches from one sample below the position to two above it."""
    optics = OpticsModel(64, 1.0, ratio, matrix, (), (), False)  # type: ignore[arg-type]
    for r_max in (5, 20, 32):
        largest = max(np.abs(model_samples(optics, r_max, psi).k).max() for psi in np.arange(0.0, 180.0, 5.0))
        assert np.floor(OVERSAMPLING * largest) + 2 <= plane_radius(image_radius(optics, r_max))


def test_half_a_turn_conjugates(rng: np.random.Generator) -> None:
    plane = padded_planes(noise_image(rng)[None], RADIUS)[0]
    here, _ = read_turned(plane, np.eye(2), 25.0)
    there, _ = read_turned(plane, np.eye(2), 205.0)
    # the origin is left out: its imaginary part is an error of interpolation
    np.testing.assert_allclose(there[1:], here[1:].conj(), atol=3e-6 * rms(here))


CTF_CASES = {
    "astigmatism": dict(defocus_u_A=18000.0, defocus_v_A=15500.0, defocus_angle_deg=35.0),
    "phase plate": dict(
        defocus_u_A=9000.0, defocus_v_A=8000.0, defocus_angle_deg=-60.0, phase_shift_deg=90.0
    ),
    "envelope": dict(
        defocus_u_A=12000.0, defocus_v_A=12000.0, defocus_angle_deg=0.0, bfactor_A2=90.0, scale=0.8
    ),
    "no spherical aberration": dict(
        cs_mm=0.0, defocus_u_A=-5000.0, defocus_v_A=-5100.0, defocus_angle_deg=10.0
    ),
}


@pytest.mark.parametrize("even", [(), (0.2, 0.0, 12.0, -9.0, 0.0, 30.0)], ids=["plain", "even aberrations"])
@pytest.mark.parametrize("name", CTF_CASES)
def test_turned_ctf(name: str, even: tuple[float, ...]) -> None:
    parameters = {"cs_mm": 2.7, **CTF_CASES[name]}
    lone = {k: np.array([v]) if k.startswith("defocus") else v for k, v in parameters.items()}
    coefficients = ctf_coefficients(voltage_kV=300.0, amplitude_contrast=0.1, **lone)
    pixels = pixel_list(60)
    sx, sy = pixels.kx / (128 * 1.3), pixels.ky / (128 * 1.3)  # up to 2.8 A
    psi = np.deg2rad(71.0)
    x, y = rotation_z(71.0)[:2, :2] @ np.stack([sx, sy])
    gamma = even_gamma(even, x, y)
    found = np.empty(len(pixels), np.float32)
    turned_ctf(
        coefficients[0].astype(np.float32),
        np.float32(np.cos(psi)),
        np.float32(np.sin(psi)),
        sx.astype(np.float32),
        sy.astype(np.float32),
        gamma.astype(np.float32) if even else np.empty(0, np.float32),
        found,
    )
    expected = ctf(x, y, coefficients, even_gamma=gamma, dtype=np.float64)[0]
    # the phase reaches 140 rad, of which single precision keeps 1e-5; measured 1.6e-5
    assert np.abs(found - expected).max() < 5e-5


def test_shifted_row(rng: np.random.Generator) -> None:
    pixels = pixel_list(20)
    base = (rng.normal(size=(2, len(pixels)))).astype(np.float32)
    out = np.empty_like(base)
    shift = np.array([3.7, -5.2])
    qx, qy = pixels.kx.astype(np.float32), pixels.ky.astype(np.float32)
    tx, ty = (shift / 48).astype(np.float32)
    shift_row(base[0], base[1], qx, qy, tx, ty, out[0], out[1])
    expected = (base[0] + 1j * base[1]) * phase_ramp(pixels.kx, pixels.ky, shift, 48)
    np.testing.assert_allclose(out[0] + 1j * out[1], expected, atol=2e-5)
