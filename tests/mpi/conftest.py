"""Teams of 1 to 4 ranks, cut out of the ranks that mpiexec started.

Run as ``mpiexec -n 4 python -m pytest --with-mpi tests/mpi --timeout-method=thread``: a rank whose assertion
fails leaves the others waiting, and only the thread method ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mpiapp.parallel.mpi_team import MpiTeam


@pytest.fixture
def make_team() -> Iterator[Callable[..., MpiTeam]]:
    """make_team(size, n_sets, piece_bytes): a team of the first ranks; the test is skipped at the others."""
    from mpi4py import MPI

    from mpiapp.parallel.mpi_team import MpiTeam

    world, made = MPI.COMM_WORLD, []

    def make(size: int, n_sets: int = 2, piece_bytes: int = 1 << 28) -> MpiTeam:
        if world.size < size:
            pytest.skip(f"needs {size} ranks")
        comm = world.Split(0 if world.rank < size else MPI.UNDEFINED, key=world.rank)
        if comm == MPI.COMM_NULL:
            pytest.skip("not a rank of this team")
        team = MpiTeam(comm, n_sets, piece_bytes=piece_bytes)
        made.append((team, comm))
        return team

    yield make
    for team, comm in made:
        team.close()
        comm.Free()
