"""Markers by which RELION's pipeline learns how a job ended (``--pipeline_control``, interfaces.md 4)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpiapp.errors import StopRequested
from mpiapp.parallel.launcher import find_launch

SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{word}" for word in ("SUCCESS", "FAILURE", "ABORTED"))
ABORT_NOW = "RELION_JOB_ABORT_NOW"


def abort_file(folder: str) -> Path | None:
    """File that asks the job to stop; None without pipeline control."""
    return Path(folder) / ABORT_NOW if folder else None


@contextmanager
def job_markers(folder: str) -> Iterator[None]:
    """Take away the markers of the run before, and leave one if the body fails (all ranks).

    A requested stop counts as aborted, which RELION's pipeline can continue. Without a folder nothing
    is done.
    """
    launch = find_launch(os.environ)
    if folder and (launch is None or not launch.rank):
        for name in (SUCCESS, FAILURE, ABORTED, ABORT_NOW):
            with suppress(OSError):
                (Path(folder) / name).unlink()
    with failure_marker(folder):
        yield


@contextmanager
def failure_marker(folder: str) -> Iterator[None]:
    """Leave a marker if the body fails; to be used where an exception may end the process."""
    try:
        yield
    except BaseException as fault:
        _touch(folder, ABORTED if isinstance(fault, StopRequested) else FAILURE)
        raise


def mark_success(folder: str) -> None:
    """Leave the marker of a job that ended well (leader)."""
    _touch(folder, SUCCESS)


def _touch(folder: str, name: str) -> None:
    if folder:
        # the fault itself matters more than a marker that can not be written
        with suppress(OSError):
            (Path(folder) / name).touch()
