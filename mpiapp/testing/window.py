"""The interpolation window of the simulator, and gridding with it: off-grid points to and from a 3D grid.

The window is the "exponential of semicircle" of Barnett, Magland & af Klinteberg (SIAM J. Sci. Comput. 41,
2019), used here as a non-uniform Fourier transform: dividing by the window's own transform on one side makes
interpolation on the other side nearly exact. It shares nothing with the trilinear scheme of the refinement
engine, so that each can check the other.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray


def window_shape(width: int, padding: float) -> float:
    """Shape beta of a window ``width`` grid points wide, for a grid oversampled ``padding`` times.

    The error of the transform is about ``exp(-pi width sqrt(1 - 1/padding))`` (same paper, section 4).
    """
    return 0.976 * math.pi * width * (1.0 - 0.5 / padding)


def window_transform(x: NDArray[np.float64], width: int, beta: float) -> NDArray[np.float64]:
    """Fourier transform of the window at frequencies ``x`` in cycles per grid point, by quadrature.

    Parameters
    ----------
    x : any shape, float64
    width, beta : window width in grid points and its shape from :func:`window_shape`

    Returns
    -------
    same shape, float64
    """
    nodes, weights = np.polynomial.legendre.leggauss(2 * width + 24)
    half = width / 2.0
    values = np.exp(beta * (np.sqrt(np.maximum(1.0 - nodes**2, 0.0)) - 1.0)) * weights * half
    transform: NDArray[np.float64] = np.cos(2.0 * np.pi * np.multiply.outer(x, nodes * half)) @ values
    return transform


@numba.njit(cache=True, nogil=True)  # type: ignore[misc, untyped-decorator]
def _window_weights(position: float, width: int, beta: float, out: NDArray[np.float64]) -> int:
    """Fill ``out`` (width,) with the window about ``position``; returns the grid index it starts at."""
    first = math.ceil(position - 0.5 * width)
    for k in range(width):
        z = (first + k - position) * 2.0 / width
        out[k] = math.exp(beta * (math.sqrt(max(1.0 - z * z, 0.0)) - 1.0))
    return first


@numba.njit(cache=True, nogil=True)  # type: ignore[misc, untyped-decorator]
def gather(
    grid: NDArray[np.complex64],
    margin: int,
    points: NDArray[np.float64],
    width: int,
    beta: float,
    out: NDArray[np.complex64],
) -> None:
    """Interpolate a Hermitian grid at points.

    Parameters
    ----------
    grid : (P, P, P//2 + 1 + 2 margin) complex64, [z, y, x]; z and y periodic in FFT order,
        column j holds x = j - margin (columns beyond both ends filled in by symmetry)
    margin : at least width/2 + 1
    points : (m, 3) float64, x, y, z in grid units, |component| <= P/2
    width, beta : of the window
    out : (m,) complex64, written
    """
    size = grid.shape[0]
    wx, wy, wz = np.empty(width), np.empty(width), np.empty(width)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        mirrored = x < 0.0
        if mirrored:
            x, y, z = -x, -y, -z
        x0 = _window_weights(x, width, beta, wx) + margin
        y0 = _window_weights(y, width, beta, wy)
        z0 = _window_weights(z, width, beta, wz)
        real, imag = 0.0, 0.0
        for c in range(width):
            plane = grid[(z0 + c) % size]
            for b in range(width):
                row = plane[(y0 + b) % size]
                row_real, row_imag = 0.0, 0.0
                for a in range(width):
                    row_real += wx[a] * row[x0 + a].real
                    row_imag += wx[a] * row[x0 + a].imag
                real += wz[c] * wy[b] * row_real
                imag += wz[c] * wy[b] * row_imag
        out[i] = complex(real, -imag if mirrored else imag)


@numba.njit(cache=True, nogil=True)  # type: ignore[misc, untyped-decorator]
def scatter(
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    width: int,
    beta: float,
    grid: NDArray[np.float32],
) -> None:
    """Spread weighted points onto a periodic grid.

    Parameters
    ----------
    points : (m, 3) float64, x, y, z in grid units, any range (wrapped)
    weights : (m,) float64
    width, beta : of the window
    grid : (P, P, P) float32, [z, y, x], added to
    """
    size = grid.shape[0]
    wx, wy, wz = np.empty(width), np.empty(width), np.empty(width)
    for i in range(points.shape[0]):
        x0 = _window_weights(points[i, 0], width, beta, wx)
        y0 = _window_weights(points[i, 1], width, beta, wy)
        z0 = _window_weights(points[i, 2], width, beta, wz)
        for c in range(width):
            for b in range(width):
                amount = weights[i] * wz[c] * wy[b]
                for a in range(width):
                    grid[(z0 + c) % size, (y0 + b) % size, (x0 + a) % size] += amount * wx[a]
