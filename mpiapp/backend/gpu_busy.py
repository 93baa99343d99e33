"""How much of the time a device has work: events around whole batches, which cost next to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class BusyTime:
    """Share of the time in which batches, or other large pieces of work, were in the streams of a device.

    Pieces of work may overlap, on any streams. What a piece waits for inside of itself counts as work, so this is an
    upper bound of the time in which kernels run; what it shows is how long the device stood idle, for images, for the
    host or for other ranks.

    Parameters
    ----------
    clock : seconds that only grow; for tests.
    """

    def __init__(self, cupy: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._cupy, self._clock = cupy, clock
        self._spans: list[tuple[Any, Any]] = []
        self._since: float | None = None
        self._lock = threading.Lock()

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count what is put on the current stream inside; nothing where it fails."""
        with self._lock:
            if self._since is None:
                self._since = self._clock()
        first, last = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        first.record()
        yield
        last.record()
        with self._lock:
            self._spans.append((first, last))

    def take(self) -> float:
        """The share since the last call, or since the first piece of work; waits until the work is done."""
        with self._lock:
            spans, self._spans = self._spans, []
        times = []
        for first, last in spans:
            last.synchronize()
            times.append(
                tuple(self._cupy.cuda.get_elapsed_time(spans[0][0], event) for event in (first, last))
            )
        busy_ms, reached = 0.0, float("-inf")
        for begun, ended in sorted(times):
            busy_ms += max(0.0, ended - max(begun, reached))
            reached = max(reached, ended)
        now = self._clock()
        passed, self._since = now - (now if self._since is None else self._since), now
        return min(1.0, busy_ms / 1e3 / passed) if passed > 0 else 0.0
