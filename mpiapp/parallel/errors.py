"""A fault of one rank ends, or is raised at, all ranks: nobody waits for a message that never comes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from mpiapp.errors import MpiappError, ParallelError, StopRequested

from .launcher import LaunchMismatch

if TYPE_CHECKING:
    from .base import Team
    from .launcher import Launch

# All ranks stop together, but the leader may first finish writing a checkpoint.
_STOP_TIMEOUT_S = 900.0
_EXIT_TIMEOUT_S = 3.0
# Ranks often fail alike (no GPU, a bad file): those that do so within this time print one message.
_ALIKE_S = 0.3
# Launchers throw away output that they have not passed on when a rank aborts.
_OUTPUT_S = 0.7


class FailedElsewhere(ParallelError):
    """Raised by `raise_together` at ranks that did nothing wrong; the rank at fault prints the message."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code(fault: BaseException) -> int:
    """Exit code of the process for an exception."""
    if isinstance(fault, MpiappError):
        return fault.exit_code
    if isinstance(fault, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(fault, SystemExit):
        if fault.code is None:
            return 0
        return fault.code if isinstance(fault.code, int) else 1
    return 1


def report(fault: BaseException, rank: int, host: str) -> None:
    """Print a fault on stderr in one write, so that the lines of ranks do not mix."""
    if isinstance(fault, MpiappError):
        text = f"mpiapp: rank {rank} on {host}: {fault}\n"
    elif isinstance(fault, SystemExit):
        text = f"{fault.code}\n" if isinstance(fault.code, str) else ""
    else:
        lines = traceback.format_exception(type(fault), fault, fault.__traceback__)
        text = f"mpiapp: rank {rank} on {host} failed:\n{''.join(lines)}"
    sys.stderr.write(text)
    sys.stderr.flush()


@contextmanager
def ranks_end_together(team: Team) -> Iterator[None]:
    """Run a body such that an exception at any rank is printed once and ends all ranks within seconds.

    `StopRequested` is to be raised by all ranks, and ends the run normally with its exit code and one line of
    the leader; so does `SystemExit` of all ranks, whereas that of one rank ends the others.
    In a single process nothing is changed: exceptions are raised as usual.
    """
    if team.size == 1:
        yield
        return
    try:
        yield
    except BaseException as fault:
        end_run(team, fault)


def end_run(team: Team, fault: BaseException) -> NoReturn:
    """End all ranks because of `fault`, which was raised at this one."""
    code = exit_code(fault)
    if isinstance(fault, SystemExit) and code == 0:
        raise fault
    sys.stdout.flush()
    timeout_s = _STOP_TIMEOUT_S if isinstance(fault, StopRequested) else _EXIT_TIMEOUT_S
    if isinstance(fault, StopRequested | SystemExit) and team.leave(timeout_s):
        if team.is_leader and isinstance(fault, StopRequested):
            sys.stderr.write(f"mpiapp: {fault}\n")
        raise fault if isinstance(fault, SystemExit) else SystemExit(code) from fault
    if isinstance(fault, FailedElsewhere) or not _is_mine_to_report(team):
        time.sleep(_EXIT_TIMEOUT_S)  # the rank that prints ends this one
    else:
        report(fault, team.rank, team.host)
        time.sleep(_OUTPUT_S)
    team.abort(code)
    os._exit(code)


def _is_mine_to_report(team: Team) -> bool:
    try:
        return team.claim_report(_ALIKE_S)
    except Exception:
        # MPI itself may be what failed; a message printed twice is better than none
        return True


def end_before_start(fault: BaseException, launch: Launch) -> NoReturn:
    """End this process, and with it the run, when MPI could not be started.

    There is no communicator to abort. Some launchers let the other ranks wait in MPI_Init for a process that
    exits, but all end the run when one is killed by a signal.
    """
    rank = launch.rank or 0
    if isinstance(fault, LaunchMismatch):
        if rank == 0:
            report(fault, rank, os.uname().nodename)
        # some launchers end all at the first exit: let rank 0 speak
        time.sleep(_OUTPUT_S if rank == 0 else 2 * _OUTPUT_S)
        raise SystemExit(exit_code(fault)) from fault
    time.sleep(min(2 * _OUTPUT_S * rank, 3.0))
    report(fault, rank, os.uname().nodename)
    time.sleep(_OUTPUT_S)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(exit_code(fault))


def install_hooks(team: Team) -> None:
    """End all ranks on an exception that nothing catches, in the main thread or another one."""

    def main_hook(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
        end_run(team, fault)

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            end_run(team, args.exc_value)

    sys.excepthook = main_hook
    threading.excepthook = thread_hook


@contextmanager
def raise_together(team: Team) -> Iterator[None]:
    """Make a fault of any rank in the body an error at every rank (all processes; none in the body itself).

    For work that only some ranks do, as the leader's reading of files::

        with raise_together(team):
            table = read_particles(path) if team.is_leader else None

    Raises
    ------
    Exception
        At a rank at fault: its own exception.
    FailedElsewhere
        At the others, with the message and exit code of the first rank at fault.
    """
    fault: Exception | None = None
    try:
        yield
    except Exception as caught:
        fault = caught
    if not team.any(fault is not None):
        return
    told = None if fault is None else (f"rank {team.rank} on {team.host}: {fault}", exit_code(fault))
    faults = [message for message in team.allgather(told) if message is not None]
    if fault is not None:
        raise fault
    raise FailedElsewhere(*faults[0])
