"""A refinement whose rank fails or is killed in the middle ends soon, says why, and can be continued."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from e2e_jobs import MPIEXEC, REFINE, Ended, compare, last_optimiser, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)"),
]
SOON_S = 10.0
NOTE = "open('fault', 'w').write(str(time.time()))"


def fail(project: Path, hook: str, ranks: int = 3) -> Ended:
    """Run into the fault; assert that all ends soon after it."""
    ended = run(project, [*REFINE, "--o", "out/run"], ranks, hook)
    now = time.time()
    assert now - float((project / "fault").read_text()) < SOON_S, ended
    return ended


def test_an_exception_in_the_expectation_step_of_one_rank(project: Path) -> None:
    hook = f"""
    def at(i, b):
        if (rank, i, b) == (2, 2, 2):
            {NOTE}
            raise ValueError("broken kernel")
    """
    ended = fail(project, hook)
    assert ended.code == 1
    assert ended.err.count("ValueError: broken kernel") == 1
    (message,) = ended.messages
    assert message.startswith("mpiapp: rank 2 on ")


def test_a_killed_worker(project: Path, undisturbed: Path) -> None:
    ended = fail(project, f"def at(i, b): (rank, i, b) == (1, 2, 2) and ({NOTE}, die())")
    assert ended.code != 0
    assert "KILLED BY SIGNAL: 9" in ended.out + ended.err or "EXIT CODE: 9" in ended.out + ended.err
    last = last_optimiser(project / "out/run").relative_to(project)
    assert last.name == "run_it001_optimiser.star"
    assert run(project, ["refine3d", "--continue", str(last)], ranks=2).code == 0
    assert compare(undisturbed, project / "out/run").is_rounding()


def test_a_fault_of_the_leader_while_it_writes(project: Path) -> None:
    hook = f"""
    from mpiapp.engine.refine_writer import RefinementWriter
    from mpiapp.errors import InputError
    def files(self, state):
        {NOTE}
        raise InputError("out/run_it000_data.star: no space for this file")
    RefinementWriter._files = files
    """
    ended = fail(project, hook)
    assert ended.code == 2
    (message,) = ended.messages
    assert message.endswith("no space for this file")
    assert "no space for this file" in (project / "out/run.log").read_text()


def test_an_exception_in_a_single_process(project: Path) -> None:
    hook = f"""
    def at(i, b):
        if (i, b) == (2, 2):
            {NOTE}
            raise ValueError("broken kernel")
    """
    ended = fail(project, hook, ranks=0)
    assert ended.code == 1
    assert ended.err.count("ValueError: broken kernel") == 1
