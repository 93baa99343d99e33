"""Writing the files of an iteration while the next one computes, and drawing, in a process of its own.

On a device an iteration takes about as long as writing its maps and tables, and a thread that formats tables would
hold up those that feed the device. The optimiser file still comes last, so what can be continued is complete; a run that
is killed loses the iterations (at most two) that were being written besides the running one.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mpiapp.engine.handover import receive, send
from mpiapp.errors import MpiappError
from mpiapp.report import log
from mpiapp.report.painter import answering, start_python

if TYPE_CHECKING:
    from mpiapp.engine.refine_writer import RefinementWriter
    from mpiapp.engine.state import RunState
    from mpiapp.engine.writer import Writer


# Iterations whose files may be waiting or in work: short ones come faster than their files
AHEAD = 2


class WritingProcess:
    """The process that writes, started before there is anything to write: it loads what it needs meanwhile (4 s where
    modules load slowly). It ends with its pipe, whatever becomes of this one."""

    def __init__(self) -> None:
        self.memory = os.memfd_create("states")
        self.python = start_python("mpiapp.engine.background", str(self.memory), pass_fds=(self.memory,))

    def end(self, at_once: bool = False) -> None:
        """Wait until what is in work is written, or end it at once."""
        if at_once:
            self.python.kill()
        assert self.python.stdin is not None
        assert self.python.stdout is not None
        with suppress(BrokenPipeError):  # of a process that is gone, which was told before
            self.python.stdin.close()
        self.python.wait()
        self.python.stdout.close()
        os.close(self.memory)


class BackgroundWriter:
    """A writer whose ``iteration`` returns at once; everything else waits for it first. Pictures are drawn there too,
    where what draws is loaded and the files of earlier iterations are known.

    A fault in the background is raised by the next call.
    """

    def __init__(self, writer: Writer, process: WritingProcess) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._process = process
        self._pending = deque([self._thread.submit(self._ask, pickle.dumps(writer))])

    def iteration(self, state: RunState) -> None:
        """As `Writer.iteration`, on a copy of what the next iteration changes in place."""
        self.wait(AHEAD - 1)
        self._pending.append(self._thread.submit(self._ask, ("iteration", snapshot(state))))

    def finish(
        self, state: RunState, volume: NDArray[np.float32], unfiltered: list[NDArray[np.float32]]
    ) -> None:
        """As the writer's method of this name: maps and tables are written here while pictures are drawn there."""
        self.wait()
        drawn = self._thread.submit(self._ask, ("plots", replace(state, maps=[]), volume))
        cast("RefinementWriter", self._writer).final(state, volume, unfiltered)
        drawn.result()
        self.write_page()

    def pictures(self, state: RunState) -> None:
        """As the writer's method of this name, and the page."""
        self.wait()
        self._ask(("pictures", state))

    def write_page(self) -> None:
        """As `Writer.write_page`, where pages are made that would take the place of this one."""
        self.wait()
        self._ask(("write_page",))

    def wait(self, but: int = 0) -> None:
        """Until the files of all iterations are there but those of the last few."""
        while len(self._pending) > but:
            self._writer.last_files = self._pending.popleft().result()

    def _ask(self, task: bytes | tuple[Any, ...]) -> int:
        """Hand a task over; number of the iteration whose files were written last."""
        python = self._process.python
        assert python.stdin is not None
        assert python.stdout is not None
        try:
            send(python.stdin, task, self._process.memory)
            last, warnings, fault = pickle.load(python.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as gone:
            raise MpiappError(
                f"the process that writes the files has ended (exit code {python.wait()}): the machine may be out "
                "of memory; go on with --continue from the last optimiser file"
            ) from gone
        for text in warnings:
            log.warn(text)
        if fault is not None:
            raise fault
        return int(last)

    def close(self) -> None:
        """End the process when what is in work is written."""
        self._thread.shutdown()
        self._process.end()

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


def load() -> None:
    """Load what writes files and draws."""
    import h5py  # noqa: F401
    import healpix  # noqa: F401

    from mpiapp.engine import class_writer, refine_writer  # noqa: F401
    from mpiapp.report import build, style  # noqa: F401

    style.load()


def serve(tasks: IO[bytes], answers: IO[bytes], memory: int) -> None:
    """Do one task after the other until they end: the first is the writer, the others its methods with arguments."""
    collected = log.Collected()
    collected.take_all()
    writer: Writer | None = None
    while True:
        try:
            task = receive(tasks, memory)
        except EOFError:
            return
        fault: Exception | None = None
        try:
            if writer is None:
                writer = pickle.loads(task)  # it stays, while the arrays of other tasks are overwritten
            else:
                getattr(writer, task[0])(*task[1:])
        except Exception as raised:
            fault = raised
        last = -1 if writer is None else writer.last_files
        pickle.dump((last, collected.texts, fault), answers)
        answers.flush()
        collected.texts = []


def main() -> None:
    """Serve the process that started this one.

    A run that is asked to stop still has its last files written: this process ends when its tasks end.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with answering() as answers:
        load()
        serve(sys.stdin.buffer, answers, int(sys.argv[1]))
        answers.flush()
        os._exit(0)  # the job waits for the end, and to take all modules down would be half a second


if __name__ == "__main__":
    main()
