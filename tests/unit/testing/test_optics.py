"""CTF, aberrations and noise of the simulator against closed forms and against the engine's own code."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.aberrations import even_gamma, fold_beam_tilt, odd_phase
from mpiapp.model.ctf import ctf, ctf_coefficients
from mpiapp.testing.noise import colour, noise_filter, power_spectrum
from mpiapp.testing.optics import (
    SimulatedOptics,
    aberration_phase,
    contrast_transfer,
    electron_wavelength_A,
    zernike_phase,
)


def grid(rng, n=200, top=0.25):
    return rng.uniform(0, top, n), rng.uniform(-top, top, n)


@pytest.mark.parametrize(("kv", "wavelength"), [(100, 0.0370144), (200, 0.0250793), (300, 0.0196875)])
def test_wavelength(kv, wavelength):
    """Values of Reimer, Transmission Electron Microscopy."""
    assert electron_wavelength_A(kv) == pytest.approx(wavelength, rel=1e-5)


def one(value: float) -> np.ndarray:
    return np.array([float(value)])


def test_ctf_at_the_origin_is_amplitude_contrast_and_phase_plate():
    optics = SimulatedOptics("g", 2.0, 64, amplitude_contrast=0.07)
    zero = np.zeros(1)
    plain = contrast_transfer(optics, zero, zero, one(1e4), one(1e4), one(0), one(0))
    shifted = contrast_transfer(optics, zero, zero, one(1e4), one(1e4), one(0), one(90))
    assert plain[0, 0] == pytest.approx(0.07)
    assert shifted[0, 0] == pytest.approx(np.sqrt(1 - 0.07**2))


def test_first_zero_of_a_pure_phase_object_without_cs():
    """sin(pi wave defocus s^2) = 0 at s = 1 / sqrt(wave defocus)."""
    optics = SimulatedOptics("g", 2.0, 64, cs_mm=0.0, amplitude_contrast=0.0)
    s = 1 / np.sqrt(electron_wavelength_A(300) * 15000)
    values = contrast_transfer(
        optics, np.array([0.5, 1.0, 1.2]) * s, np.zeros(3), one(15000), one(15000), one(0), one(0)
    )
    assert values[0, 0] > 0.5
    assert values[0, 1] == pytest.approx(0, abs=1e-9)
    assert values[0, 2] < -0.5


def test_astigmatism_axis():
    """Along the angle the defocus is U, at right angles V."""
    optics = SimulatedOptics("g", 2.0, 64)
    along = np.deg2rad([25.0, 115.0])
    fx, fy = 0.05 * np.cos(along), 0.05 * np.sin(along)
    mixed = contrast_transfer(optics, fx, fy, one(20000), one(15000), one(25), one(0))[0]
    only_u = contrast_transfer(optics, fx, fy, one(20000), one(20000), one(0), one(0))[0]
    only_v = contrast_transfer(optics, fx, fy, one(15000), one(15000), one(0), one(0))[0]
    assert mixed[0] == pytest.approx(only_u[0])
    assert mixed[1] == pytest.approx(only_v[1])


def test_even_zernike_of_second_order_is_defocus(rng):
    """2 rho^2 - 1 with coefficient c is a defocus change of -2 c / (pi wave) and a constant phase of c."""
    fx, fy = grid(rng)
    change, wave = 700.0, electron_wavelength_A(300)
    c = -change * np.pi * wave / 2
    zernike = SimulatedOptics("g", 2.0, 64, even_zernike=(c, 0.0, c))
    plain = SimulatedOptics("g", 2.0, 64)
    a = contrast_transfer(zernike, fx, fy, one(15000), one(15000), one(0), one(0))
    b = contrast_transfer(plain, fx, fy, one(15000 + change), one(15000 + change), one(0), one(0))
    assert np.abs(a - b).max() < 1e-9


def test_zernike_terms_of_low_order(rng):
    x, y = grid(rng)
    rho2 = x**2 + y**2
    odd = {0: y, 1: x, 3: (3 * rho2 - 2) * y, 4: (3 * rho2 - 2) * x, 5: x**3 - 3 * x * y**2}
    even = {0: 1 + 0 * x, 1: 2 * x * y, 3: x**2 - y**2, 6: 6 * rho2**2 - 6 * rho2 + 1}
    for terms, is_even in ((odd, False), (even, True)):
        for index, expected in terms.items():
            unit = tuple(float(i == index) for i in range(index + 1))
            assert np.abs(zernike_phase(unit, x, y, even=is_even) - expected).max() < 1e-12


def test_beam_tilt_moves_the_image_of_a_frequency():
    """The phase's gradient at k is the displacement: Cs wave^2 (|k|^2 t + 2 (t.k) k), Cs-limited coma."""
    optics = SimulatedOptics("g", 2.0, 64, beam_tilt_mrad=(1.0, 0.0))
    k, step = 0.1, 1e-6
    fx = np.array([k - step, k + step])
    phase = aberration_phase(optics, fx, np.zeros(2))
    gradient = (phase[1] - phase[0]) / (2 * step) / (2 * np.pi)
    expected = 2.7e7 * electron_wavelength_A(300) ** 2 * 3 * k**2 * 1e-3
    assert gradient == pytest.approx(-expected, rel=1e-6)


def test_engine_and_simulator_agree_on_the_ctf(rng):
    fx, fy = grid(rng)
    u, v = rng.uniform(8000, 30000, (2, 5))
    angle, shift = rng.uniform(0, 180, (2, 5))
    even = (0.1, 20.0, -5.0, 7.0, 0.0, 0.0, 100.0, 30.0)
    optics = SimulatedOptics("g", 2.0, 64, 200.0, 2.0, 0.08, even_zernike=even)
    ours = contrast_transfer(optics, fx, fy, u, v, angle, shift, bfactor_A2=30.0)
    coefficients = ctf_coefficients(200.0, 2.0, 0.08, u, v, angle, shift, 30.0)
    theirs = ctf(fx, fy, coefficients, even_gamma=even_gamma(even, fx, fy))
    # RELION's wavelength differs in the sixth digit
    assert np.abs(ours - theirs).max() < 1e-3


def test_engine_and_simulator_agree_on_odd_aberrations(rng):
    fx, fy = grid(rng)
    odd = (1.0, -2.0, 40.0, 10.0, -20.0, 9.0)
    optics = SimulatedOptics("g", 2.0, 64, beam_tilt_mrad=(0.5, -0.8), odd_zernike=odd)
    theirs = odd_phase(fold_beam_tilt(odd, (0.5, -0.8), 300.0, 2.7), fx, fy)
    assert np.abs(aberration_phase(optics, fx, fy) - theirs).max() < 1e-4


def test_coloured_noise_has_the_spectrum_and_variance_asked_for(rng):
    box, pixel, amplitude, corner = 64, 3.0, 5.0, 60.0
    white = rng.standard_normal((400, box, box)).astype(np.float32)
    noise = colour(white, noise_filter(box, pixel, amplitude, corner))
    assert noise.var() == pytest.approx(1.0, rel=0.02)
    measured = power_spectrum(noise)
    s = np.arange(box // 2 + 1) / (box * pixel)
    expected = 1 + amplitude / (1 + (s * corner) ** 2)
    ratio = measured / expected
    # shells above 3: enough pixels; the shell average of a convex curve differs little there
    assert np.abs(ratio[4:] / ratio[4:].mean() - 1).max() < 0.05


def test_filter_of_amplitude_zero_is_white():
    assert np.allclose(noise_filter(32, 3.0, 0.0, 100.0), 1.0)


def test_power_spectrum_of_white_noise(rng):
    images = 1.5 * rng.standard_normal((200, 32, 32)).astype(np.float32)
    assert power_spectrum(images)[3:] * 32**2 == pytest.approx(1.5**2, rel=0.06)
