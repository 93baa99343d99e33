"""What is done when the memory of a device does not suffice, outside batches (engine.md 7)."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mpiapp.errors import DeviceError

T = TypeVar("T")

ADVICE = (
    "give fewer ranks to a device, take one with more memory, or bin the images to a smaller box "
    "(`mpiapp plan` tells what needs how much)"
)
# what CUDA, cuFFT and cuBLAS say
LIBRARIES = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "ALLOC_FAILED")


def free_unused(cupy: Any) -> None:
    """Give back what is only kept for later use: free blocks of the pool, work areas of this thread's transforms."""
    gc.collect()
    cupy.cuda.Device().synchronize()
    cupy.fft.config.get_plan_cache().clear()
    cupy.get_default_memory_pool().free_all_blocks()


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception of CuPy, or of a library that takes memory by itself, says that memory does not suffice."""
    if isinstance(fault, MemoryError):
        return type(fault).__name__ == "OutOfMemoryError"
    return isinstance(fault, RuntimeError) and any(words in str(fault) for words in LIBRARIES)


def first_that_fits(cupy: Any, what: str, needs: int, available: int, ways: Sequence[Callable[[], T]]) -> T:
    """Result of the first of several ways to do a piece of work for which memory suffices.

    Parameters
    ----------
    what : the piece of work, for the message;  needs : bytes that it takes by plan, 0 for unknown.
    available : bytes that this process may use.
    ways : each may be called after the ones before it ran out of memory, so it begins anew.

    Raises
    ------
    DeviceError
        Memory suffices for none.
    """
    asked = ""
    for way in ways:
        try:
            return way()
        except Exception as fault:
            if not is_out_of_memory(fault):
                raise
            asked = str(fault)
        # out of the handler, or the traceback would keep the arrays of what was tried
        free_unused(cupy)
    raise DeviceError(too_small(what, needs, available, cupy.get_default_memory_pool().used_bytes(), asked))


def too_small(what: str, needs: int, available: int, used: int, asked: str) -> str:
    """Message of memory that does not suffice: bytes by plan, allowed and in use, and what the allocator said."""
    found = re.search(r"allocating ([\d,]+) bytes", asked)
    last = f" when {_gb(int(found[1].replace(',', '')))} more were asked for" if found else ""
    by_plan = f"it takes about {_gb(needs)} by plan, " if needs else ""
    return (
        f"GPU memory does not suffice for {what}: {by_plan}{_gb(available)} may be used, of which {_gb(used)} were "
        f"in use{last}; {ADVICE}"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
