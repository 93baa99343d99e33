"""Which launcher started a process, from its environment; launchers that do not fit the library."""

from __future__ import annotations

import pytest

from mpiapp.errors import ParallelError
from mpiapp.parallel.launcher import Launch, check_library, check_world, find_launch

OMPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_RANK": "5",
}
HYDRA = {"PMI_SIZE": "3", "PMI_RANK": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}
BATCH = {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "7", "SLURM_LOCALID": "3"}
ORTED = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}


@pytest.mark.parametrize("environ", [{}, {"PATH": "/bin"}, BATCH, {"PMI_RANK": "0"}, {"PMI_SIZE": "two"}])
def test_no_launcher(environ: dict[str, str]) -> None:
    assert find_launch(environ) is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (OMPI, Launch("Open MPI's mpirun", 8, 5, 1, 4)),
        (HYDRA, Launch("mpiexec of MPICH or Intel MPI", 3, 2, 0, 1)),
        (STEP, Launch("srun", 16, 7, 3)),
        (STEP | {"PMI_SIZE": "16", "PMI_RANK": "7"}, Launch("srun --mpi=pmi2", 16, 7)),
        # daemons started by srun, ranks by them
        (ORTED | OMPI, Launch("Open MPI's mpirun", 8, 5, 1, 4)),
        (ORTED | HYDRA, Launch("mpiexec of MPICH or Intel MPI", 3, 2, 0, 1)),
        (
            ORTED | HYDRA | {"SLURM_STEP_NUM_TASKS": "3"},
            Launch("mpiexec of MPICH or Intel MPI", 3, 2, 0, 1),
        ),
        ({"PMIX_RANK": "4"}, Launch("a PMIx launcher", None, 4)),
        (
            {"PMI_SIZE": "4", "PALS_RANKID": "1", "PALS_LOCAL_RANKID": "1", "PALS_LOCAL_SIZE": "2"},
            Launch("Cray mpiexec (PALS)", 4, 1, 1, 2),
        ),
    ],
)
def test_launchers(environ: dict[str, str], expected: Launch) -> None:
    assert find_launch(environ) == expected


def test_local_needs_rank_and_size() -> None:
    launch = find_launch(OMPI)
    assert launch is not None
    assert launch.local == (1, 4)
    launch = find_launch(STEP)
    assert launch is not None
    assert launch.local is None


@pytest.mark.parametrize(
    ("environ", "library"),
    [
        (OMPI, "MPICH Version:      5.0.2\nMPICH Release date"),
        (OMPI, "Intel(R) MPI Library 2021.18"),
        (HYDRA, "Open MPI v4.1.4, package: Debian OpenMPI\0"),
    ],
)
def test_foreign_libraries_are_refused(environ: dict[str, str], library: str) -> None:
    launch = find_launch(environ)
    assert launch is not None
    with pytest.raises(ParallelError) as caught:
        check_library(launch, library, "Do this.")
    message = str(caught.value)
    assert launch.launcher in message
    assert " ".join(library.split()[:2]) in message
    assert message.endswith("Do this.")
    assert message.isprintable()


@pytest.mark.parametrize(
    ("environ", "library"),
    [
        (OMPI, "Open MPI v5.0.11"),
        (OMPI, "IBM Spectrum MPI 10.4"),
        (HYDRA, "MPICH Version: 5.0.2"),
        (HYDRA, "Intel(R) MPI Library 2021.18"),
        (STEP, "Open MPI v5.0.11"),
        (STEP | {"PMI_SIZE": "16", "PMI_RANK": "7"}, "Open MPI v4.1.4"),
    ],
)
def test_fitting_libraries_pass(environ: dict[str, str], library: str) -> None:
    launch = find_launch(environ)
    assert launch is not None
    check_library(launch, library, "")
    check_world(launch, launch.size or 0, launch.rank or 0, library, "")


def test_a_world_of_one_among_many_is_refused() -> None:
    launch = find_launch(STEP)
    assert launch is not None
    with pytest.raises(
        ParallelError, match=r"srun started 16 processes, but MPI counts 1 .*MPICH 5.*Do this\."
    ):
        check_world(launch, 1, 0, "MPICH 5", "Do this.")


def test_without_a_size_only_a_wrong_rank_tells() -> None:
    check_world(Launch("a PMIx launcher", None, 0), 1, 0, "MPI", "")
    check_world(Launch("a PMIx launcher", None, 2), 3, 2, "MPI", "")
    with pytest.raises(ParallelError, match="started several processes"):
        check_world(Launch("a PMIx launcher", None, 2), 1, 0, "MPI", "")
