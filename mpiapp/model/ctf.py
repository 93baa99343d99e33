"""The contrast transfer function: coefficients per particle, values at any spatial frequency.

    gamma = K1 (Axx X^2 + 2 Axy X Y + Ayy Y^2) + K2 (X^2 + Y^2)^2 - K5 - K3 + gamma_even
    CTF   = -sin(gamma) exp(K4 (X^2 + Y^2)) * scale

with spatial frequencies X, Y in 1/angstrom and underfocus positive. At the origin the CTF is +sin(K3 + K5):
particles are white on black. A particle is eight numbers, so a compiled kernel can evaluate its CTF at the
coordinates of pixels turned in plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpiapp.errors import InputError
from mpiapp.model.arrays import module_of

FloatArray = NDArray[Any]

# |CTF| below this is set to it with its sign kept, so that dividing by a CTF is always possible
SMALLEST_CTF = 1e-8


def wavelength_A(voltage_kV: float | FloatArray) -> NDArray[np.float64]:
    """Relativistic electron wavelength in angstrom for an acceleration voltage in kV."""
    volts = 1000.0 * np.asarray(voltage_kV, dtype=np.float64)
    return np.asarray(12.2643247 / np.sqrt(volts * (1.0 + 0.978466e-6 * volts)))


def _check(name: str, bad: NDArray[np.bool_], values: FloatArray, expected: str) -> None:
    """Raise an InputError that names the first particle whose value is out of range."""
    rows = np.flatnonzero(bad)
    if rows.size:
        row = int(rows[0])
        raise InputError(
            f"particle {row + 1}: {name} is {values[row]:g}, expected {expected} "
            f"({rows.size} of {bad.size} particles); correct the CTF columns of the STAR file"
        )


def _check_ranges(kv: FloatArray, cs: FloatArray, q0: FloatArray, du: FloatArray, dv: FloatArray) -> None:
    _check("the voltage (rlnVoltage)", ~(kv > 0), kv, "a positive number of kV")
    _check("the amplitude contrast (rlnAmplitudeContrast)", ~((q0 >= 0) & (q0 <= 1)), q0, "0 to 1")
    for name, values in (("rlnDefocusU", du), ("rlnDefocusV", dv), ("rlnSphericalAberration", cs)):
        _check(name, ~np.isfinite(values), values, "a finite number")
    empty = (du == 0) & (dv == 0) & (q0 == 0) & (cs == 0)
    together = "defocus, spherical aberration and amplitude contrast together"
    _check(together, empty, du, "at least one other than 0")


def ctf_coefficients(
    voltage_kV: float | FloatArray,
    cs_mm: float | FloatArray,
    amplitude_contrast: float | FloatArray,
    defocus_u_A: FloatArray,
    defocus_v_A: FloatArray,
    defocus_angle_deg: FloatArray,
    phase_shift_deg: float | FloatArray = 0.0,
    bfactor_A2: float | FloatArray = 0.0,
    scale: float | FloatArray = 1.0,
) -> NDArray[np.float64]:
    """Turn CTF parameters into the coefficients that evaluate it.

    Parameters
    ----------
    voltage_kV, cs_mm, amplitude_contrast : optics, scalars or (n,)
    defocus_u_A, defocus_v_A, defocus_angle_deg : (n,), positive is underfocus; the axis of u is at the angle
    phase_shift_deg, bfactor_A2, scale : scalars or (n,)

    Returns
    -------
    (n, 8) float64 [K1 Axx, 2 K1 Axy, K1 Ayy, K2, K3 + K5, K4, scale, 0] for frequencies in 1/angstrom.

    Raises
    ------
    InputError
        Amplitude contrast outside [0, 1], voltage not positive, or parameters that describe no CTF at all.
    """
    inputs = (voltage_kV, cs_mm, amplitude_contrast, defocus_u_A, defocus_v_A, defocus_angle_deg)
    given = [np.asarray(v, dtype=np.float64) for v in (*inputs, phase_shift_deg, bfactor_A2, scale)]
    kv, cs, q0, du, dv, angle, phase, bfactor, factor = np.broadcast_arrays(*given, np.zeros(1))[:9]
    _check_ranges(kv, cs, q0, du, dv)
    wavelength = wavelength_A(kv)
    k1 = np.pi * wavelength
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    out = np.zeros((kv.size, 8))
    out[:, 0] = -k1 * (du * cos * cos + dv * sin * sin)
    out[:, 1] = -2.0 * k1 * (du - dv) * cos * sin
    out[:, 2] = -k1 * (du * sin * sin + dv * cos * cos)
    out[:, 3] = 0.5 * np.pi * 1e7 * cs * wavelength**3
    # atan2 is atan(Q0 / sqrt(1 - Q0^2)) that also takes Q0 = 1
    out[:, 4] = np.arctan2(q0, np.sqrt(1.0 - q0 * q0)) + np.deg2rad(phase)
    out[:, 5] = -0.25 * bfactor
    out[:, 6] = factor
    return out


def ctf_gamma(
    kx: FloatArray,
    ky: FloatArray,
    coefficients: NDArray[np.float64],
    even_gamma: FloatArray | None = None,
) -> NDArray[np.float64]:
    """Phase of the CTF in radians; parameters as for `ctf`. Returns (n, n_pix) float64."""
    xp = module_of(coefficients).xp
    x, y = xp.asarray(kx, dtype=np.float64), xp.asarray(ky, dtype=np.float64)
    r2 = x * x + y * y
    basis = xp.stack([x * x, x * y, y * y, r2 * r2, xp.full_like(x, -1.0)])
    gamma = coefficients[:, :5] @ basis
    if even_gamma is not None:
        gamma += even_gamma
    return gamma


def ctf(
    kx: FloatArray,
    ky: FloatArray,
    coefficients: NDArray[np.float64],
    *,
    even_gamma: FloatArray | None = None,
    phase_flipped: bool = False,
    only_flip_phases: bool = False,
    intact_first_peak: bool = False,
    dtype: DTypeLike = np.float32,
) -> FloatArray:
    """Evaluate the CTF of many particles at the same frequencies.

    Parameters
    ----------
    kx, ky : (n_pix,) spatial frequencies in the units of the coefficients (1/angstrom), magnification
        matrix applied (`aberrations.magnify`)
    coefficients : (n, 8) from `ctf_coefficients`
    even_gamma : (n_pix,) or (n, n_pix) phase of the even aberrations in radians
    phase_flipped : take the absolute value (data whose phases were flipped)
    only_flip_phases : take the sign only
    intact_first_peak : leave out the oscillation where |gamma| < pi/2
    dtype : of the result; phases are always computed in double precision

    Returns
    -------
    (n, n_pix) array where the coefficients are, host or device, nowhere smaller than 1e-8 in magnitude.
    """
    xp = module_of(coefficients).xp
    gamma = ctf_gamma(kx, ky, coefficients, even_gamma)
    values = -xp.sin(gamma)
    if intact_first_peak:
        values[xp.abs(gamma) < 0.5 * np.pi] = 1.0
    if bool(coefficients[:, 5].any()):
        x, y = xp.asarray(kx, dtype=np.float64), xp.asarray(ky, dtype=np.float64)
        values *= xp.exp(coefficients[:, 5:6] * (x * x + y * y))
    if phase_flipped:
        values = xp.abs(values)
    if only_flip_phases:
        values = xp.where(values < 0, -1.0, 1.0)
    values *= coefficients[:, 6:7]
    small = xp.abs(values) < SMALLEST_CTF
    values[small] = xp.where(values[small] < 0, -SMALLEST_CTF, SMALLEST_CTF)
    return values.astype(dtype, copy=False)
