"""Keeps report.html of a running job up to date, at a small share of its time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpiapp.io.outputs import OutputNames
from mpiapp.report import log

SHARE = 0.05  # of the time of a run that pages may take
FIRST_GUESS_S = 5.0  # what the first page is taken to cost


def refresh_page(folder: Path) -> None:
    """Rebuild report.html of a folder; a page that fails is a warning and never the end of a job."""
    from mpiapp.report.build import build_report

    try:
        build_report(folder)
    except Exception as fault:
        log.warn(f"report.html could not be written: {type(fault).__name__}: {fault}")


class PageWriter:
    """Writes the progress table after every iteration, and the page when it may cost time again."""

    def __init__(self, names: OutputNames) -> None:
        self.names = names
        self.began = time.monotonic()
        self.spent_s, self.next_s = 0.0, FIRST_GUESS_S

    def offer(self, history: Mapping[str, Sequence[float]]) -> None:
        """After an iteration: the table, and the page unless pages took more than their share already."""
        from mpiapp.report.style import write_csv

        if history:
            write_csv(self.names.progress_plot, history)
        if self.spent_s + self.next_s < SHARE * (time.monotonic() - self.began):
            self.write()

    def write(self) -> None:
        """The page, now."""
        begun = time.monotonic()
        refresh_page(self.names.folder)
        self.next_s = time.monotonic() - begun
        self.spent_s += self.next_s
