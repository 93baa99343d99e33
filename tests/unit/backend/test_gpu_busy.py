"""Share of a device's time: pieces of work that overlap count once, and only what ended well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mpiapp.backend.gpu_busy import BusyTime


class Device:
    """Events that remember the time at which they were recorded, seconds."""

    def __init__(self) -> None:
        self.now = 100.0
        device = self

        class Event:
            at: float

            def record(self) -> None:
                self.at = device.now

            def synchronize(self) -> None: ...

        elapsed = lambda first, last: 1e3 * (last.at - first.at)  # noqa: E731
        self.cupy: Any = SimpleNamespace(cuda=SimpleNamespace(Event=Event, get_elapsed_time=elapsed))
        self.busy = BusyTime(self.cupy, lambda: self.now)

    def at(self, seconds: float) -> None:
        self.now = 100.0 + seconds


def test_overlapping_work_counts_once() -> None:
    """0-4 and 2-5, idle, 7-8, until 10: six of ten seconds."""
    device = Device()
    one, two, three = (device.busy.work() for _ in range(3))
    for seconds, action in ((0, one.__enter__), (2, two.__enter__)):
        device.at(seconds)
        action()
    for seconds, piece in ((4, one), (5, two)):
        device.at(seconds)
        piece.__exit__(None, None, None)
    device.at(7)
    with three:
        device.at(8)
    device.at(10)
    assert device.busy.take() == pytest.approx(0.6)
    device.at(20)
    assert device.busy.take() == 0.0
    with device.busy.work():
        device.at(25)
    assert device.busy.take() == pytest.approx(1.0)


def test_time_before_the_first_work_does_not_count() -> None:
    device = Device()
    device.at(50)
    with device.busy.work():
        device.at(51)
    device.at(54)
    assert device.busy.take() == pytest.approx(0.25)


def test_work_that_fails_does_not_count() -> None:
    device = Device()
    work = device.busy.work()
    work.__enter__()
    device.at(3)
    assert not work.__exit__(MemoryError, MemoryError(), None)  # the error goes on
    device.at(4)
    assert device.busy.take() == 0.0
    assert Device().busy.take() == 0.0
