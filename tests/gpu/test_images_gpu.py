"""Images from files to the device: every type that stacks have, with room for all, some or none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpiapp.io.stacks import ImageReader
from mpiapp.model.particles import ParticleData

BOX, N_STACKS, PER_STACK = 40, 3, 70
N = N_STACKS * PER_STACK
KINDS = ("<i1", "<i2", ">i2", "<u2", "<f2", "<f4", ">f4")


@pytest.fixture
def truth() -> np.ndarray:
    """Values that every type can hold."""
    return np.random.default_rng(4).integers(0, 120, size=(N_STACKS, PER_STACK, BOX, BOX)).astype(np.float32)


def write(folder: Path, truth: np.ndarray, kinds: tuple[str, ...]) -> list[Path]:
    import mrcfile

    paths = [folder / f"{i}.mrcs" for i in range(N_STACKS)]
    for path, images, kind in zip(paths, truth, kinds, strict=True):
        with mrcfile.new(path, images.astype(kind)) as file:
            file.set_image_stack()
    return paths


def particles(order: np.ndarray) -> ParticleData:
    zero = np.zeros(len(order), np.int32)
    stack, image = np.divmod(order, PER_STACK)
    return ParticleData(order, zero, zero, np.zeros((len(order), 8)), stack.astype(np.int32), image)


@pytest.mark.parametrize("kinds", [*[(kind,) * N_STACKS for kind in KINDS], ("<i2", "<f4", "<f2")])
@pytest.mark.parametrize("room", [N, N // 3, 0])
def test_images_arrive(tmp_path: Path, truth: np.ndarray, kinds: tuple[str, ...], room: int) -> None:
    import cupy

    from mpiapp.backend.gpu_cache import ImageCache
    from mpiapp.backend.gpu_kernels import Kernels

    reader = ImageReader(write(tmp_path, truth, kinds))
    cache = ImageCache(Kernels(cupy), room * 4 * BOX * BOX)
    order = np.random.default_rng(5).permutation(N)
    expected = truth.reshape(N, BOX, BOX)
    for step in range(2):
        cache.reserve(BOX, order)
        cupy.cuda.Device().synchronize()
        batches = np.array_split(np.roll(order, 17 * step), 3)
        for rows in batches:
            cache.fetch(particles(rows), BOX, reader)
        for rows in batches:
            with cupy.cuda.Stream(non_blocking=True) as stream:
                store, slots = cache.get(particles(rows), BOX, reader)
                found = store[slots].get()
                stream.synchronize()
            assert np.array_equal(found, expected[rows])
        cache.settle()
