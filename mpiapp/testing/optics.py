"""What the microscope does to a simulated projection, in closed form.

Written from the physics and apart from ``mpiapp.model.ctf`` and ``mpiapp.model.aberrations``, so that a
mistake in either shows up as a disagreement instead of cancelling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# CODATA 2018
_PLANCK = 6.62607015e-34
_ELECTRON_MASS = 9.1093837015e-31
_CHARGE = 1.602176634e-19
_LIGHT = 299792458.0


@dataclass(frozen=True)
class SimulatedOptics:
    """One optics group of a simulated data set; ``mag_matrix`` is (m00, m01, m10, m11)."""

    name: str
    pixel_size_A: float
    box: int
    voltage_kV: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.1
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    mag_matrix: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    even_zernike: tuple[float, ...] = ()
    odd_zernike: tuple[float, ...] = ()


def electron_wavelength_A(voltage_kV: float) -> float:
    """De Broglie wavelength of a relativistic electron, in angstrom."""
    energy = _CHARGE * voltage_kV * 1e3
    momentum_squared = 2 * _ELECTRON_MASS * energy * (1 + energy / (2 * _ELECTRON_MASS * _LIGHT**2))
    return _PLANCK / math.sqrt(momentum_squared) * 1e10


def magnified(optics: SimulatedOptics, fx: NDArray, fy: NDArray) -> tuple[NDArray, NDArray]:
    """Image frequencies mapped by the magnification matrix to those of the undistorted projection."""
    m00, m01, m10, m11 = optics.mag_matrix
    return m00 * fx + m01 * fy, m10 * fx + m11 * fy


def contrast_transfer(
    optics: SimulatedOptics,
    fx: NDArray,
    fy: NDArray,
    defocus_u_A: NDArray,
    defocus_v_A: NDArray,
    defocus_angle_deg: NDArray,
    phase_shift_deg: NDArray,
    bfactor_A2: float = 0.0,
) -> NDArray[np.float64]:
    """CTF of particles, positive at the origin: sine of the phase between scattered and unscattered wave.

    Parameters
    ----------
    optics : group of these particles
    fx, fy : (m,) frequencies in 1/A
    defocus_u_A, defocus_v_A, defocus_angle_deg, phase_shift_deg : (n,)
    bfactor_A2 : envelope exp(-B s^2 / 4)

    Returns
    -------
    (n, m) float64
    """
    x, y = magnified(optics, fx, fy)
    s2 = x**2 + y**2
    azimuth = np.arctan2(y, x)[None, :] - np.deg2rad(defocus_angle_deg)[:, None]
    mean = 0.5 * (defocus_u_A + defocus_v_A)[:, None]
    defocus = mean + 0.5 * (defocus_u_A - defocus_v_A)[:, None] * np.cos(2 * azimuth)
    wave = electron_wavelength_A(optics.voltage_kV)
    spherical = 0.5 * np.pi * optics.cs_mm * 1e7 * wave**3 * s2**2
    plate = np.deg2rad(phase_shift_deg)[:, None] + math.asin(optics.amplitude_contrast)
    phase = (
        np.pi * wave * defocus * s2 - spherical + plate - zernike_phase(optics.even_zernike, x, y, even=True)
    )
    return np.asarray(np.sin(phase) * np.exp(-0.25 * bfactor_A2 * s2))


def aberration_phase(optics: SimulatedOptics, fx: NDArray, fy: NDArray) -> NDArray[np.float64]:
    """Antisymmetric phase of an image in radians: beam tilt (axial coma) and odd Zernike terms.

    A beam tilt t shifts the image of spatial frequency k by Cs wave^2 |k|^2 t, the phase being
    ``-2 pi Cs wave^2 |k|^2 (t.k)``. Image transforms carry ``exp(+i phase)``.
    """
    x, y = magnified(optics, fx, fy)
    wave = electron_wavelength_A(optics.voltage_kV)
    tx, ty = optics.beam_tilt_mrad
    strength = 2 * np.pi * optics.cs_mm * 1e7 * wave**2
    coma = -strength * (x**2 + y**2) * (tx * x + ty * y) * 1e-3
    return np.asarray(coma + zernike_phase(optics.odd_zernike, x, y, even=False))


def zernike_phase(coefficients: tuple[float, ...], x: NDArray, y: NDArray, even: bool) -> NDArray[np.float64]:
    """Sum of Zernike terms on frequencies in 1/A, in the order of RELION's rlnEvenZernike or rlnOddZernike.

    Order: n = 0, 2, 4... (even) or 1, 3, 5... (odd), in each m = -n, -n + 2 ... n; negative m are sines.
    The radial part is a Jacobi polynomial.
    """
    from scipy.special import eval_jacobi

    rho, phi = np.hypot(x, y), np.arctan2(y, x)
    total = np.zeros(np.shape(x))
    orders = [(n, m) for n in range(0 if even else 1, 20, 2) for m in range(-n, n + 1, 2)]
    for value, (n, m) in zip(coefficients, orders, strict=False):
        if value == 0.0:
            continue
        k = (n - abs(m)) // 2
        radial = (-1) ** k * rho ** abs(m) * eval_jacobi(k, abs(m), 0, 1 - 2 * rho**2)
        total += value * radial * (np.cos(m * phi) if m >= 0 else np.sin(-m * phi))
    return total
