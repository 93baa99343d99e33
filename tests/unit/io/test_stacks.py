"""ImageReader: right images in the right order, bounded number of open files, many threads, any memory."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from io_builders import MRC_MODES, mrc_bytes

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


@pytest.mark.parametrize("mode", [0, 1, 2, 6, 12])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("as_stored", [True, False])
def test_into_given_memory(tmp_path: Path, mode: int, order: str, as_stored: bool) -> None:
    """Every type and byte order: as stored in native order, and as float32; runs, gaps, repeats, backwards."""
    values = np.random.default_rng(2).integers(0, 100, size=(2, 12, 6, 6)).astype(np.float32)
    paths = [tmp_path / f"{i}.mrcs" for i in range(2)]
    for path, images in zip(paths, values, strict=True):
        path.write_bytes(mrc_bytes(images, mode=mode, order=order, extended=320))
    reader = ImageReader(paths)
    kind = reader.stored_type([0, 1, 1])
    assert kind.isnative
    assert kind == np.dtype(MRC_MODES[mode])
    stacks = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 0])
    images = np.array([3, 4, 5, 6, 11, 0, 11, 11, 2, 7])
    out = np.full((10, 6, 6), 77, kind if as_stored else np.float32)
    reader.read_into(out, stacks, images)
    assert np.array_equal(out.astype(np.float32), values[stacks, images])


def test_packed_stack_into_given_memory(tmp_path: Path, truth: np.ndarray) -> None:
    path = tmp_path / "packed.mrcs"
    path.write_bytes(gzip.compress(mrc_bytes(truth[0], mode=1)))
    reader = ImageReader([path])
    assert reader.stored_type([0]) == np.int16
    for kind in (np.int16, np.float32):
        out = np.zeros((3, 8, 8), kind)
        reader.read_into(out, [0, 0, 0], [4, 0, 1])
        assert np.array_equal(out, truth[0, [4, 0, 1]])


def test_stacks_of_different_types_are_given_as_float32(paths: list[Path], truth: np.ndarray) -> None:
    reader = ImageReader(paths)
    assert reader.stored_type([0, 1]) == np.float32
    assert reader.stored_type([1, 5]) == np.int16  # of either byte order
    out = np.zeros((2, 8, 8), np.int16)
    reader.read_into(out, [1, 5], [2, 3])
    assert np.array_equal(out, truth[[1, 5], [2, 3]])


def test_long_runs_and_large_conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More images than one call of the system takes buffers, and than are converted at a time."""
    monkeypatch.setattr("mpiapp.io.stacks.CONVERTED_BYTES", 1000)
    truth = np.arange(2500 * 4, dtype=np.float32).reshape(2500, 2, 2) % 3001
    for mode in (1, 2):
        path = tmp_path / f"{mode}.mrcs"
        path.write_bytes(mrc_bytes(truth, mode=mode))
        rows = np.r_[np.arange(2000, 2500), np.arange(2000)]
        assert np.array_equal(ImageReader([path]).read(np.zeros(2500), rows), truth[rows])


def test_memory_that_does_not_fit_is_refused(paths: list[Path]) -> None:
    reader = ImageReader(paths)
    with pytest.raises(InputError, match=r"0\.mrcs: box \(8, 8\) differs from \(9, 9\)"):
        reader.read_into(np.empty((1, 9, 9), np.float32), [0], [0])
    with pytest.raises(ValueError, match="contiguous"):
        reader.read_into(np.empty((1, 8, 16), np.float32)[:, :, ::2], [0], [0])
    with pytest.raises(ValueError, match="2 images"):
        reader.read_into(np.empty((2, 8, 8), np.float32), [0], [0])


def test_file_that_shrinks_while_it_is_open(paths: list[Path]) -> None:
    reader = ImageReader(paths)
    reader.read([2], [0])
    paths[2].write_bytes(paths[2].read_bytes()[:1500])
    with pytest.raises(InputError, match=r"2\.mrcs: was cut off while it was read"):
        reader.read([2], [4])


def test_open_files_are_bounded(paths: list[Path], truth: np.ndarray) -> None:
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
    reader.read([0, 2], [0, 0])  # still open
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
