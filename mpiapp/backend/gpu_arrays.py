"""CuPy's functions for the science that is written once for all arrays (``model.arrays``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpiapp.backend.gpu_kernels import Kernels
from mpiapp.model.arrays import ArrayModule

# so few bins that their sums fit in the shared memory of a block
FEW_BINS = 4096
# elements worked on at a time where a job does not say: few launches for a map of 360 px, half a gigabyte
SLAB_ELEMENTS = 1 << 23
# arrays of this size and more are copied through memory that the device reads and writes by itself
LARGE_BYTES = 1 << 20


def to_host(array: Any) -> Any:
    """A device array in host memory; large ones in pinned memory, which is copied to and from several times faster."""
    if array.nbytes < LARGE_BYTES:
        return array.get()
    from cupy import ascontiguousarray, cuda

    try:
        memory = cuda.alloc_pinned_memory(array.nbytes)
    except (RuntimeError, MemoryError):  # a machine has less of it than of ordinary memory
        return array.get()
    # as cupyx.empty_pinned, without all of cupyx and the SciPy that it loads
    out: np.ndarray = np.ndarray(array.shape, array.dtype, memory)
    ascontiguousarray(array).get(out=out)
    return out


def to_device(cupy: Any, array: Any) -> Any:
    """An array on the current device, straight from where it lies: ``asarray`` would copy it on the host first."""
    if not isinstance(array, np.ndarray) or array.nbytes < LARGE_BYTES:
        return cupy.asarray(array)
    out = cupy.empty(array.shape, array.dtype)
    out.set(np.ascontiguousarray(array))
    cupy.cuda.get_current_stream().synchronize()
    return out


class DeviceFft:
    """Transforms as scipy.fft has them, without the options that steer host threads.

    They are those of cupy.fft: cupyx.scipy would load SciPy.
    """

    def __init__(self, cupy: Any) -> None:
        self._fft = cupy.fft

    def __getattr__(self, name: str) -> Any:
        def transform(array: Any, *arguments: Any, workers: int = 1, **rest: Any) -> Any:
            return getattr(self._fft, name)(array, *arguments, **rest)

        return transform


def device_module(kernels: Kernels, slab: int = SLAB_ELEMENTS) -> ArrayModule:
    """The array module of a device, which works on so many elements at a time."""
    cupy = kernels.cupy

    def bincount(index: Any, weights: Any, n: int) -> Any:
        if n > FEW_BINS or weights is None:
            return cupy.bincount(index, weights, n)[:n]
        out = cupy.zeros(n, np.float64)
        kind = "float" if weights.dtype == np.float32 else "double"
        values = cupy.ascontiguousarray(weights, np.float32 if kind == "float" else np.float64)
        arguments = (cupy.ascontiguousarray(index, np.int32), values, np.int64(values.size), n, out)
        grid = (int(min(max(values.size // 4096, 1), 1024)),)
        kernels.launch("maps.cu", f"bin_sums<{kind}>", grid, arguments, shared=8 * n)
        return out

    return ArrayModule(cupy, DeviceFft(cupy), bincount, to_host, slab)
