"""Images turned in their plane: transforms read at turned frequencies, CTFs evaluated there, shifts as phases.

Twins in float64: ``mpiapp.model.interpolation.sample_plane``, ``mpiapp.model.ctf``.
Rows hold real parts, then imaginary parts: (2, n_pix) float32, so that Re(conj(a) b) is a dot product.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL, cos32, sin32
from mpiapp.kernels.vectors import sum_rows_8

from mpiapp.model.interpolation import DEGREE, OVERSAMPLING, WIDTH, window_polynomials

assert WIDTH == 4
assert DEGREE == 7
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7 = (np.float32(c) for c in window_polynomials()[0])
_B0, _B1, _B2, _B3, _B4, _B5, _B6, _B7 = (np.float32(c) for c in window_polynomials()[1])
_PAD = np.float32(OVERSAMPLING)
_U2, _U3 = np.uint64(2), np.uint64(3)
_I1 = np.int32(1)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO_PI = np.float32(2.0 * np.pi)


@numba.njit(inline="always", **JIT)
def _outer(f: np.float32) -> np.float32:
    """Window at distance 1 + f."""
    return ((((((_A0 * f + _A1) * f + _A2) * f + _A3) * f + _A4) * f + _A5) * f + _A6) * f + _A7


@numba.njit(inline="always", **JIT)
def _inner(f: np.float32) -> np.float32:
    """Window at distance f."""
    return ((((((_B0 * f + _B1) * f + _B2) * f + _B3) * f + _B4) * f + _B5) * f + _B6) * f + _B7


@numba.njit(**KERNEL)
def turn_weights(radius, g00, g01, g10, g11, qx, qy, index, sign, weights):  # type: ignore[no-untyped-def]
    """Where the pixels q of the model plane fall in a padded transform: k = G q.

    Parameters
    ----------
    radius : int, R of the plane (2 R + 1, R + 3): rows k_y = -R .. R, columns k_x = -2 .. R.
    g00 .. g11 : float32, the 2 x 2 matrix G (in-plane turn, magnification, box ratio).
    qx, qy : (n_pix,) float32 model-plane pixels.
    index, sign, weights : (n_pix,) int32, (n_pix,) float32, (8, n_pix) float32
        Written: first sample read, -1 where the mirror half is read, four weights along x and four along y.
    """
    nx = np.int32(radius + 3)
    r32 = np.int32(radius)
    for p in range(qx.size):
        ux = _PAD * (g00 * qx[p] + g01 * qy[p])
        uy = _PAD * (g10 * qx[p] + g11 * qy[p])
        s = _ONE if ux >= _ZERO else -_ONE
        ux = ux * s
        uy = uy * s
        x0 = np.floor(ux)
        y0 = np.floor(uy)
        fx = ux - x0
        fy = uy - y0
        weights[0, p] = _outer(fx)
        weights[1, p] = _inner(fx)
        weights[2, p] = _inner(_ONE - fx)
        weights[3, p] = _outer(_ONE - fx)
        weights[4, p] = _outer(fy)
        weights[5, p] = _inner(fy)
        weights[6, p] = _inner(_ONE - fy)
        weights[7, p] = _outer(_ONE - fy)
        sign[p] = s
        index[p] = np.int32(np.int32(np.int32(y0) + r32 - _I1) * nx) + np.int32(x0) + _I1


@numba.njit(**JIT)
def turn_image(plane, radius, index, sign, weights, out_re, out_im):  # type: ignore[no-untyped-def]
    """Read a padded transform where :func:`turn_weights` says.

    Four neighbours with both their parts are one contiguous load of eight numbers: three times faster
    than gathering them (measured).

    Parameters
    ----------
    plane : (2 (2 R + 1) (R + 3),) float32, real and imaginary parts interleaved.
    out_re, out_im : (n_pix,) float32, written.
    """
    step = np.uint64(2 * (radius + 3))
    for p in range(index.size):
        b = np.uint64(index[p]) * _U2
        a0, a1, a2, a3, a4, a5, a6, a7 = sum_rows_8(
            plane,
            b,
            b + step,
            b + _U2 * step,
            b + _U3 * step,
            weights[4, p],
            weights[5, p],
            weights[6, p],
            weights[7, p],
        )
        w0 = weights[0, p]
        w1 = weights[1, p]
        w2 = weights[2, p]
        w3 = weights[3, p]
        out_re[p] = a0 * w0 + a2 * w1 + a4 * w2 + a6 * w3
        out_im[p] = sign[p] * (a1 * w0 + a3 * w1 + a5 * w2 + a7 * w3)


@numba.njit(**KERNEL)
def turned_ctf(coefficients, cos_psi, sin_psi, sx, sy, gamma_even, out):  # type: ignore[no-untyped-def]
    """CTF at the turned pixels of the model plane (refinement.md 3.1).

    Parameters
    ----------
    coefficients : (8,) float32
        K1 Axx, 2 K1 Axy, K1 Ayy, K2, K3 + K5, K4, scale, unused (``mpiapp.model.ctf.ctf_coefficients``).
    cos_psi, sin_psi : float32
    sx, sy : (n_pix,) float32
        Model-plane frequencies in 1/A.
    gamma_even : (n_pix,) float32 or empty
        Phase offset of even aberrations at the turned pixels, radians.
    out : (n_pix,) float32, written.
    """
    axx = coefficients[0]
    axy = coefficients[1]
    ayy = coefficients[2]
    k2 = coefficients[3]
    k35 = coefficients[4]
    k4 = coefficients[5]
    scale = coefficients[6]
    if gamma_even.size == 0:
        for p in range(sx.size):
            x = cos_psi * sx[p] + sin_psi * sy[p]
            y = cos_psi * sy[p] - sin_psi * sx[p]
            s2 = x * x + y * y
            out[p] = -scale * sin32(axx * x * x + axy * x * y + ayy * y * y + k2 * s2 * s2 - k35)
    else:
        for p in range(sx.size):
            x = cos_psi * sx[p] + sin_psi * sy[p]
            y = cos_psi * sy[p] - sin_psi * sx[p]
            s2 = x * x + y * y
            out[p] = -scale * sin32(
                axx * x * x + axy * x * y + ayy * y * y + k2 * s2 * s2 - k35 + gamma_even[p]
            )
    if k4 != _ZERO:
        for p in range(sx.size):
            out[p] *= np.exp(k4 * (sx[p] * sx[p] + sy[p] * sy[p]))


@numba.njit(**KERNEL)
def shift_row(base_re, base_im, qx, qy, tx, ty, out_re, out_im):  # type: ignore[no-untyped-def]
    """Multiply a row by exp(-2 pi i (q_x t_x + q_y t_y)); t in cycles per pixel of the model plane."""
    for p in range(qx.size):
        angle = -_TWO_PI * (qx[p] * tx + qy[p] * ty)
        c = cos32(angle)
        s = sin32(angle)
        out_re[p] = base_re[p] * c - base_im[p] * s
        out_im[p] = base_re[p] * s + base_im[p] * c
