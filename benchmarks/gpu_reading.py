#!/usr/bin/env python3
"""Images from a stack to the device, GB/s: by threads into pinned memory as the engine reads them, beside one plain copy.

    benchmarks/gpu_reading.py /dev/shm                          10,000 images of 360 px in float32 (5.2 GB)
    benchmarks/gpu_reading.py /dev/shm --type float16 --n 4000
    benchmarks/gpu_reading.py /data --readers 4 8 16 32         on a disk; empty the page cache between runs yourself

The stack is written to the folder first and removed at the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from mpiapp.backend.gpu_cache import ImageCache
from mpiapp.backend.gpu_kernels import make_kernels
from mpiapp.io.stacks import ImageReader
from mpiapp.model.particles import ParticleData

BATCH = 1280


def write_stack(path: Path, n: int, box: int, kind: str) -> None:
    """A stack of noise; a few hundred images are drawn, and repeated."""
    import mrcfile

    drawn = np.random.default_rng(1).normal(scale=50, size=(200, box, box)).astype(kind)
    with mrcfile.new_mmap(
        path, (n, box, box), mrc_mode={"float32": 2, "float16": 12, "int16": 1}[kind]
    ) as file:
        for first in range(0, n, len(drawn)):
            file.data[first : first + len(drawn)] = drawn[: n - first]
        file.set_image_stack()


def read_all(data: ParticleData, box: int, reader: ImageReader, readers: int) -> float:
    """Seconds until all images are on the device; a new cache each time, its memory included."""
    kernels = make_kernels()
    cache = ImageCache(kernels, 8 * len(data) * box * box, readers)
    begun = time.perf_counter()
    cache.reserve(box, data.particle_id)
    batches = [data.take(np.arange(a, min(a + BATCH, len(data)))) for a in range(0, len(data), BATCH)]
    for batch in batches:
        cache.fetch(batch, box, reader)
    for batch in batches:
        store, slots = cache.get(batch, box, reader)
    kernels.cupy.cuda.Device().synchronize()
    spent = time.perf_counter() - begun
    cache.settle()
    last = len(data) - 1
    expected = reader.read(data.stack_index[last:], data.image_index[last:])[0]
    if not np.array_equal(store[int(slots[-1])].get(), expected):
        raise SystemExit("the last image arrived wrong")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=10_000, help="images")
    parser.add_argument("--box", type=int, default=360)
    parser.add_argument("--type", choices=("float32", "float16", "int16"), default="float32")
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2, 4, 8, 12, 16], help="threads")
    options = parser.parse_args()
    n, box = options.n, options.box
    path = options.folder / "gpu_reading.mrcs"
    try:
        write_stack(path, n, box, options.type)
        size = path.stat().st_size
        zero = np.zeros(n, np.int32)
        data = ParticleData(np.arange(n), zero, zero, np.zeros((n, 8)), zero, np.arange(n))
        reader = ImageReader([path])
        begun = time.perf_counter()
        first = reader.read(zero[:BATCH], np.arange(min(BATCH, n)))
        spent = time.perf_counter() - begun
        print(f"{n} images of {box} px, {options.type}, {size / 1e9:.2f} GB")
        print(f"one thread into new host memory: {first.nbytes / spent / 1e9:.1f} GB/s (of float32)")
        for readers in options.readers:
            times = [read_all(data, box, reader, readers) for _ in range(3)]
            print(
                f"{readers:3d} readers: first {times[0]:.2f} s, then {times[1]:.2f} and {times[2]:.2f} s; best "
                f"{size / min(times) / 1e9:.1f} GB/s of the file"
            )
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
