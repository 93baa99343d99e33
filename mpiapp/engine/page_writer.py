"""Keeps report.html of a running job up to date, at a small share of its time.

Pages of a run that goes on are made by a process of its own with a low priority: to load what draws takes longer than a
short iteration.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpiapp.io.outputs import OutputNames
from mpiapp.report import log
from mpiapp.report.painter import answering, start_python

SHARE = 0.05  # CPU time of pages between the first and the last, of the time of the run
FIRST_AFTER_S = 20.0  # there is one at the end, which comes soon in shorter runs
FIRST_GUESS_S = 5.0  # what a page is taken to cost that did not tell
NICE = 10  # the ranks of the run come first


def refresh_page(folder: Path) -> None:
    """Rebuild report.html of a folder; a page that fails is a warning and never the end of a job."""
    from mpiapp.report.build import build_report

    try:
        build_report(folder)
    except Exception as fault:
        log.warn(f"report.html could not be written: {type(fault).__name__}: {fault}")


class PageWriter:
    """Writes the progress table after every iteration, and the page when it may cost time."""

    def __init__(self, names: OutputNames) -> None:
        self.names = names
        self.began = time.monotonic()
        self.spent_s, self.next_s = 0.0, SHARE * FIRST_AFTER_S
        self._working: subprocess.Popen[bytes] | None = None

    def offer(self, history: Mapping[str, Sequence[float]]) -> None:
        """After an iteration: the table, and the page unless pages took more than their share already."""
        from mpiapp.report.style import write_csv

        if not history:
            return
        write_csv(self.names.progress_plot, history)
        if self._is_working():
            return
        if self.spent_s + self.next_s <= SHARE * (time.monotonic() - self.began):
            self._working = start_python(
                "mpiapp.engine.page_writer",
                str(self.names.folder),
                apart=True,
                silent=True,
                OPENBLAS_NUM_THREADS="1",
            )
            os.setpriority(os.PRIO_PROCESS, self._working.pid, NICE)

    def write(self) -> None:
        """The page of the run's end, now."""
        self._give_up()
        refresh_page(self.names.folder)

    def _is_working(self) -> bool:
        """Whether a page is being made; what the one before cost is counted."""
        if self._working is None:
            return False
        if self._working.poll() is None:
            return True
        seconds, *warnings = self._close() or [str(FIRST_GUESS_S)]
        for text in warnings:
            log.warn(text)
        self.next_s = float(seconds)
        self.spent_s += self.next_s
        return False

    def _give_up(self) -> None:
        """End the process that makes a page: it would be put in place of a newer one."""
        if self._working is not None:
            self._working.terminate()
            self._working.wait()
            self._close()

    def _close(self) -> list[str]:
        """Lines that the process that has ended told; none if it was ended."""
        assert self._working is not None
        with self._working as ended:
            assert ended.stdout is not None
            self._working = None
            return ended.stdout.read().decode().splitlines()


def main() -> None:
    """Make the page of a folder; tells the seconds that this took, then its warnings."""

    def leave(*_: object) -> None:
        sys.exit(1)  # unfinished files are removed on the way out

    signal.signal(signal.SIGTERM, leave)
    with answering() as answer:
        collected = log.Collected()
        collected.take_all()
        refresh_page(Path(sys.argv[1]))
        answer.write("\n".join([f"{time.process_time():.2f}", *collected.texts]).encode())


if __name__ == "__main__":
    main()
