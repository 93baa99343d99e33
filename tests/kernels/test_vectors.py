"""Vector loads and additions against NumPy, at any alignment and in both precisions."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import pytest
from mpiapp.kernels.vectors import add_row_3, add_row_pair_3, sum_rows_4, sum_rows_8
from numpy.typing import NDArray


@numba.njit
def _four(array, i, w):  # type: ignore[no-untyped-def]
    return sum_rows_4(array, i[0], i[1], i[2], i[3], w[0], w[1], w[2], w[3])


@numba.njit
def _eight(array, i, w):  # type: ignore[no-untyped-def]
    return sum_rows_8(array, i[0], i[1], i[2], i[3], w[0], w[1], w[2], w[3])


@numba.njit
def _add(array, i, weight, values):  # type: ignore[no-untyped-def]
    add_row_3(array, i, weight, values[0], values[1], values[2])


@numba.njit
def _add_pair(array, i, weight, right, values):  # type: ignore[no-untyped-def]
    add_row_pair_3(array, i, weight, right, values[0], values[1], values[2])


@pytest.mark.parametrize(("sums", "width"), [(_four, 4), (_eight, 8)])
@pytest.mark.parametrize("first", range(8))
def test_sums_of_neighbours(sums: Callable[..., tuple[float, ...]], width: int, first: int) -> None:
    rng = np.random.default_rng(first)
    array = rng.normal(size=64).astype(np.float32)
    begin = np.array([first, first + 13, first + 30, 64 - width], np.uint64)
    weight = rng.normal(size=4).astype(np.float32)
    expected = sum(
        float(w) * array[int(i) : int(i) + width].astype(float) for i, w in zip(begin, weight, strict=True)
    )
    np.testing.assert_allclose(sums(array, begin, weight), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", [0, 3, 6])
def test_a_row_grows_by_three_values_and_no_other_changes(dtype: type, row: int) -> None:
    rng = np.random.default_rng(row)
    array: NDArray[np.floating] = rng.normal(size=(7, 4)).astype(dtype)
    values = rng.normal(size=3).astype(np.float32)
    expected = array.astype(float)
    expected[row, :3] += 0.37 * values.astype(float)
    _add(array, np.uint64(row), np.float32(0.37), values)
    np.testing.assert_allclose(array, expected, rtol=2e-7 if dtype is np.float32 else 2e-8, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", [0, 3, 5])
def test_two_rows_share_three_values_and_no_other_changes(dtype: type, row: int) -> None:
    rng = np.random.default_rng(row)
    array: NDArray[np.floating] = rng.normal(size=(7, 4)).astype(dtype)
    values = rng.normal(size=3).astype(np.float32)
    expected = array.astype(float)
    expected[row, :3] += 0.37 * 0.8 * values.astype(float)
    expected[row + 1, :3] += 0.37 * 0.2 * values.astype(float)
    _add_pair(array, np.uint64(row), np.float32(0.37), np.float32(0.2), values)
    np.testing.assert_allclose(array, expected, rtol=2e-7, atol=1e-7)
