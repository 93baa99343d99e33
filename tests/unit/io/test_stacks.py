"""ImageReader: right images in the right order, bounded number of open maps, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from io_builders import mrc_bytes

from mpiapp.errors import InputError
from mpiapp.io.stacks import ImageReader, finite_images


@pytest.fixture
def truth(rng: np.random.Generator) -> np.ndarray:
    """Six stacks of five images; values that every MRC mode can hold."""
    return rng.integers(-100, 100, size=(6, 5, 8, 8)).astype(np.float32)


@pytest.fixture
def paths(tmp_path: Path, truth: np.ndarray) -> list[Path]:
    modes = (0, 1, 2, 12, 2, 1)
    orders = "<><<><"
    names = [tmp_path / f"{i}.mrcs" for i in range(6)]
    for name, images, mode, order in zip(names, truth, modes, orders, strict=True):
        name.write_bytes(mrc_bytes(images, mode=mode, order=order))
    return names


def test_any_order_any_type(paths: list[Path], truth: np.ndarray, rng: np.random.Generator) -> None:
    stacks, images = rng.integers(0, 6, 200), rng.integers(0, 5, 200)
    with ImageReader(paths) as reader:
        found = reader.read(stacks, images)
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert np.array_equal(found, truth[stacks, images])


def test_open_maps_are_bounded(paths: list[Path], truth: np.ndarray) -> None:
    reader = ImageReader(paths, max_open=2)
    for stack in (0, 1, 2, 3, 4, 5, 0):
        assert np.array_equal(reader.read([stack], [3])[0], truth[stack, 3])
        assert reader.n_open <= 2
    reader.close()
    assert reader.n_open == 0
    assert np.array_equal(reader.read([1], [0])[0], truth[1, 0])


def test_least_recently_used_is_closed(paths: list[Path]) -> None:
    reader = ImageReader(paths, max_open=2)
    for stack in (0, 1, 0, 2):
        reader.read([stack], [0])
    for path in paths[:3]:
        path.unlink()
    reader.read([0, 2], [0, 0])  # still mapped
    with pytest.raises(InputError, match=r"1\.mrcs.*no such file"):
        reader.read([1], [0])


def test_many_threads(paths: list[Path], truth: np.ndarray) -> None:
    reader = ImageReader(paths, max_open=1)

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        stacks, images = rng.integers(0, 6, 50), rng.integers(0, 5, 50)
        return np.array_equal(reader.read(stacks, images), truth[stacks, images])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))


def test_nothing_asked_nothing_read(paths: list[Path]) -> None:
    assert ImageReader(paths).read([], []).shape[0] == 0


@pytest.mark.parametrize(("image", "number"), [(5, 6), (-1, 0)])
def test_image_out_of_range_names_both_numbers(paths: list[Path], image: int, number: int) -> None:
    with pytest.raises(InputError, match=rf"2\.mrcs: image {number} was asked for, the stack has 5"):
        ImageReader(paths).read([2, 2], [1, image])


def test_different_boxes_in_one_call(paths: list[Path]) -> None:
    paths[1].write_bytes(mrc_bytes(np.zeros((5, 10, 10))))
    with pytest.raises(InputError, match=r"1\.mrcs: box \(10, 10\) differs from \(8, 8\)"):
        ImageReader(paths).read([0, 1], [0, 0])


def test_file_cut_off(paths: list[Path]) -> None:
    paths[0].write_bytes(paths[0].read_bytes()[: 1024 + 2 * 64 + 5])
    with pytest.raises(InputError, match=r"promises 5 sections .* holds 2 .* cut off"):
        ImageReader(paths).read([0], [0])


def test_finite_images() -> None:
    images = np.ones((5, 4, 4), np.float32)
    images[1, 2, 3] = np.nan
    images[2, 0, 0] = -np.inf
    images[3] = 3e38  # fine, though the sum overflows
    images[4, 0, :2] = np.inf, -np.inf
    assert finite_images(images).tolist() == [True, False, False, True, False]
