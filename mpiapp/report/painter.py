"""Pictures drawn by processes of their own, which load what draws while the job computes.

To load matplotlib and to draw takes longer than the science of a small job, and a thread would take turns with it. The
processes are fresh ones, as a job with threads and a device can not be forked.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from types import TracebackType
from typing import IO, Any

from mpiapp.errors import MpiappError
from mpiapp.report import log

CORES_EACH = 4  # a process costs a core for half a second before it draws, which two cores can not spare
MOST = 4


class Painter:
    """Calls functions in other processes, for the files that they write.

    At the end of the (innermost) block all are done: their warnings are logged, and the first fault is raised.
    """

    def __init__(self, cores: int) -> None:
        self._all = [_Process() for _ in range(min(max(cores // CORES_EACH, 1), MOST))]
        self._next = cycle(self._all)

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Have a function of a module called, with arguments that can be pickled; returns at once."""
        next(self._next).call((function, arguments, options))

    def __enter__(self) -> Painter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        processes, self._all = self._all, []
        try:
            if kind is not None:
                return
            for process in processes:
                process.close()
            found = [process.answer() for process in processes]
        finally:
            for process in processes:
                process.kill()
        for text in (text for texts, _ in found for text in texts):
            log.warn(text)
        for raised in (raised for _, raised in found if raised is not None):
            raise raised


class _Process:
    """One process, which takes its tasks one after the other."""

    def __init__(self) -> None:
        # nothing here multiplies matrices, and threads for it take time to start; Ctrl-C is for the job, which ends this
        self._python = start_python("mpiapp.report.painter", apart=True, OPENBLAS_NUM_THREADS="1")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="painter")  # a full pipe holds up no one else
        self._sent: list[Future[None]] = []

    def call(self, task: tuple[Any, ...]) -> None:
        self._sent.append(self._thread.submit(self._send, task))

    def _send(self, task: tuple[Any, ...]) -> None:
        assert self._python.stdin is not None
        pickle.dump(task, self._python.stdin, protocol=5)
        self._python.stdin.flush()

    def close(self) -> None:
        """Nothing more will be asked for."""
        assert self._python.stdin is not None
        self._thread.submit(self._python.stdin.close)

    def kill(self) -> None:
        """End the process, if it is there still, whatever was asked for."""
        self._python.kill()
        self._thread.shutdown()
        assert self._python.stdin is not None
        with suppress(BrokenPipeError):
            self._python.stdin.close()
        self._python.wait()

    def answer(self) -> tuple[list[str], BaseException | None]:
        """Wait until all is done; warnings and the first fault."""
        self._thread.shutdown()
        assert self._python.stdout is not None
        with self._python.stdout as answers:
            answer = answers.read()
        code = self._python.wait()
        faults = [fault for fault in (sent.exception() for sent in self._sent) if fault is not None]
        if answer and not faults:
            warnings, fault = pickle.loads(answer)
            return warnings, fault
        lost = MpiappError(
            f"the process that draws has ended (exit code {code}): the machine may be out of memory; maps and tables are "
            "written, and `mpiapp report` draws what is missing"
        )
        return [], lost if not answer else faults[0]


def start_python(
    module: str,
    *arguments: str,
    pass_fds: tuple[int, ...] = (),
    apart: bool = False,
    silent: bool = False,
    **environment: str,
) -> subprocess.Popen[bytes]:
    """A Python that runs a module of this package, found as here, with pipes to and from it.

    Parameters
    ----------
    apart : signals of the terminal do not reach it
    silent : it has no standard error, which who reads that of the job would wait for
    """
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if silent else None,
        pass_fds=pass_fds,
        start_new_session=apart,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


@contextmanager
def answering() -> Iterator[IO[bytes]]:
    """The pipe to the process that started this one; what a library prints goes to the standard error instead."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield answers


def serve(tasks: IO[bytes], answers: IO[bytes]) -> None:
    """Do one task after the other until they end or one fails; answers with warnings and the fault."""
    from mpiapp.report.style import load

    collected = log.Collected()
    collected.take_all()
    fault: Exception | None = None
    load()
    while True:
        try:
            function, arguments, options = pickle.load(tasks)
            if fault is None:
                function(*arguments, **options)
        except EOFError:
            break
        except Exception as raised:
            fault = raised
    pickle.dump((collected.texts, fault), answers)


def main() -> None:
    """Serve the process that started this one, which ends this one by ending its tasks."""
    # a pipe is broken when who asked has ended
    with suppress(BrokenPipeError), answering() as answers:
        serve(sys.stdin.buffer, answers)
        answers.flush()
        os._exit(0)  # the job waits for the end, and to take matplotlib down would be a tenth of a second


if __name__ == "__main__":
    main()
