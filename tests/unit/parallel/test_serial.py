"""One process: no copies, no MPI, errors raised as usual."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from mpiapp.errors import InputError, ParallelError
from mpiapp.parallel.errors import raise_together, ranks_end_together
from mpiapp.parallel.serial import SerialTeam


def test_arrays_pass_through_uncopied() -> None:
    team, array = SerialTeam(), np.zeros(3)
    assert team.bcast_array(array) is array
    for s in team.sets:
        for total in (team.reduce_set(s, [array]), team.allreduce_set(s, [array])):
            assert total is not None
            assert total[0] is array
        for name in ("to_leader", "to_root", "bcast_set", "from_leader_to_set"):
            assert getattr(team, name)(s, array) is array


def test_one_process_leads_and_holds_all() -> None:
    team = SerialTeam(2)
    team.assign([3, 4])
    assert team.my_ranges() == {0: (0, 3), 1: (0, 4)}
    assert (team.sets, team.roots, team.is_leader, team.is_root(1)) == ((0, 1), (0, 0), True, True)
    assert len(team.gather_rows(1, np.zeros((4, 2)))) == 4  # type: ignore[arg-type]
    with pytest.raises(ParallelError, match="5 rows were given for 4 particles"):
        team.gather_rows(1, np.zeros((5, 2)))


def test_errors_are_raised_as_usual() -> None:
    for context in (raise_together, ranks_end_together):
        with pytest.raises(InputError, match="no such file"), context(SerialTeam()):
            raise InputError("no such file")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "16", "SLURM_PROCID": "0"},
        {"PMI_SIZE": "1", "PMI_RANK": "0"},
    ],
)
def test_start_without_a_launcher_or_with_one_process_imports_no_mpi(environ: dict[str, str]) -> None:
    code = """
import sys
from mpiapp.parallel.runtime import session
with session(2) as team:
    assert type(team).__name__ == "SerialTeam", team
assert not [name for name in sys.modules if name.startswith("mpi4py")]
"""
    prefixes = ("PMI", "OMPI", "SLURM")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean | environ, timeout=60)
