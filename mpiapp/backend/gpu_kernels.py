"""Launching the CUDA kernels: functions by name, grids by rows, and the matrix product of cuBLAS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpiapp.backend.device_query import load_cupy
from mpiapp.backend.loader import KernelLoader

# most blocks in the second dimension of a grid
MOST_ROWS = 65535
THREADS = 256


@dataclass(frozen=True)
class Precision:
    """Number type of the score products: of tables and rows, and what the tensor cores may round to."""

    name: str
    kernel: str  # template argument
    dtype: str
    bytes: int
    product: str  # how the small products of the fine pass are made
    tf32: bool = False


PRECISIONS = {
    "half": Precision("half", "half", "e", 2, "half"),
    # the large products of the coarse pass in tf32, the small ones of the fine pass in two halves a number
    "tf32": Precision("tf32", "float", "f", 4, "Split", tf32=True),
    "single": Precision("single", "float", "f", 4, "float"),
    "double": Precision("double", "double", "d", 8, "double"),
}


class Kernels:
    """The compiled kernels of one device, and launches of them on the current stream."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self._loader = KernelLoader(cupy)
        self._functions: dict[tuple[str, str], Any] = {}
        self.clock: KernelClock | None = None

    def function(self, file: str, name: str) -> Any:
        """A kernel, compiled when first asked for."""
        key = (file, name)
        if key not in self._functions:
            self._functions[key] = self._loader.module(file).get_function(name)
        return self._functions[key]

    def launch(
        self,
        file: str,
        name: str,
        grid: tuple[int, ...],
        arguments: tuple[Any, ...],
        block: int = THREADS,
        shared: int = 0,
    ) -> None:
        """Run a kernel unless its grid is empty. Plain ints become 32-bit; pass np.int64 where a kernel takes 64."""
        if min(grid) <= 0:
            return
        function, plain = self.function(file, name), tuple(_plain(a) for a in arguments)
        with self.timed(name):
            function(grid, (block,), plain, shared_mem=shared)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the device's time of what is launched inside under a name, where a clock is set."""
        if self.clock is None:
            yield
            return
        first, last = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        first.record()
        yield
        last.record()
        self.clock.add(name, first, last)


class KernelClock:
    """Device time by kernel, from events around every launch."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._events: list[tuple[str, Any, Any]] = []

    def add(self, name: str, first: Any, last: Any) -> None:
        """Remember a launch; its time is looked up later, so that nothing waits."""
        self._events.append((name, first, last))

    def take(self) -> dict[str, tuple[float, int]]:
        """Milliseconds and launches by name since the last call, the longest first."""
        events, self._events = self._events, []
        total: dict[str, tuple[float, int]] = {}
        for name, first, last in events:
            last.synchronize()
            ms, n = total.get(name, (0.0, 0))
            total[name] = (ms + self._cupy.cuda.get_elapsed_time(first, last), n + 1)
        return dict(sorted(total.items(), key=lambda item: -item[1][0]))


def _plain(argument: Any) -> Any:
    if isinstance(argument, bool | int):
        return np.int32(argument)
    if isinstance(argument, float):
        return np.float32(argument)
    return np.uintp(0) if argument is None else argument


def blocks(n: int, threads: int = THREADS) -> int:
    """Blocks that cover n elements."""
    return -(-n // threads)


def multiply(
    cupy: Any,
    precision: Precision,
    rows: Any,
    table: Any,
    out: Any,
    *,
    n_batch: int,
    n_rows: int,
    stride_out: int,
) -> None:
    """out[b] = rows[b] . table^T in single precision (double for double), a batch at a time.

    Parameters
    ----------
    rows : (n_batch * n_rows, k);  table : (n, k), of the precision's dtype, contiguous.
    out : float32 memory; product b is (n_rows, n) from element b * stride_out on.
    """
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas  # type: ignore[import-not-found]

    n, k = table.shape
    if precision.name == "double":
        for b in range(n_batch):
            product = rows[b * n_rows : (b + 1) * n_rows] @ table.T
            out[b * stride_out : b * stride_out + n_rows * n] = product.ravel().astype(np.float32)
        return
    kind = 2 if precision.dtype == "e" else 0  # CUDA_R_16F, CUDA_R_32F
    # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
    compute = 77 if precision.tf32 else 68
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    handle = device.get_cublas_handle()
    cublas.setStream(handle, cupy.cuda.get_current_stream().ptr)
    cublas.gemmStridedBatchedEx(
        handle, cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, n, n_rows, k,
        one.ctypes.data, table.data.ptr, kind, k, 0, rows.data.ptr, kind, k, n_rows * k,
        zero.ctypes.data, out.data.ptr, 0, n, stride_out, n_batch, compute, -1,
    )  # fmt: skip


def make_kernels() -> Kernels:
    """Kernels of the current device.

    Raises
    ------
    DeviceError
        CuPy does not load.
    """
    return Kernels(load_cupy())
