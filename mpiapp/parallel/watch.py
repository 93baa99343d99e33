"""A thread beside the computation that passes a request to end on, to all ranks and within a second.

Without it a signal that reached one rank would be noticed by the others only where ranks meet, at the end of
an expectation step, which can take hours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .stop import StopFlag

if TYPE_CHECKING:
    from .base import Team

PERIOD_S = 0.5


@contextmanager
def watch(team: Team, stop: StopFlag, abort_file: Path | None = None) -> Iterator[None]:
    """Keep the stop flags of all ranks alike while the body runs (all processes).

    Parameters
    ----------
    team
        Where its MPI can not be called from several threads, nothing is passed on, and the ranks find a
        raised flag where they meet.
    stop
        Flag of this process.
    abort_file
        A file whose appearance asks for the end; the leader looks for it.
    """
    if team.size == 1 and abort_file is None:
        yield
        return
    over = threading.Event()
    looks_for = abort_file if team.is_leader else None
    thread = threading.Thread(target=_watch, args=(team, stop, looks_for, over), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(team: Team, stop: StopFlag, abort_file: Path | None, over: threading.Event) -> None:
    while not over.wait(PERIOD_S):
        if abort_file is not None and abort_file.exists():
            stop.ask(f"{abort_file} found")
        if stop.raised:
            team.sound_alarm(stop.reason)
            return
        reason = team.hears_alarm()
        if reason:
            stop.ask(reason)
            return
