"""Reading and writing the padded transform against the float64 twins; one is the adjoint of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from mpiapp.kernels.arguments import Grid
from mpiapp.kernels.insertion import insert_image, insert_plane
from mpiapp.kernels.slicing import CHUNK, slice_directions
from numpy.typing import NDArray

from mpiapp.model.averages import hermitian_sum_planes, insert_planes
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


@dataclass
class Rows:
    """One image at several orientations as the kernel takes it."""

    mean: NDArray[np.complex64]  # (n, n_pix)
    total: NDArray[np.float32]  # (n,) weights of the orientations
    factor: NDArray[np.float32]  # (n_pix,)
    power: NDArray[np.float32]  # (n_pix,)

    @classmethod
    def random(cls, s: Setting, rng: np.random.Generator, n: int = N_DIR) -> Rows:
        mean = rng.normal(size=(n, len(s.pixels))) + 1j * rng.normal(size=(n, len(s.pixels)))
        mean[:, 0] = mean[:, 0].real  # the mean of an image
        total, factor, power = (rng.uniform(0.1, 1, m).astype(np.float32) for m in (n, *[len(s.pixels)] * 2))
        return cls(mean.astype(np.complex64), total, factor, power)


def insert(
    s: Setting,
    rows: Rows,
    matrices: NDArray[np.float32],
    values: NDArray,
    classes: int = 1,
    planar: bool = False,
) -> None:
    """Insert all rows into (classes * size, 4) accumulators, in turn into those of each class."""
    size = len(values) // classes
    grid = Grid(
        values,
        size,
        planar,
        s.radius,
        np.float32(s.padding),
        np.empty(0, np.float32),
        np.empty(CHUNK, np.int32),
        (np.arange(CHUNK) % classes * size).astype(np.uint64),
        np.empty((4, CHUNK), np.float32),
    )
    function = insert_plane if planar else insert_image
    step = CHUNK - CHUNK % classes
    for start in range(0, len(rows.mean), step):
        part = slice(start, start + step)
        mean = np.concatenate([rows.mean[part].real, rows.mean[part].imag], axis=1)
        orientation = np.zeros((6, CHUNK), np.float32)
        orientation[:, : len(mean)] = matrices[part, :2].reshape(-1, 6).T
        function(mean, rows.total[part], rows.factor, rows.power, orientation, *s.plane, grid)


def test_slices_are_those_of_the_twin(setting: Setting) -> None:
    expected = slice_volume(setting.volume, setting.padding, setting.matrices, *setting.plane)
    # measured: 5e-6 at most, the rounding of positions in single precision
    np.testing.assert_allclose(sliced(setting), expected, atol=3e-5)


@pytest.mark.parametrize("n", [1, 7, 8, N_DIR])  # few orientations go another way than many
def test_inserted_images_are_those_of_the_twin(setting: Setting, rng: np.random.Generator, n: int) -> None:
    rows, matrices = Rows.random(setting, rng, n), setting.matrices[:n]
    grid = np.zeros((setting.volume.size, 4))
    insert(setting, rows, matrices, grid)
    data, weight = insert_slices(
        rows.factor * rows.mean,
        rows.total[:, None] * rows.power,
        setting.radius,
        setting.padding,
        matrices,
        *setting.plane,
    )
    assert not grid[:, 3].any()
    # a sample at x = 0 may enter either copy of that plane: rounding decides, and the M-step adds them up
    found = grid[:, :3].reshape(*data.shape, 3).copy()
    expected = np.stack([data.real, data.imag, weight], axis=-1)
    hermitian_sum(found)
    hermitian_sum(expected)
    # measured 4e-6
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_insertion_adds_to_what_is_there(setting: Setting, rng: np.random.Generator) -> None:
    rows = Rows.random(setting, rng)
    grid = np.zeros((setting.volume.size, 4), np.float32)
    insert(setting, rows, setting.matrices, grid)
    once = grid.copy()
    insert(setting, rows, setting.matrices, grid)
    np.testing.assert_allclose(grid, 2 * once, atol=1e-4)


def test_insertion_is_the_adjoint_of_slicing(setting: Setting, rng: np.random.Generator) -> None:
    """<P x, y> = <x, P^T y> as real spaces: complex conjugates in the mirror half change no inner product."""
    rows = Rows.random(setting, rng)
    rows.factor[:] = 1
    grid = np.zeros((setting.volume.size, 4))
    insert(setting, rows, setting.matrices, grid)
    image_side = np.vdot(rows.mean, sliced(setting)).real
    volume_side = np.vdot(grid[:, 0] + 1j * grid[:, 1], setting.volume.ravel()).real
    # measured 1e-9 of the product of norms
    assert abs(image_side - volume_side) < 1e-7 * np.linalg.norm(rows.mean) * np.linalg.norm(sliced(setting))


def test_no_weight_is_lost(setting: Setting, rng: np.random.Generator) -> None:
    rows = Rows.random(setting, rng, 3)
    grid = np.zeros((setting.volume.size, 4))
    insert(setting, rows, setting.matrices[:3], grid)
    assert grid[:, 2].sum() == pytest.approx(float(rows.total.sum() * rows.power.sum()), rel=1e-5)


def test_classes_are_kept_apart(setting: Setting, rng: np.random.Generator) -> None:
    """Row n goes into the grid of class n % 3, and there it is what it would be alone."""
    rows = Rows.random(setting, rng)
    size = setting.volume.size
    together = np.zeros((3 * size, 4))
    insert(setting, rows, setting.matrices, together, classes=3)
    for k in range(3):
        alone = np.zeros((size, 4))
        mine = Rows(rows.mean[k::3], rows.total[k::3], rows.factor, rows.power)
        insert(setting, mine, setting.matrices[k::3], alone)
        np.testing.assert_allclose(together[k * size : (k + 1) * size], alone, rtol=1e-12, atol=1e-12)


def test_images_inserted_into_averages_are_those_of_the_twin(
    setting: Setting, rng: np.random.Generator
) -> None:
    rows = Rows.random(setting, rng)
    matrices = euler_to_matrix(0, 0, rng.uniform(-180, 180, N_DIR)).astype(np.float32)
    matrices[0] = np.eye(3)
    shape = (2 * setting.radius + 1, setting.radius + 1, 3)
    size = shape[0] * shape[1]
    grid = np.zeros((2 * size, 4))
    insert(setting, rows, matrices, grid, classes=2, planar=True)
    for k in range(2):
        found = grid[k * size : (k + 1) * size, :3].reshape(shape).copy()
        expected = insert_planes(
            rows.factor * rows.mean[k::2],
            rows.total[k::2, None] * rows.power,
            setting.radius,
            setting.padding,
            matrices[k::2],
            *setting.plane,
        )
        hermitian_sum_planes(found)
        hermitian_sum_planes(expected)
        # measured 4e-6
        np.testing.assert_allclose(found, expected, atol=3e-5)
