"""A request to end early - signal, time limit or another rank - that the engine looks at between steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any


class StopFlag:
    """Watches for SIGTERM, SIGUSR1, the first SIGINT and a time limit, as a context manager.

    The handlers only take a note, so no step is cut in half. A second SIGINT interrupts as usual. Signals
    reach some ranks only: decide together with ``team.any(flag.raised)``. Only the main thread can catch
    signals; in another one the time limit alone counts.

    Parameters
    ----------
    max_hours
        Time limit counted from `started`; None for no limit.
    started
        Value of `time.monotonic()` to count from; None for now.
    """

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self, max_hours: float | None = None, started: float | None = None) -> None:
        begin = time.monotonic() if started is None else started
        self._deadline = None if max_hours is None else begin + 3600 * max_hours
        self._max_hours = max_hours
        self._asked = ""
        self._former: dict[signal.Signals, Any] = {}

    @property
    def raised(self) -> bool:
        """Whether the run should end at the next opportunity."""
        return bool(self._asked) or self._late

    @property
    def reason(self) -> str:
        """Why, for the log; empty when not raised."""
        if self._asked:
            return self._asked
        return f"time limit of {self._max_hours:g} hours reached" if self._late else ""

    def ask(self, reason: str) -> None:
        """Ask for the end; of several reasons the first counts."""
        self._asked = self._asked or reason

    @property
    def seconds_left(self) -> float:
        """Time to the limit; infinite without one."""
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    @property
    def _late(self) -> bool:
        return self.seconds_left <= 0

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in self.signals:
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._former.items():
            # None: the handler was not installed from Python
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.ask(f"signal {signal.Signals(number).name} received")
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
