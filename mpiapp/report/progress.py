"""Progress of an expectation step: a bar with time left on a terminal, plain lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from mpiapp.report.lines import duration


class Progress:
    """Counts particles (or what `unit` says) and tells how many there are a second and how long it will still take.

    Parameters
    ----------
    label : str
        What is counted, e.g. "Expectation iteration 3".
    total : int
        Particles in all.
    shown : bool
        False for ranks that do not talk to the user: everything is counted, nothing printed.
    stream : TextIO
        Where it is printed; a bar when this is a terminal, else a line every 10 % but not more often than
        `least_s`, and at least every `every_s`.
    every_s, least_s : float
        Longest and shortest time between plain lines, seconds.
    clock : callable
        Seconds that only grow; for tests.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        shown: bool = True,
        unit: str = "particles",
        stream: TextIO | None = None,
        every_s: float = 60.0,
        least_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._shown, self._unit = shown, unit
        self._stream = stream if stream is not None else sys.stdout
        self._every_s, self._least_s = every_s, least_s
        self._clock = clock
        self._start = self._last = clock()
        self._last_tenth = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self._start = self._last = self._clock()
        if self._shown and self._stream.isatty():
            self._bar = _rich_bar(self._stream)
            self._task = self._bar.add_task(self.label, total=self.total, rate="")
            self._bar.start()
        elif self._shown:
            self._print(f" {self.label}: {self.total:,} {self._unit}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._shown and kind is None:
            self._print(
                f" {self.label}: {self.done:,} {self._unit} in {duration(self.elapsed_s)} "
                f"({self.rate:,.0f} {self._unit}/s)"
            )

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def rate(self) -> float:
        """Particles a second so far."""
        return self.done / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float:
        """Expected seconds until the end; infinite before the first particle is done."""
        return (self.total - self.done) / self.rate if self.done else float("inf")

    def advance(self, n: int) -> None:
        """Count `n` more particles."""
        self.update(self.done + n)

    def update(self, done: int) -> None:
        """Set the number of particles that are done, over all ranks."""
        self.done = min(max(done, self.done), self.total)
        if not self._shown or self.total == 0:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:,.0f} {self._unit}/s")
        elif self._line_is_due():
            self._print(
                f" {self.label}: {100 * self.done / self.total:3.0f} %, {self.rate:,.0f} {self._unit}/s, "
                f"{duration(self.left_s)} left"
            )

    def _line_is_due(self) -> bool:
        """A new tenth, or a long silence; the end has a line of its own."""
        waited = self._clock() - self._last
        tenth = 10 * self.done // self.total
        new_tenth = tenth > self._last_tenth and waited >= self._least_s
        if self.done in (0, self.total) or not (new_tenth or waited >= self._every_s):
            return False
        self._last, self._last_tenth = self._clock(), tenth
        return True

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def _rich_bar(stream: TextIO) -> Any:
    """A bar that vanishes when it is done, so that the log above it stays plain."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn(" {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
