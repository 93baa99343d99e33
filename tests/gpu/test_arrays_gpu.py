"""Arrays on their way to the device and back, and the science on device arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpiapp.backend.gpu import GpuBackend
from mpiapp.backend.gpu_arrays import LARGE_BYTES
from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.ctf import ctf, ctf_coefficients
from mpiapp.model.filters import gridding_correction
from mpiapp.model.masks import soft_sphere

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def backend() -> GpuBackend:
    return GpuBackend()


@pytest.mark.parametrize("side", [4, 80])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
def test_there_and_back(backend: GpuBackend, side: int, dtype: Any) -> None:
    values = np.random.default_rng(1).normal(size=(side, side, side)).astype(dtype)
    assert (values.nbytes >= LARGE_BYTES) == (side == 80)
    strided = values.transpose(2, 0, 1)[::2]
    for array in (values, strided):
        there = backend.to_device(array)
        np.testing.assert_array_equal(to_host(there), array)
        np.testing.assert_array_equal(to_host(there.T), array.T)
    there = backend.to_device(values)
    values[:] = 0  # the copy is made when the call returns
    assert to_host(abs(there).max()) > 0


def test_masks_and_corrections(backend: GpuBackend) -> None:
    with backend.device:
        xp = module_of(backend.to_device(np.zeros(1))).xp
        np.testing.assert_array_equal(to_host(soft_sphere(40, 12.3, 5, xp)), soft_sphere(40, 12.3, 5))
        np.testing.assert_array_equal(
            to_host(gridding_correction(40, 80, xp=xp)), gridding_correction(40, 80)
        )


def test_ctf(backend: GpuBackend) -> None:
    rng = np.random.default_rng(2)
    n = 7
    defocus = rng.uniform(5e3, 3e4, n)
    one = np.ones(n)
    coefficients = ctf_coefficients(
        300 * one, 2.7 * one, 0.1 * one, defocus, defocus + 300, 30 * one, 0 * one, 50 * one, one
    )
    kx, ky = rng.uniform(-0.3, 0.3, (2, 500))
    with backend.device:
        found = ctf(*map(backend.to_device, (kx, ky, coefficients)), dtype=np.float64)
    np.testing.assert_allclose(to_host(found), ctf(kx, ky, coefficients, dtype=np.float64), atol=1e-9)
