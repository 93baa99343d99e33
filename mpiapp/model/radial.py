"""Filters and averages of half transforms that depend on |k| only, by way of the whole number |k|^2.

A box of N has no more than 3 (N/2)^2 + 1 different |k|^2. A filter is one weight for each of them, so a chain of
filters is a product of short vectors, and what it does to mean amplitudes follows without another transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.fourier import axis_frequencies

ComplexArray = NDArray[Any]


def radii(box: int) -> NDArray[np.float64]:
    """Square roots of 0 .. 3 (N/2)^2: |k| in Fourier pixels of every weight of a radial filter."""
    return np.sqrt(np.arange(3 * (box // 2) ** 2 + 1, dtype=np.float64))


def squared_planes(box: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each plane (index z) of a half transform with its |k|^2: (N, N//2 + 1) int64."""
    k2 = axis_frequencies(box) ** 2
    plane = k2[:, None] + np.arange(box // 2 + 1) ** 2
    for z in range(box):
        yield z, plane + k2[z]


def filter_radially(transform: ComplexArray, weights: NDArray[np.float64]) -> None:
    """Multiply a half transform in place by weights of |k|^2.

    Parameters
    ----------
    transform : (N, N, N//2 + 1) complex
    weights : (3 (N/2)^2 + 1,) values at `radii`
    """
    single = weights.astype(transform.real.dtype)
    for z, k2 in squared_planes(transform.shape[0]):
        transform[z] *= single[k2]


def amplitude_sums(transform: ComplexArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of |F| and number of stored elements for every |k|^2: two arrays of shape (3 (N/2)^2 + 1,)."""
    box = transform.shape[0]
    size = 3 * (box // 2) ** 2 + 1
    sums, counts = np.zeros(size), np.zeros(size, np.int64)
    for z, k2 in squared_planes(box):
        flat = k2.ravel()
        sums += np.bincount(flat, np.abs(transform[z]).ravel(), minlength=size)
        counts += np.bincount(flat, minlength=size)
    return sums, counts


def shell_of_squares(box: int) -> NDArray[np.int64]:
    """Shell round(|k|) of every |k|^2."""
    return np.floor(radii(box) + 0.5).astype(np.int64)
