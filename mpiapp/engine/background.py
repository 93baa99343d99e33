"""Writing the files of an iteration while the next one computes.

On a device an iteration takes about as long as writing its maps and tables. The optimiser file still comes last, so what
can be continued is complete; a run that is killed loses the iteration that was being written besides the running one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from mpiapp.engine.state import RunState
from mpiapp.engine.writer import Writer


class BackgroundWriter:
    """A writer whose ``iteration`` returns at once; everything else waits for it first.

    A fault in the background is raised by the next call.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._pending: Future[None] | None = None

    def iteration(self, state: RunState) -> None:
        """As `Writer.iteration`, on a copy of what the next iteration changes in place."""
        self.wait()
        self._pending = self._pool.submit(self._writer.iteration, snapshot(state))

    def wait(self) -> None:
        """Until the files of the last iteration are there."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __getattr__(self, name: str) -> Any:
        self.wait()
        return getattr(self._writer, name)


def snapshot(state: RunState) -> RunState:
    """The state with copies of what is changed in place; arrays that are replaced as a whole are shared."""
    return replace(
        state,
        schedule=replace(state.schedule),
        halves=list(state.halves),
        maps=list(state.maps),
        poses=state.poses.take(np.arange(len(state.half))),
        history={key: list(values) for key, values in state.history.items()},
    )
