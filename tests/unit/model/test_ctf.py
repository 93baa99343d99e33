"""The CTF against its closed form written out for one particle, and against RELION's own image of it."""

from __future__ import annotations

import cmath
import importlib.util
import math
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mpiapp.errors import InputError
from mpiapp.model.ctf import ctf, ctf_coefficients, ctf_gamma, wavelength_A

PARTICLES = [
    # kV, Cs, Q0, defocus u, v, angle, phase shift, B, scale
    (300.0, 2.7, 0.1, 15000.0, 12000.0, 30.0, 0.0, 0.0, 1.0),
    (200.0, 1.4, 0.07, 21000.0, 23500.0, -75.0, 90.0, 80.0, 0.9),
    (120.0, 2.0, 0.0, -5000.0, -5200.0, 140.0, 20.0, -30.0, 1.2),
    (300.0, 0.0, 1.0, 9000.0, 9000.0, 0.0, 0.0, 0.0, 1.0),
]


def scalar_gamma(x: float, y: float, particle: tuple[float, ...]) -> float:
    """Phase from defocus along the direction of (x, y) and the relativistic wavelength from constants."""
    kv, cs, q0, du, dv, angle, shift, _, _ = particle
    electron, mass, light, planck = 1.602176634e-19, 9.1093837e-31, 299792458.0, 6.62607015e-34
    energy = electron * kv * 1e3
    momentum = math.sqrt(2 * mass * energy * (1 + energy / (2 * mass * light**2)))
    wavelength = planck / momentum * 1e10
    s2 = x * x + y * y
    turn = cmath.phase(complex(x, y)) - math.radians(angle)
    defocus = du * math.cos(turn) ** 2 + dv * math.sin(turn) ** 2
    chi = math.pi * wavelength * defocus * s2 - 0.5 * math.pi * cs * 1e7 * wavelength**3 * s2 * s2
    return chi + math.radians(shift) + math.asin(q0)


def coefficients(particles: list[tuple[float, ...]]) -> np.ndarray:
    return ctf_coefficients(*(np.array(column) for column in zip(*particles, strict=True)))


@pytest.fixture
def frequencies(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = rng.uniform(-0.2, 0.2, size=(2, 40))
    x[0] = y[0] = 0.0
    return x, y


def test_wavelength() -> None:
    np.testing.assert_allclose(
        wavelength_A(np.array([100.0, 200.0, 300.0])), [0.03701, 0.02508, 0.01969], atol=1e-5
    )


def test_values_follow_the_closed_form(frequencies: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = frequencies
    found = ctf(x, y, coefficients(PARTICLES), dtype=np.float64)
    assert found.shape == (4, 40)
    for row, particle in zip(found, PARTICLES, strict=True):
        bfactor, scale = particle[-2:]
        expected = [
            math.sin(scalar_gamma(a, b, particle)) * math.exp(-bfactor / 4 * (a * a + b * b)) * scale
            for a, b in zip(x, y, strict=True)
        ]
        # the wavelength constants of the formula have 6 digits, the phase is up to 60 rad
        np.testing.assert_allclose(row, expected, atol=5e-4)


def test_value_at_the_origin_is_the_amplitude_contrast() -> None:
    zero = np.zeros(1)
    found = ctf(zero, zero, coefficients(PARTICLES))
    assert found.dtype == np.float32
    expected = [math.sin(math.asin(p[2]) + math.radians(p[6])) * p[8] for p in PARTICLES]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_astigmatism_is_strongest_along_its_angle() -> None:
    part = coefficients([(300.0, 0.0, 0.0, 20000.0, 10000.0, 25.0, 0.0, 0.0, 1.0)])
    angles = np.deg2rad([25.0, 205.0, 115.0, 70.0])
    gamma = ctf_gamma(0.02 * np.cos(angles), 0.02 * np.sin(angles), part)[0]
    unit = -math.pi * float(wavelength_A(300.0)) * 0.02**2
    np.testing.assert_allclose(gamma / unit, [20000, 20000, 10000, 15000], rtol=1e-12)


def test_options(frequencies: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = frequencies
    part = coefficients(PARTICLES)
    plain = ctf(x, y, part, dtype=np.float64)
    damping = np.exp(part[:, 5:6] * (x * x + y * y)) * part[:, 6:7]
    np.testing.assert_allclose(ctf(x, y, part, phase_flipped=True, dtype=np.float64), np.abs(plain))
    signs = ctf(x, y, part, only_flip_phases=True, dtype=np.float64)
    np.testing.assert_allclose(signs, np.where(plain < 0, -1, 1) * part[:, 6:7])
    intact = ctf(x, y, part, intact_first_peak=True, dtype=np.float64)
    gamma = ctf_gamma(x, y, part)
    first = np.abs(gamma) < np.pi / 2
    assert 0 < first.sum() < first.size
    np.testing.assert_allclose(intact[first], damping[first])
    np.testing.assert_allclose(intact[~first], plain[~first])


def test_zeros_are_kept_away_from_zero() -> None:
    part = coefficients([(300.0, 2.7, 0.0, 10000.0, 10000.0, 0.0, 0.0, 0.0, 1.0)])
    zero = np.zeros(1)
    assert ctf(zero, zero, part, dtype=np.float64)[0, 0] == pytest.approx(1e-8)
    nearly = ctf(np.array([1e-8]), zero, part, even_gamma=np.array([1e-9]), dtype=np.float64)
    assert nearly[0, 0] == pytest.approx(-1e-8)


def test_even_gamma_adds_to_the_phase(frequencies: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = frequencies
    part = coefficients(PARTICLES[:1])
    more = coefficients([(*PARTICLES[0][:3], 15100.0, 12100.0, *PARTICLES[0][5:])])
    extra = -math.pi * float(wavelength_A(300.0)) * 100.0 * (x * x + y * y)
    np.testing.assert_allclose(
        ctf(x, y, part, even_gamma=extra, dtype=np.float64), ctf(x, y, more, dtype=np.float64), atol=1e-9
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amplitude_contrast": np.array([0.1, 1.5])}, "particle 2.*rlnAmplitudeContrast.*1.5"),
        ({"amplitude_contrast": np.array([-0.1, 0.1])}, "particle 1"),
        ({"voltage_kV": 0.0}, "rlnVoltage"),
        ({"defocus_u_A": np.array([1e4, np.nan])}, "particle 2.*rlnDefocusU"),
        (
            {"defocus_u_A": np.zeros(2), "defocus_v_A": np.zeros(2), "cs_mm": 0.0, "amplitude_contrast": 0.0},
            "at least one other than 0",
        ),
    ],
)
def test_impossible_parameters_are_refused(change: dict, words: str) -> None:
    good = {
        "voltage_kV": 300.0,
        "cs_mm": 2.7,
        "amplitude_contrast": 0.1,
        "defocus_u_A": np.full(2, 1e4),
        "defocus_v_A": np.full(2, 1e4),
        "defocus_angle_deg": np.zeros(2),
    }
    assert ctf_coefficients(**good).shape == (2, 8)
    with pytest.raises(InputError, match=words):
        ctf_coefficients(**(good | change))


def test_against_the_simulator_of_the_benchmarks(shared: Path) -> None:
    spec = importlib.util.spec_from_file_location("em_common", shared / "bench" / "em_common.py")
    assert spec
    assert spec.loader
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    kx, ky = common.freq_grid(32, 2.0)
    columns = [np.array(c) for c in zip(*PARTICLES[:3], strict=True)]
    kv, cs, q0, du, dv, angle, phase, bfactor, scale = columns
    expected = common.ctf_2d(kx, ky, du, dv, angle, kv, cs, q0, phase, bfactor) * scale[:, None, None]
    found = ctf(kx.ravel(), ky.ravel(), ctf_coefficients(*columns)).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.relion
def test_against_relion(relion: Path, tmp_path: Path) -> None:
    flags = "--simulate ctf.mrc --box 48 --angpix 2 --defU 15000 --defV 12000 --defAng 30 --phase_shift 20"
    program = relion / "relion_ctf_toolbox"
    subprocess.run([program, *flags.split()], cwd=tmp_path, check=True, capture_output=True)
    image = mrcfile.read(tmp_path / "ctf.mrc")
    y, x = (np.mgrid[-24:24, -24:24] / (48 * 2.0)).reshape(2, -1)
    part = coefficients([(300.0, 2.7, 0.1, 15000.0, 12000.0, 30.0, 20.0, 0.0, 1.0)])
    np.testing.assert_allclose(ctf(x, y, part).reshape(48, 48), image, atol=1e-6)
