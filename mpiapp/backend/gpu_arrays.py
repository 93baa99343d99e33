"""CuPy's functions for the science that is written once for all arrays (``model.arrays``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpiapp.backend.gpu_kernels import Kernels
from mpiapp.model.arrays import ArrayModule

# so few bins that their sums fit in the shared memory of a block
FEW_BINS = 4096


class DeviceFft:
    """Transforms as scipy.fft has them, without the options that steer host threads."""

    def __init__(self, cupy: Any) -> None:
        from cupyx.scipy import fft

        self._fft = fft

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._fft, name)

        def transform(array: Any, *arguments: Any, workers: int = 1, **rest: Any) -> Any:
            return function(array, *arguments, **rest)

        return transform


def device_module(kernels: Kernels) -> ArrayModule:
    """The array module of a device."""
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

    return ArrayModule(cupy, DeviceFft(cupy), bincount)
