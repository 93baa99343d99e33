"""Reading and writing the padded transform against the float64 twins; one is the adjoint of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from mpiapp.kernels.slicing import insert_rows, slice_directions
from numpy.typing import NDArray

from mpiapp.model.pixels import PixelList, pixel_list
from mpiapp.model.projection import grid_radius, insert_slices, slice_volume, squared_radius
from mpiapp.model.reconstruct import hermitian_sum
from mpiapp.model.rotations import euler_to_matrix

R_MAX, N_DIR = 11, 40


@dataclass
class Setting:
    """A random padded transform and directions to read it at."""

    padding: float
    radius: int
    volume: NDArray[np.complex64]
    matrices: NDArray[np.float32]
    pixels: PixelList

    @property
    def plane(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """k_x and k_y of the pixels."""
        return self.pixels.kx.astype(np.float32), self.pixels.ky.astype(np.float32)


@pytest.fixture(params=[2.0, 1.0, 1.5], ids=["padded twice", "not padded", "padded by half"])
def setting(request: pytest.FixtureRequest, rng: np.random.Generator) -> Setting:
    padding = request.param
    radius = grid_radius(R_MAX, padding)
    shape = (2 * radius + 1, 2 * radius + 1, radius + 1)
    volume = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    volume[squared_radius(radius) > (radius - 1) ** 2] = 0
    volume[:, :, 0] += volume[::-1, ::-1, 0].conj()  # the transform of a real map
    angles = rng.uniform(-180, 180, (3, N_DIR))
    # the axes are where positions fall on grid points and on the mirror plane
    angles[:, :4] = [[0, 90, 180, 0], [0, 90, 90, 180], [0, 0, 0, 45]]
    matrices = euler_to_matrix(*angles).astype(np.float32)
    return Setting(padding, radius, volume.astype(np.complex64), matrices, pixel_list(R_MAX))


def sliced(s: Setting) -> NDArray[np.complex128]:
    out = np.empty((N_DIR, 2, len(s.pixels)), np.float32)
    slice_directions(
        s.volume.view(np.float32).ravel(), s.radius, np.float32(s.padding), s.matrices, *s.plane, out
    )
    return out[:, 0].astype(float) + 1j * out[:, 1]


def inserted(s: Setting, values: NDArray, weights: NDArray, dtype: type = np.float64) -> NDArray:
    rows = np.stack([values.real, values.imag, weights], axis=1).astype(np.float32)
    grid = np.zeros((s.volume.size, 4), dtype)
    insert_rows(rows, s.matrices, *s.plane, s.radius, np.float32(s.padding), grid)
    return grid.reshape(*s.volume.shape, 4)


def test_slices_are_those_of_the_twin(setting: Setting) -> None:
    expected = slice_volume(setting.volume, setting.padding, setting.matrices, *setting.plane)
    # measured: 5e-6 at most, the rounding of positions in single precision
    print("slice", np.abs(sliced(setting) - expected).max())
    np.testing.assert_allclose(sliced(setting), expected, atol=3e-5)


def test_inserted_rows_are_those_of_the_twin(setting: Setting, rng: np.random.Generator) -> None:
    shape = (N_DIR, len(setting.pixels))
    values, weights = rng.normal(size=shape) + 1j * rng.normal(size=shape), rng.uniform(size=shape)
    values[:, 0] = values[:, 0].real  # the mean of an image
    data, weight = insert_slices(
        values, weights, setting.radius, setting.padding, setting.matrices, *setting.plane
    )
    grid = inserted(setting, values, weights)
    assert not grid[..., 3].any()
    # a sample at x = 0 may enter either copy of that plane: rounding decides, and the M-step adds them up
    found, expected = grid[..., :3].copy(), np.stack([data.real, data.imag, weight], axis=-1)
    hermitian_sum(found)
    hermitian_sum(expected)
    print("insert", np.abs(found - expected).max())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_insertion_adds_to_what_is_there(setting: Setting, rng: np.random.Generator) -> None:
    values = rng.normal(size=(N_DIR, len(setting.pixels))) + 0j
    once = inserted(setting, values, np.ones(values.shape), np.float32)
    rows = np.stack([values.real, values.imag, np.ones(values.shape)], axis=1).astype(np.float32)
    grid = once.reshape(-1, 4).copy()
    insert_rows(rows, setting.matrices, *setting.plane, setting.radius, np.float32(setting.padding), grid)
    np.testing.assert_allclose(grid, 2 * once.reshape(-1, 4), atol=1e-4)


def test_insertion_is_the_adjoint_of_slicing(setting: Setting, rng: np.random.Generator) -> None:
    """<P x, y> = <x, P^T y> as real spaces: complex conjugates in the mirror half change no inner product."""
    y = rng.normal(size=(N_DIR, len(setting.pixels))) + 1j * rng.normal(size=(N_DIR, len(setting.pixels)))
    grid = inserted(setting, y, np.zeros(y.shape))
    back = grid[..., 0] + 1j * grid[..., 1]
    image_side = np.vdot(y, sliced(setting)).real
    volume_side = np.vdot(back, setting.volume).real
    scale = np.linalg.norm(y) * np.linalg.norm(sliced(setting))
    # measured 1e-8 of the product of norms
    print("adjoint", abs(image_side - volume_side) / scale)
    assert abs(image_side - volume_side) < 1e-6 * scale


def test_weights_of_a_slice_sum_to_its_pixels(setting: Setting) -> None:
    ones = np.ones((N_DIR, len(setting.pixels)))
    grid = inserted(setting, ones, ones)
    assert grid[..., 2].sum() == pytest.approx(ones.sum(), rel=1e-6)
