"""What the environment says about the program that started this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpiapp.errors import ParallelError


class LaunchMismatch(ParallelError):
    """Launcher and MPI library do not belong together: every process finds this by itself."""


@dataclass(frozen=True)
class Launch:
    """A launch by an MPI launcher; None for what it does not tell."""

    launcher: str
    size: int | None
    rank: int | None
    local_rank: int | None = None
    local_size: int | None = None

    @property
    def local(self) -> tuple[int, int] | None:
        """(local rank, local size) where both are known."""
        if self.local_rank is None or self.local_size is None:
            return None
        return self.local_rank, self.local_size


OPEN_MPI, HYDRA, SRUN = "Open MPI's mpirun", "mpiexec of MPICH or Intel MPI", "srun"

# Launcher and its variables of size, rank, local rank and local size. The order matters: mpirun and mpiexec
# start their daemons by srun inside a SLURM job, so srun's variables are believed last.
_VARIABLES = (
    (
        OPEN_MPI,
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    (
        "MVAPICH's mpirun",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    ("Cray mpiexec (PALS)", "PMI_SIZE", "PALS_RANKID", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    (HYDRA, "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    # A batch script has SLURM_NTASKS and SLURM_PROCID=0 too; only a step started by srun has this one.
    (SRUN, "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", ""),
    ("a PMIx launcher", "", "PMIX_RANK", "", ""),
)


def find_launch(environ: Mapping[str, str]) -> Launch | None:
    """The MPI launch of this process, or None when it was started by hand or by a batch script."""

    def number(name: str) -> int | None:
        text = environ.get(name, "")
        return int(text) if text.isdigit() else None

    for launcher, size, rank, local_rank, local_size in _VARIABLES:
        if number(rank) is None or (size and number(size) is None):
            continue
        by_hydra = local_rank in environ
        if launcher == HYDRA and not by_hydra and environ.get("SLURM_STEP_NUM_TASKS") == environ[size]:
            launcher = "srun --mpi=pmi2"
        return Launch(launcher, number(size), number(rank), number(local_rank), number(local_size))
    return None


def check_library(launch: Launch, library: str, remedy: str) -> None:
    """Refuse, before MPI starts, a library that can not talk to the launcher.

    Parameters
    ----------
    launch
        What the environment says.
    library
        Version text of the MPI library that mpi4py loaded.
    remedy
        What the user can do, for the message.

    Raises
    ------
    LaunchMismatch
        Each process would be rank 0 of 1, or MPI would end it with a message that few can read.
    """
    is_open_mpi = "Open MPI" in library
    is_mpich_like = any(name in library.upper() for name in ("MPICH", "INTEL", "MVAPICH"))
    if (launch.launcher == OPEN_MPI and is_mpich_like) or (launch.launcher == HYDRA and is_open_mpi):
        raise LaunchMismatch(
            f"{launch.launcher} started this run, but mpi4py uses another MPI: {_one_line(library)}. {remedy}"
        )


def check_world(launch: Launch, size: int, rank: int, library: str, remedy: str) -> None:
    """Refuse a world of another size than the launcher made: N processes that are each rank 0 of 1.

    Raises
    ------
    LaunchMismatch
        They would overwrite one another's output.
    """
    alone_by_mistake = launch.size is None and size == 1 and (launch.rank or 0) > 0
    if launch.size == size or (launch.size is None and not alone_by_mistake):
        return
    started = "several" if launch.size is None else str(launch.size)
    raise LaunchMismatch(
        f"{launch.launcher} started {started} processes, but MPI counts {size} (this one is rank {rank}): "
        "launcher and MPI library are from different installations, or the launcher passes no ranks on. "
        f"mpi4py uses {_one_line(library)}. {remedy}"
    )


def _one_line(library: str) -> str:
    """First line of a library's version text, blanks reduced."""
    # Open MPI's text ends with a NUL
    return " ".join(library.replace("\0", " ").strip().splitlines()[0].split())[:120]
