"""What tests do otherwise under a checker of device memory (sanitize.sh)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def prepare() -> None:
    """Arrays in memory of their own, and transforms and products of CUDA's libraries on the host.

    A checker sees where an array ends only if it is no piece of a pool. Kernels of cuFFT and cuBLAS are not ours to check,
    and a checker takes minutes to load them. One batch at a time: under racecheck, which looks at what the threads of a
    block share, two streams sometimes waited for each other without end.
    """
    import cupy

    from mpiapp.backend import gpu, gpu_coarse

    cupy.cuda.set_allocator(None)
    for name in ("fft", "ifft", "rfft", "irfft", "rfft2", "irfft2", "rfftn", "irfftn"):
        setattr(cupy.fft, name, _on_host(cupy, getattr(np.fft, name)))
    gpu_coarse.multiply = _multiply
    gpu.LANES = 1


def _on_host(cupy: Any, transform: Callable[..., Any]) -> Callable[..., Any]:
    def run(array: Any, *arguments: Any, **options: Any) -> Any:
        return cupy.asarray(transform(array.get(), *arguments, **options))

    return run


def _multiply(
    cupy: Any, precision: Any, rows: Any, table: Any, out: Any, *, n_batch: int, n_rows: int, stride_out: int
) -> None:
    """As `gpu_kernels.multiply`."""
    side = table.get().astype(np.float32).T
    for b in range(n_batch):
        product = rows[b * n_rows : (b + 1) * n_rows].get().astype(np.float32) @ side
        out[b * stride_out : b * stride_out + product.size] = cupy.asarray(product.ravel())
