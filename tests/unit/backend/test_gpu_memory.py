"""Memory that does not suffice: what is tried, in which order, and what is said in the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fake_device import FakeCupy, OutOfMemoryError

from mpiapp.backend.cpu import CpuBackend
from mpiapp.backend.gpu_memory import first_that_fits, is_out_of_memory
from mpiapp.engine.faults import GOES_ON, named_faults
from mpiapp.errors import DeviceError, MpiappError

GB = 10**9


class Memory:
    """A device of which some memory is kept for later use, and some by a cache that can be given up."""

    def __init__(self, size: int, unused: int = 0, cache: int = 0) -> None:
        self.cupy, self.size, self.cache = FakeCupy(), size, cache
        self.cupy.pool.unused = unused

    def take(self, size: int) -> int:
        self.cupy.largest = self.size - self.cache - self.cupy.pool.unused
        self.cupy.empty(size, np.uint8)
        return size

    def ways(self, large: int, small: int) -> list[Callable[[], int]]:
        def without_cache() -> int:
            self.cache = 0
            return self.take(small)

        return [lambda: self.take(large), lambda: self.take(large), lambda: self.take(small), without_cache]


@pytest.mark.parametrize(
    ("memory", "taken", "emptied", "cache"),
    [
        (Memory(1000, 100, 100), 500, 0, 100),
        (Memory(1000, 450, 100), 500, 1, 100),  # the pool is emptied
        (Memory(1000, 450, 600), 300, 2, 600),  # the smaller way
        (Memory(1000, 450, 800), 300, 3, 0),  # the cache is given up
    ],
)
def test_the_first_way_that_fits(memory: Memory, taken: int, emptied: int, cache: int) -> None:
    found = first_that_fits(memory.cupy, "tables", 0, memory.size, memory.ways(500, 300))
    assert found == taken
    assert memory.cupy.pool.emptied == emptied
    assert memory.cache == cache


def test_message_names_what_needs_how_much() -> None:
    memory = Memory(8 * GB)
    memory.cupy.pool.used = 3 * GB
    with pytest.raises(DeviceError) as fault:
        first_that_fits(
            memory.cupy, "a map of 512 px", 12 * GB, memory.size, [lambda: memory.take(10 * GB)] * 2
        )
    assert str(fault.value) == (
        "GPU memory does not suffice for a map of 512 px: it takes about 12 GB by plan, 8 GB may be used, of which "
        "3 GB were in use when 10 GB more were asked for; give fewer ranks to a device, take one with more memory, or "
        "bin the images to a smaller box (`mpiapp plan` tells what needs how much)"
    )
    assert fault.value.exit_code == 3


def test_other_faults_pass() -> None:
    memory, calls = Memory(1000), []

    def broken() -> None:
        calls.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        first_that_fits(memory.cupy, "tables", 0, 1000, [broken, broken])
    assert len(calls) == 1


def test_memory_that_libraries_miss_counts_too() -> None:
    calls: list[str] = []

    def transform() -> str:
        calls.append("")
        if len(calls) == 1:
            raise RuntimeError("CUFFT_ALLOC_FAILED")
        return "done"

    assert first_that_fits(FakeCupy(), "a transform", 0, 1, [transform, transform]) == "done"
    assert not is_out_of_memory(RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS"))
    assert not is_out_of_memory(MemoryError("of the host"))


def test_processors_just_work() -> None:
    assert CpuBackend(1).within_memory("nothing", lambda: 7) == 7


def test_memory_errors_elsewhere_are_named() -> None:
    """CuPy's is one of the device, any other one of the host."""

    class Raw(OutOfMemoryError):
        __module__ = "cupy.cuda.memory"

    with (
        pytest.raises(DeviceError, match=r"GPU memory does not suffice \(1 byte\).*--continue"),
        named_faults(GOES_ON),
    ):
        raise Raw("1 byte")
    with pytest.raises(MpiappError, match="^memory does not suffice") as fault, named_faults():
        raise MemoryError("2 bytes")
    assert fault.value.exit_code == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("CUFFT_ALLOC_FAILED", r"^GPU memory does not suffice \(CUFFT_ALLOC_FAILED\)"),
        (
            "cudaErrorDevicesUnavailable",
            r"^the GPU failed \(cudaErrorDevicesUnavailable\): `nvidia-smi` shows",
        ),
    ],
)
def test_faults_of_a_device_are_named(said: str, expected: str) -> None:
    fault = type("CUDARuntimeError", (RuntimeError,), {"__module__": "cupy_backends.cuda.api.runtime"})(said)
    with pytest.raises(DeviceError, match=expected) as found, named_faults():
        raise fault
    assert found.value.exit_code == 3
    with pytest.raises(RuntimeError, match="another"), named_faults():
        raise RuntimeError("another")
