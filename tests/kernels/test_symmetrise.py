"""Summing accumulators over a point group against direct evaluation, point by point."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from mpiapp.backend.cpu import CpuBackend
from mpiapp.model.projection import squared_radius
from mpiapp.model.reconstruct import hermitian_sum
from mpiapp.model.symmetry import point_group

RADIUS = 9


def random_sums(rng: np.random.Generator) -> NDArray[np.float64]:
    """Accumulators inside their sphere, with the two copies of the plane x = 0 added up."""
    shape = (2 * RADIUS + 1, 2 * RADIUS + 1, RADIUS + 1)
    sums = rng.normal(size=(*shape, 3))
    sums[squared_radius(RADIUS) > (RADIUS - 1) ** 2] = 0
    hermitian_sum(sums)
    sums[RADIUS, RADIUS, 0, 1] = 0
    return sums


def whole(sums: NDArray[np.float64]) -> NDArray[np.complex128]:
    """D and W on the full grid, (2, z, y, x), from the half with x >= 0."""
    half = np.stack([sums[..., 0] + 1j * sums[..., 1], sums[..., 2] + 0j])
    return np.concatenate([half[:, ::-1, ::-1, :0:-1].conj(), half], axis=-1)


def directly(sums: NDArray[np.float64], operators: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over all operators of the trilinear value at R u, by another library's interpolation."""
    full = whole(sums)
    z, y, x = np.meshgrid(*[np.arange(-RADIUS, RADIUS + 1)] * 2, np.arange(RADIUS + 1), indexing="ij")
    point = np.stack([x, y, z]).reshape(3, -1)
    out = np.zeros_like(sums)
    for operator in operators:
        qx, qy, qz = operator @ point
        where = np.stack([qz, qy, qx]) + RADIUS
        for channel, part in enumerate((full[0].real, full[0].imag, full[1].real)):
            read = map_coordinates(part, where, order=1, mode="constant")
            out[..., channel] += read.reshape(sums.shape[:3])
    out[squared_radius(RADIUS) > (RADIUS - 1) ** 2] = 0
    return out


@pytest.mark.parametrize("name", ["C3", "D2", "T", "O", "I1"])
def test_sums_over_the_group(name: str, rng: np.random.Generator) -> None:
    group = point_group(name)
    sums = random_sums(rng)
    backend = CpuBackend(2)
    found = backend.symmetrise(sums, group, 2.0)
    backend.pool.shutdown()
    np.testing.assert_allclose(found, directly(sums, group.operators), atol=1e-10)


def test_no_symmetry_changes_nothing(rng: np.random.Generator) -> None:
    sums = random_sums(rng)
    before = sums.copy()
    assert CpuBackend(1).symmetrise(sums, point_group("C1"), 2.0) is sums
    np.testing.assert_array_equal(sums, before)


def test_quarter_turns_permute_the_grid(rng: np.random.Generator) -> None:
    """C4 takes grid points to grid points, so no interpolation is left: the result is exactly invariant."""
    found = CpuBackend(1).symmetrise(random_sums(rng), point_group("C4"), 2.0)
    full = whole(found)
    np.testing.assert_allclose(np.rot90(full, axes=(2, 3)), full, atol=1e-12)
