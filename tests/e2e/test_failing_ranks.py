"""A rank that fails, is killed or is launched wrongly ends the whole run soon, with one message."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest
from e2e_jobs import MPIEXEC, Ended, run_words

from mpiapp.errors import ConfigError, InputError, ParallelError, StopRequested

pytest.importorskip("mpi4py", reason="no mpi4py")

OPEN_MPI = Path("/usr/bin/mpirun.openmpi")
SOON_S = 10.0

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)"),
]

# Each rank first notes its process number, by which the test sees that it is gone.
START = """
import os, signal, sys, threading, time
from pathlib import Path
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))
Path(f"pid{rank}").write_text(str(os.getpid()))
import numpy as np
from mpiapp.errors import ConfigError, InputError, StopRequested
from mpiapp.parallel.errors import raise_together
from mpiapp.parallel.runtime import session, start
from mpiapp.parallel.stop import StopFlag
"""


def run(
    folder: Path, script: str, *, ranks: int = 3, launcher: list[str] | None = None, **extra: str
) -> Ended:
    """Run a script on some ranks, and assert that it ends soon and that no process of it is left."""
    (folder / "job.py").write_text(START + dedent(script))
    command = [str(MPIEXEC), "-n", str(ranks)] if launcher is None else launcher
    ended = run_words(folder, [*command, sys.executable, "job.py"], timeout_s=60, **extra)
    assert ended.seconds < SOON_S, ended
    pids = [int(path.read_text()) for path in folder.glob("pid*")]
    assert len(pids) == ranks, ended
    deadline = time.monotonic() + 2
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"ranks are left: {ended}"
        time.sleep(0.05)
    return ended


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def in_session(body: str) -> str:
    """A script with the body in a session of all ranks."""
    return "with session(2) as team:\n" + indent(dedent(body), "    ")


def test_a_run_without_fault_ends_quietly_with_zero(tmp_path: Path) -> None:
    ended = run(tmp_path, in_session("assert team.allgather(team.rank) == [0, 1, 2]"))
    assert (ended.code, ended.out, ended.err) == (0, "", "")


# --- a fault at one rank while the others wait ------------------------------------------------------------

WAITS = {
    "bcast": "team.bcast(1)",
    "reduce": "[team.reduce_set(s, [np.zeros(10)]) for s in (0, 1)]; team.barrier()",
    "gather": "[team.gather_rows(s, np.zeros((4, 2))) for s in (0, 1)]",
    "transfer": "team.to_leader(1, np.zeros(5)); team.barrier()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_known_error_of_one_rank_is_one_line(tmp_path: Path, wait: str) -> None:
    ended = run(
        tmp_path,
        in_session(f"""
        team.assign([4, 4])
        if team.rank == 2:
            time.sleep(0.3)
            raise InputError("stack.mrcs is truncated")
        {WAITS[wait]}
        """),
    )
    assert ended.code == InputError.exit_code
    (line,) = ended.messages
    assert line.startswith("mpiapp: rank 2 on ")
    assert line.endswith(": stack.mrcs is truncated")
    assert "Traceback" not in ended.err


def test_an_unknown_error_of_one_rank_shows_its_traceback(tmp_path: Path) -> None:
    ended = run(tmp_path, in_session("if team.rank == 1: 1 / 0\nteam.barrier()"))
    assert ended.code == 1
    assert "mpiapp: rank 1 on " in ended.err
    assert ended.err.count("ZeroDivisionError") == 1
    assert "job.py" in ended.err


@pytest.mark.parametrize("failing", [(0, 1, 2), (1, 2), (0, 2)])
def test_ranks_that_fail_alike_print_one_message(tmp_path: Path, failing: tuple[int, ...]) -> None:
    body = f"team.barrier()\nif team.rank in {failing}: raise ConfigError('no GPU')\nteam.barrier()"
    ended = run(tmp_path, in_session(body))
    assert ended.code == ConfigError.exit_code
    (line,) = ended.messages
    assert line.startswith(tuple(f"mpiapp: rank {rank} on " for rank in failing))


def test_a_rank_that_fails_while_another_reports_is_silent(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        in_session("""
        team.barrier()
        time.sleep(0.0 if team.rank == 2 else 0.6)
        raise InputError(f"fault of {team.rank}")
        """),
    )
    (line,) = ended.messages
    assert line.endswith(": fault of 2")


def test_a_fault_of_the_leader_told_to_all_is_printed_once(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        in_session("""
        with raise_together(team):
            if team.is_leader:
                raise InputError("particles.star: no such file")
        """),
    )
    assert ended.code == InputError.exit_code
    (line,) = ended.messages
    assert line.startswith("mpiapp: rank 0 on ")


def test_a_fault_outside_the_session_ends_all(tmp_path: Path) -> None:
    ended = run(tmp_path, "team = start(2)\nif team.rank == 1: raise ValueError('late')\nteam.barrier()")
    assert ended.code == 1
    assert ended.err.count("ValueError: late") == 1


def test_a_fault_in_a_thread_ends_all(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        in_session("""
        if team.rank == 2:
            threading.Thread(target=lambda: [][0]).start()
            time.sleep(30)
        team.barrier()
        """),
    )
    assert ended.code == 1
    assert ended.err.count("IndexError") == 1


@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_rank_ends_all(tmp_path: Path, rank: int) -> None:
    ended = run(
        tmp_path,
        in_session(f"""
        if team.rank == {rank}:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        team.barrier()
        """),
    )
    assert ended.code != 0
    assert "KILLED BY SIGNAL: 9" in ended.out + ended.err or "EXIT CODE: 9" in ended.out + ended.err


def test_one_rank_that_exits_ends_all(tmp_path: Path) -> None:
    ended = run(tmp_path, in_session("if team.rank == 1: sys.exit(3)\nteam.barrier()"))
    assert ended.code == 3


# --- at the start -----------------------------------------------------------------------------------------


def test_a_rank_without_mpi4py_ends_all(tmp_path: Path) -> None:
    """The others wait in MPI_Init for it."""
    ended = run(tmp_path, "if rank == 1: sys.modules['mpi4py'] = None\n" + in_session("team.barrier()"))
    assert ended.code != 0
    (line,) = ended.messages
    assert line.startswith("mpiapp: rank 1 on ")
    assert "pip install 'mpiapp[mpi]'" in line


def test_a_launcher_of_another_mpi_is_refused(tmp_path: Path) -> None:
    """The environment of a launcher without its socket: each process is rank 0 of 1 to MPI."""
    ended = run(
        tmp_path,
        in_session("Path('ran').touch()"),
        ranks=1,
        launcher=[],
        PMI_SIZE="3",
        PMI_RANK="0",
    )
    assert ended.code == ParallelError.exit_code
    (line,) = ended.messages
    assert "started 3 processes, but MPI counts 1" in line
    assert f"Start with {MPIEXEC}" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not OPEN_MPI.exists(), reason="no Open MPI on this system")
def test_open_mpi_with_the_mpich_wheel_is_refused(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        in_session("Path('ran').touch()"),
        ranks=2,
        launcher=[str(OPEN_MPI), "--oversubscribe", "-n", "2"],
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    )
    assert ended.code == ParallelError.exit_code
    (line,) = ended.messages
    assert "Open MPI's mpirun started this run, but mpi4py uses another MPI: MPICH" in line
    assert not (tmp_path / "ran").exists()


# --- asked to stop ----------------------------------------------------------------------------------------


def test_a_signal_to_one_rank_stops_all_with_one_line(tmp_path: Path) -> None:
    """The rank waits in a collective while the signal comes, and still takes note of it."""
    ended = run(
        tmp_path,
        in_session("""
        with StopFlag() as flag:
            if team.rank == 1:
                threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            if team.is_leader:
                time.sleep(1.5)
            team.barrier()
            if team.any(flag.raised):
                raise StopRequested("stopped after iteration 3; continue with --resume")
        """),
    )
    assert ended.code == StopRequested.exit_code
    assert ended.messages == ["mpiapp: stopped after iteration 3; continue with --resume"]
