"""Preparing particle images for the expectation step (refinement.md 4.2, engine.md 6).

A prepared image is its transform, sampled twice as finely as its box needs, cropped to what an in-plane turn reads,
and divided in real space by the transform of the interpolation window.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mpiapp.model.interpolation import OVERSAMPLING, WIDTH, kaiser_transform, plane_radius
from mpiapp.model.pixels import pixel_list

MARGIN = WIDTH // 2


def plane_shape(radius: int) -> tuple[int, int]:
    """Rows and columns of a prepared plane for frequencies up to ``radius`` pixels of the image."""
    reach = plane_radius(radius)
    return 2 * reach + 1, reach + 1 + MARGIN


@lru_cache(maxsize=8)
def _window_correction(box: int) -> NDArray[np.float32]:
    h = kaiser_transform(box)
    return (1.0 / (h[:, None] * h * box**2)).astype(np.float32)


def padded_planes(images: NDArray[np.float32], radius: int) -> NDArray[np.complex64]:
    """Padded transforms of centred images up to a radius, ready to be read at turned frequencies.

    Each axis is transformed only where the input is not zero and the output is kept.

    Parameters
    ----------
    images : (n, L, L) float32, centre at pixel L / 2.
    radius : highest frequency that will be read, in pixels of the L-box transform.

    Returns
    -------
    (n, 2 R + 1, R + 3) complex64: rows k_y = -R .. R, columns k_x = -2 .. R, R = plane_radius(radius).
    """
    box = images.shape[-1]
    size = OVERSAMPLING * box
    reach = plane_radius(radius)
    columns = min(reach, box) + 1
    ramp = np.exp(2j * np.pi * np.arange(size) * (box // 2) / size).astype(np.complex64)
    data: Any = fft.rfft(images * _window_correction(box), n=size, axis=2)[:, :, :columns] * ramp[:columns]
    data = fft.fft(data, n=size, axis=1, overwrite_x=True)
    rows = np.arange(-reach, reach + 1)
    out = np.empty((images.shape[0], *plane_shape(radius)), np.complex64)
    # k_y of both signs have the same ramp up to a full turn only for the true coordinate, hence rows % size on it too
    row_ramp = np.exp(2j * np.pi * rows * (box // 2) / size).astype(np.complex64)[:, None]
    out[:, :, MARGIN : MARGIN + columns] = data[:, rows % size] * row_ramp
    out[:, :, :MARGIN] = np.conj(out[:, ::-1, 2 * MARGIN : MARGIN : -1])
    for column in range(columns, reach + 1):
        # beyond Nyquist the transform repeats: F(k_x) = F(k_x - size) = conj F(size - k_x, -k_y)
        other = size - column
        sign = np.exp(2j * np.pi * (column + other) * (box // 2) / size)
        out[:, :, MARGIN + column] = np.conj(out[:, ::-1, MARGIN + other]) * np.complex64(sign)
    return out


def shell_power(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of |X|^2 over the half plane by shell 0 .. L / 2, of images with transforms divided by L^2: (n, L / 2 + 1)."""
    box = images.shape[-1]
    pixels = pixel_list(box // 2, whole_shells=True, box=box)
    transform = fft.rfft2(images).reshape(len(images), -1)[:, pixels.half_index(box)]
    power = transform.real.astype(np.float64) ** 2 + transform.imag.astype(np.float64) ** 2
    sums: NDArray[np.float64] = np.add.reduceat(power, pixels.shell_start[:-1], axis=1)
    return sums / float(box) ** 4
