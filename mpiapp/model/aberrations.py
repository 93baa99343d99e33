"""Higher-order aberrations: Zernike terms, beam tilt and anisotropic magnification.

Frequencies are in 1/angstrom and not normalised: Z(x, y) = R(rho) cos(m phi), or R(rho) sin(|m| phi) for
m < 0. Even terms add to the phase of the CTF; odd terms are a phase of the image that is divided out once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import comb, floor, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.ctf import wavelength_A

FloatArray = NDArray[Any]


def even_order(index: int) -> tuple[int, int]:
    """Return (m, n) of the even Zernike coefficient at a position of rlnEvenZernike."""
    k = floor(sqrt(index))
    return 2 * (index - k * k - k), 2 * k


def odd_order(index: int) -> tuple[int, int]:
    """Return (m, n) of the odd Zernike coefficient at a position of rlnOddZernike."""
    k = floor((sqrt(1 + 4 * index) - 1) / 2)
    n = 2 * k + 1
    return 2 * (index - k * k - k) - n, n


@lru_cache(maxsize=256)
def radial_coefficients(m: int, n: int) -> tuple[float, ...]:
    """Coefficients c_j of R(rho) / rho^|m| = sum_j c_j rho^(2j), from j = 0 to (n - |m|)/2."""
    m = abs(m)
    if n < m or (n - m) % 2:
        raise ValueError(f"there is no Zernike polynomial with m = {m}, n = {n}")
    half = (n - m) // 2
    # the factorials of the definition are a product of two binomials
    terms = [(-1.0) ** k * comb(n - k, k) * comb(n - 2 * k, half - k) for k in range(half + 1)]
    return tuple(reversed(terms))


def zernike(m: int, n: int, x: FloatArray, y: FloatArray) -> NDArray[np.float64]:
    """Evaluate one Zernike term at frequencies x, y (any equal shapes); returns float64."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    radial = np.polynomial.polynomial.polyval(x * x + y * y, radial_coefficients(m, n))
    # rho^|m| cos(m phi) and sin are the parts of (x + i y)^|m|: no angle is needed
    angular = (x + 1j * y) ** abs(m)
    return np.asarray(radial * (angular.imag if m < 0 else angular.real))


def even_gamma(coefficients: Sequence[float], x: FloatArray, y: FloatArray) -> NDArray[np.float64]:
    """Phase in radians that even Zernike coefficients add to the CTF's gamma, shape of x and y."""
    return _zernike_sum(even_order, coefficients, x, y)


def odd_phase(coefficients: Sequence[float], x: FloatArray, y: FloatArray) -> NDArray[np.float64]:
    """Phase in radians of the odd Zernike coefficients, shape of x and y."""
    return _zernike_sum(odd_order, coefficients, x, y)


def _zernike_sum(
    order: Callable[[int], tuple[int, int]], coefficients: Sequence[float], x: FloatArray, y: FloatArray
) -> NDArray[np.float64]:
    total = np.zeros(np.shape(x))
    for index, value in enumerate(coefficients):
        if value != 0:
            total += value * zernike(*order(index), x, y)
    return total


def demodulation(coefficients: Sequence[float], x: FloatArray, y: FloatArray) -> NDArray[np.complex64]:
    """Return the factor exp(-i psi_odd) that removes odd aberrations from an image transform."""
    return np.asarray(np.exp(-1j * odd_phase(coefficients, x, y)), dtype=np.complex64)


def fold_beam_tilt(
    odd_zernike: Sequence[float], beam_tilt_mrad: Sequence[float], voltage_kV: float, cs_mm: float
) -> tuple[float, ...]:
    """Add the phase of a beam tilt to odd Zernike coefficients.

    A tilt t gives the phase -2 pi Cs lambda^2 rho^2 (t . k): a coma Z(+-1, 3) and a tilt Z(+-1, 1).

    Parameters
    ----------
    odd_zernike : coefficients, may be empty
    beam_tilt_mrad : (x, y) in mrad
    voltage_kV, cs_mm : optics

    Returns
    -------
    Coefficients, at least 6 of them unless the tilt is 0 (then the input, unchanged).
    """
    tilt_x, tilt_y = (float(t) for t in beam_tilt_mrad)
    if tilt_x == 0 and tilt_y == 0:
        return tuple(float(c) for c in odd_zernike)
    # 20000 pi = 2 pi * 1e7 (Cs in angstrom) * 1e-3 (mrad)
    strength = 20000.0 * np.pi * cs_mm * float(wavelength_A(voltage_kV)) ** 2
    coma_x, coma_y = -strength * tilt_x / 3.0, -strength * tilt_y / 3.0
    out = [float(c) for c in odd_zernike] + [0.0] * (6 - len(odd_zernike))
    for index, value in ((0, 2 * coma_y), (1, 2 * coma_x), (3, coma_y), (4, coma_x)):
        out[index] += value
    return tuple(out)


def magnify(kx: FloatArray, ky: FloatArray, matrix: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Apply an anisotropic magnification (m00, m01, m10, m11) to frequencies: k' = M k."""
    m00, m01, m10, m11 = matrix
    return m00 * kx + m01 * ky, m10 * kx + m11 * ky
