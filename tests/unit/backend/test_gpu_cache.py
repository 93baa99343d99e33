"""Images on their way to a device: what is read when, into which slots, and what happens when it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_device import FakeKernels, OutOfMemoryError

from mpiapp.backend import gpu_cache
from mpiapp.backend.gpu_cache import ImageCache
from mpiapp.errors import InputError
from mpiapp.io.stacks import ImageReader
from mpiapp.model.particles import ParticleData

BOX, N = 8, 60
IMAGE_BYTES = 4 * BOX * BOX


class CountingReader(ImageReader):
    """Remembers how many images were read; fails where it is told to."""

    n_read = 0
    broken = False

    def read_into(self, out: Any, stack_index: Any, image_index: Any) -> None:
        if self.broken:
            raise InputError("the disk is gone")
        super().read_into(out, stack_index, image_index)
        self.n_read += len(out)


@pytest.fixture(params=[0, 1, 2, 6, 12])
def mode(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def truth(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 100, size=(3, N // 3, BOX, BOX)).astype(np.float32)


@pytest.fixture
def reader(tmp_path: Path, truth: np.ndarray, mode: int) -> CountingReader:
    import mrcfile

    paths = [tmp_path / f"{i}.mrcs" for i in range(3)]
    kind = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}[mode]
    for path, images in zip(paths, truth, strict=True):
        with mrcfile.new(path, images.astype(kind)) as file:
            file.set_image_stack()
    return CountingReader(paths)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> FakeKernels:
    fake = FakeKernels()
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=fake.cupy.empty_pinned))
    return fake


def particles(order: np.ndarray) -> ParticleData:
    """Particles of the three stacks in some order; ids are not row numbers."""
    zero = np.zeros(len(order), np.int32)
    return ParticleData(
        1000 + 7 * order, zero, zero, np.zeros((len(order), 8)), (order // 20).astype(np.int32), order % 20
    )


def images_of(cache: ImageCache, data: ParticleData, reader: Any) -> np.ndarray:
    store, slots = cache.get(data, BOX, reader)
    return np.asarray(store)[np.asarray(slots)]


@pytest.mark.parametrize("room", [N, 25, 0])
@pytest.mark.parametrize("ahead", [True, False])
def test_right_images_read_once(
    kernels: FakeKernels, reader: CountingReader, truth: np.ndarray, room: int, ahead: bool
) -> None:
    """In any order, with room for all, some or none of them; what has room is read once."""
    expected = truth.reshape(N, BOX, BOX)
    cache = ImageCache(kernels, room * IMAGE_BYTES)  # type: ignore[arg-type]
    order = np.random.default_rng(3).permutation(N)
    for step in range(3):
        cache.reserve(BOX, particles(order).particle_id)
        batches = np.array_split(np.roll(order, 11 * step), 4)
        for rows in batches if ahead else ():
            cache.fetch(particles(rows), BOX, reader)
        for rows in batches:
            assert np.array_equal(images_of(cache, particles(rows), reader), expected[rows])
        cache.settle()
    assert reader.n_read == room + 3 * (N - room)
    assert cache.used == room * IMAGE_BYTES


@pytest.mark.parametrize("mode", [2], indirect=True)
def test_pinned_memory_is_bounded(
    kernels: FakeKernels, reader: CountingReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_cache, "BUFFER_BYTES", 4 * IMAGE_BYTES)
    cache = ImageCache(kernels, N * IMAGE_BYTES, readers=3)  # type: ignore[arg-type]
    data = particles(np.arange(N))
    cache.reserve(BOX, data.particle_id)
    images_of(cache, data, reader)
    assert len(kernels.cupy.pinned) <= 3
    assert max(kernels.cupy.pinned) == 4 * IMAGE_BYTES


@pytest.mark.parametrize("mode", [12], indirect=True)
def test_ordinary_memory_where_none_can_be_pinned(
    kernels: FakeKernels, reader: CountingReader, truth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(shape: Any, kind: Any) -> Any:
        raise RuntimeError("cudaErrorMemoryAllocation: out of memory")

    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=none))
    cache, data = ImageCache(kernels, N * IMAGE_BYTES), particles(np.arange(N))  # type: ignore[arg-type]
    cache.reserve(BOX, data.particle_id)
    assert np.array_equal(images_of(cache, data, reader), truth.reshape(N, BOX, BOX))


@pytest.mark.parametrize("mode", [2, 12], indirect=True)
def test_what_failed_can_be_asked_for_again(
    kernels: FakeKernels, reader: CountingReader, truth: np.ndarray
) -> None:
    cache = ImageCache(kernels, N * IMAGE_BYTES)  # type: ignore[arg-type]
    data = particles(np.arange(N))
    cache.reserve(BOX, data.particle_id)
    reader.broken = True
    cache.fetch(data, BOX, reader)
    with pytest.raises(InputError, match="disk is gone"):
        cache.get(data, BOX, reader)
    reader.broken = False
    kernels.cupy.largest = 8
    with pytest.raises(OutOfMemoryError):
        cache.get(data, BOX, reader)
    kernels.cupy.largest = 1 << 40
    assert np.array_equal(images_of(cache, data, reader), truth.reshape(N, BOX, BOX))


@pytest.mark.parametrize("mode", [1], indirect=True)
def test_what_was_given_up_is_read_later(
    kernels: FakeKernels, reader: CountingReader, truth: np.ndarray
) -> None:
    cache = ImageCache(kernels, N * IMAGE_BYTES, readers=1)  # type: ignore[arg-type]
    data = particles(np.arange(N))
    cache.reserve(BOX, data.particle_id)
    for rows in np.array_split(np.arange(N), 20):
        cache.fetch(particles(rows), BOX, reader)
    cache.settle()
    read = reader.n_read
    assert np.array_equal(images_of(cache, data, reader), truth.reshape(N, BOX, BOX))
    assert reader.n_read == N, f"{read} at first"
