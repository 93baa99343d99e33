#!/usr/bin/env python3
"""Slicing a reference by global loads, as the program does, beside reading it through a texture: speed and error.

    benchmarks/gpu_slicing.py             all shapes
    benchmarks/gpu_slicing.py --largest 55    only up to r = 55 (r = 180 takes 5 GB of device memory)

Each line is one way: G samples/s (a sample is one pixel of one slice), GB/s of the neighbours that samples are made of
(64 bytes each, most of them from caches) and of what is written, and the r.m.s. error against float64, over the r.m.s. of
the slices, with single precision out. Times are medians of device events, half precision out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mpiapp.backend.gpu_kernels import Kernels, blocks, make_kernels
from mpiapp.backend.gpu_pass import ALIGNMENT
from mpiapp.backend.loader import KernelLoader, kernel_folder
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius, slice_volume
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.sampling import direction_grid

# order of the directions, how many of them in turn (as a batch has them), highest frequency
SHAPES = {
    "global, r = 31": (4, 3072, 31),
    "global, r = 55": (5, 12288, 55),
    "local, r = 80": (6, 4096, 80),
    "local, r = 180": (6, 2048, 180),
}
PADDING, REPEATS, CHECKED = 2.0, 10, 24


class Shape:
    """A random transform and the directions to slice it at, on the device."""

    def __init__(self, cupy: Any, order: int, n: int, r_max: int) -> None:
        grid = direction_grid(order, "C1")
        first = (grid.rot_deg.size - n) // 2
        rot, tilt = (a[first : first + n] for a in (grid.rot_deg, grid.tilt_deg))
        self.matrices = euler_to_matrix(rot, tilt, np.zeros(n)).astype(np.float32)
        self.n, self.radius, pixels = n, grid_radius(r_max, PADDING), pixel_list(r_max)
        self.k = np.stack([pixels.kx, pixels.ky]).astype(np.float32)
        self.n_pix = self.k.shape[1]
        self.pitch = -(-self.n_pix // ALIGNMENT) * ALIGNMENT
        side = 2 * self.radius + 1
        parts = cupy.random.standard_normal((side, side, 2 * self.radius + 2), dtype=np.float32)
        self.volume = parts.view(np.complex64)
        one = cupy.ones(self.n_pix, np.float32)
        self.arrays = (cupy.asarray(self.matrices.reshape(n, 9)), *map(cupy.asarray, self.k), one)

    def arguments(self, volume: tuple[Any, ...], out: Any) -> tuple[Any, ...]:
        """Arguments of both kernels, which differ in the volume."""
        rest = (self.n_pix, self.pitch, np.int64(self.n), out)
        return (*volume, np.int32(self.radius), np.float32(PADDING), *self.arrays, *rest)

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks of both kernels."""
        return (blocks(self.pitch), self.n)


def make_texture(cupy: Any, volume: Any, filtered: bool) -> Any:
    """A texture of a (z, y, x) complex64 array."""
    from cupy.cuda import texture

    runtime = cupy.cuda.runtime
    depth, height, width = volume.shape
    channels = texture.ChannelFormatDescriptor(32, 32, 0, 0, runtime.cudaChannelFormatKindFloat)
    array = texture.CUDAarray(channels, width, height, depth)
    array.copy_from(volume.view(np.float32))
    filter_mode = runtime.cudaFilterModeLinear if filtered else runtime.cudaFilterModePoint
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    how = texture.TextureDescriptor(
        (runtime.cudaAddressModeClamp,) * 3, filter_mode, runtime.cudaReadModeElementType, normalizedCoords=0
    )
    return texture.TextureObject(resource, how)


def measure(cupy: Any, shape: Shape, launch: Callable[[str, Any], None]) -> str:
    """One line: speed with half precision out, error with single precision out."""
    half = cupy.empty((2, shape.n, shape.pitch), np.float16)
    times = []
    for _ in range(REPEATS + 2):
        first, last = cupy.cuda.Event(), cupy.cuda.Event()
        first.record()
        launch("half", half)
        last.record()
        last.synchronize()
        times.append(cupy.cuda.get_elapsed_time(first, last) / 1e3)
    seconds, samples = float(np.median(times[2:])), shape.n * shape.n_pix
    del half
    out = cupy.empty((2, shape.n, shape.pitch), np.float32)
    launch("float", out)
    rows = np.linspace(0, shape.n - 1, CHECKED).astype(int)
    found = out[:, cupy.asarray(rows), : shape.n_pix].get().astype(float)
    exact = slice_volume(shape.volume.get(), PADDING, shape.matrices[rows], *shape.k)
    error = np.linalg.norm(found[0] + 1j * found[1] - exact) / np.linalg.norm(exact)
    return (
        f"{1e3 * seconds:7.3f} ms, {samples / seconds / 1e9:6.1f} G samples/s, neighbours "
        f"{64 * samples / seconds / 1e9:6.0f} GB/s, written {4 * samples / seconds / 1e9:5.0f} GB/s, error {error:.1e}"
    )


def main() -> None:
    """Print three lines a shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=180, help="highest frequency of the shapes")
    largest = parser.parse_args().largest
    kernels: Kernels = make_kernels()
    cupy, folder = kernels.cupy, Path(__file__).resolve().parent
    module = KernelLoader(cupy, folder).module("slice_texture.cu", options=(f"-I{kernel_folder()}",))
    for name, (order, n, r_max) in SHAPES.items():
        if r_max > largest:
            continue
        shape = Shape(cupy, order, n, r_max)
        print(f"{name}: {n} slices of {shape.n_pix} pixels, transform {shape.volume.nbytes / 1e6:.0f} MB")

        def by_loads(kind: str, out: Any, shape: Shape = shape) -> None:
            arguments = shape.arguments((shape.volume, None), out)
            kernels.launch("slicing.cu", f"slice_directions<{kind}>", shape.grid, arguments)

        print(f"  global loads          {measure(cupy, shape, by_loads)}")
        for filtered, words in ((True, "texture, filtered"), (False, "texture, 8 fetches")):
            texture = make_texture(cupy, shape.volume, filtered)
            functions = {
                kind: module.get_function(f"slice_texture<{kind}, {str(filtered).lower()}>")
                for kind in ("half", "float")
            }

            def by_texture(
                kind: str, out: Any, shape: Shape = shape, texture: Any = texture, functions: Any = functions
            ) -> None:
                functions[kind](shape.grid, (256,), _plain(shape.arguments((texture,), out)))

            print(f"  {words:<21} {measure(cupy, shape, by_texture)}")


def _plain(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Python's ints as the 32-bit ones that the kernel takes."""
    return tuple(np.int32(a) if isinstance(a, int) else a for a in arguments)


if __name__ == "__main__":
    main()
