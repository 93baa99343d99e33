"""Who prints before MPI is up, and how an error looks: one line, once, with its exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback

from mpiapp.errors import MpiappError, StopRequested
from mpiapp.parallel.launcher import find_launch

_LEADER_SPEAKS_S = 0.7


def is_leader() -> bool:
    """Whether this process is the one that talks to the user; its launcher tells, before MPI is up."""
    launch = find_launch(os.environ)
    return launch is None or not launch.rank


def say(text: str) -> None:
    """Print on the leader only."""
    if is_leader():
        print(text, flush=True)


def report_error(error: MpiappError) -> int:
    """Print an error as one line on stderr (leader only) and return its exit code.

    With MPIAPP_DEBUG=1 in the environment every rank shows its traceback too.
    """
    if os.environ.get("MPIAPP_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    if is_leader():
        kind = "stopped" if isinstance(error, StopRequested) else "error"
        text = " ".join(str(error).split())
        print(f"mpiapp: {kind}: {text}", file=sys.stderr, flush=True)
    else:
        # some launchers end all ranks at the first exit: let the leader speak
        time.sleep(_LEADER_SPEAKS_S)
    return error.exit_code
