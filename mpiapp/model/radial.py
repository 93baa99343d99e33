"""Filters and averages of half transforms that depend on |k| only, by way of the whole number |k|^2.

A box of N has no more than 3 (N/2)^2 + 1 different |k|^2. A filter is one weight for each of them, so a chain of
filters is a product of short vectors, and what it does to mean amplitudes follows without another transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import in_slabs, module_of, to_host
from mpiapp.model.fourier import axis_frequencies

ComplexArray = NDArray[Any]


def radii(box: int) -> NDArray[np.float64]:
    """Square roots of 0 .. 3 (N/2)^2: |k| in Fourier pixels of every weight of a radial filter."""
    return np.sqrt(np.arange(3 * (box // 2) ** 2 + 1, dtype=np.float64))


def _squares(transform: ComplexArray) -> tuple[Any, Any]:
    """|k|^2 of a half transform in two parts to be added: (N,) of its planes and (N, N//2 + 1) within a plane."""
    xp = module_of(transform).xp
    k2 = axis_frequencies(transform.shape[0]) ** 2
    return xp.asarray(k2), xp.asarray(k2[:, None] + np.arange(transform.shape[2]) ** 2)


def filter_radially(transform: ComplexArray, weights: NDArray[np.float64], *, workers: int = 1) -> None:
    """Multiply a half transform in place by weights of |k|^2.

    Parameters
    ----------
    transform : (N, N, N//2 + 1) complex
    weights : (3 (N/2)^2 + 1,) values at `radii`
    workers : threads
    """
    single = module_of(transform).xp.asarray(weights.astype(transform.real.dtype))
    z2, plane = _squares(transform)

    def work(part: slice) -> None:
        values = transform[part]
        values *= single[z2[part, None, None] + plane]

    in_slabs(work, transform, workers)


def amplitude_sums(
    transform: ComplexArray, *, workers: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of |F| and number of stored elements for every |k|^2: two arrays of shape (3 (N/2)^2 + 1,)."""
    arrays = module_of(transform)
    size = 3 * (transform.shape[0] // 2) ** 2 + 1
    z2, plane = _squares(transform)

    def work(part: slice) -> tuple[Any, Any]:
        index = (z2[part, None, None] + plane).ravel()
        values = abs(transform[part]).ravel()
        return arrays.bincount(index, values, size), arrays.bincount(index, None, size)

    sums, counts = zip(*in_slabs(work, transform, workers), strict=True)
    return np.asarray(to_host(sum(sums))), np.asarray(to_host(sum(counts)))


def shell_of_squares(box: int) -> NDArray[np.int64]:
    """Shell round(|k|) of every |k|^2."""
    return np.floor(radii(box) + 0.5).astype(np.int64)
