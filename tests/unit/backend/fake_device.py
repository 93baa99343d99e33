"""Stand-in for CuPy on NumPy: arrays, memory that can run out, and the kernel that places images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import numpy as np


class OutOfMemoryError(MemoryError):
    """As CuPy's, which is a MemoryError too."""


class FakeArray(np.ndarray):
    """A "device" array."""

    def get(self) -> np.ndarray:
        return np.asarray(self)

    def set(self, values: np.ndarray, stream: Any = None) -> None:
        assert values.shape == self.shape
        assert values.dtype == self.dtype
        assert values.dtype.isnative
        self[...] = values


class Nothing:
    """Devices, streams and events: entered, left, waited for."""

    id = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def synchronize(self) -> None: ...

    def record(self) -> None: ...

    def wait_event(self, event: Any) -> None: ...


class FakePool:
    """Memory that is kept for later use, until the pool is emptied."""

    unused = used = emptied = 0

    def used_bytes(self) -> int:
        return self.used

    def free_all_blocks(self) -> None:
        self.unused = 0
        self.emptied += 1


class FakeCupy:
    """The few functions that the tested code uses; an allocation above ``largest`` bytes fails."""

    def __init__(self) -> None:
        self.largest = 1 << 40
        self.pinned: list[int] = []  # bytes of each buffer
        self.pool = FakePool()
        plans = SimpleNamespace(clear=lambda: None)
        self.fft = SimpleNamespace(config=SimpleNamespace(get_plan_cache=lambda: plans))
        memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        self.cuda = SimpleNamespace(Device=Nothing, Stream=Nothing, Event=Nothing, memory=memory)

    def empty(self, shape: Any, kind: Any = float) -> FakeArray:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        if size > self.largest:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        return np.full(shape, 85, kind).view(FakeArray)

    def asarray(self, values: Any) -> FakeArray:
        return np.array(values).view(FakeArray)

    def arange(self, n: int) -> FakeArray:
        return np.arange(n).view(FakeArray)

    def get_default_memory_pool(self) -> FakePool:
        return self.pool

    def empty_pinned(self, shape: tuple[int, ...], kind: Any) -> np.ndarray:
        self.pinned.append(int(np.prod(shape)) * np.dtype(kind).itemsize)
        return np.empty(shape, kind)


class FakeKernels:
    """Launches of the kernel that places images."""

    def __init__(self) -> None:
        self.cupy = FakeCupy()

    def launch(self, file: str, name: str, grid: Any, arguments: tuple[Any, ...]) -> None:
        assert name.startswith("place_images")
        images, from_slot, to_slot, _, _, store = arguments
        rows = images[: to_slot.size] if from_slot is None else images[np.asarray(from_slot)]
        store[np.asarray(to_slot)] = rows.astype(np.float32)
