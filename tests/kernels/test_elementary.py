"""Single-precision sine and cosine against the library's."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from mpiapp.kernels.elementary import KERNEL, cos32, sin32


@numba.njit(**{**KERNEL, "cache": False})
def _both(x, sine, cosine):  # type: ignore[no-untyped-def]
    for n in range(x.size):
        sine[n] = sin32(x[n])
        cosine[n] = cos32(x[n])


# Largest error measured: 2.4e-7 (sine) and 3.5e-7 (cosine) up to 10 rad; the argument's own rounding adds to
# it beyond, 2^-24 of it for the cosine, whose quarter turn is added in single precision.
@pytest.mark.parametrize(("reach", "bound"), [(10.0, 1e-6), (400.0, 2e-5)])
def test_sine_and_cosine(reach: float, bound: float) -> None:
    x = np.linspace(-reach, reach, 200_001).astype(np.float32)
    sine, cosine = np.empty_like(x), np.empty_like(x)
    _both(x, sine, cosine)
    exact = x.astype(np.float64)
    assert np.abs(sine - np.sin(exact)).max() < bound
    assert np.abs(cosine - np.cos(exact)).max() < bound


def test_exact_places() -> None:
    x = np.array([0.0, np.pi / 2, -np.pi / 2, np.pi], np.float32)
    sine, cosine = np.empty_like(x), np.empty_like(x)
    _both(x, sine, cosine)
    np.testing.assert_allclose(sine, [0, 1, -1, 0], atol=3e-7)
    np.testing.assert_allclose(cosine, [1, 0, 0, -1], atol=3e-7)
