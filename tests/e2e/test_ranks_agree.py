"""The number of processes changes a refinement by rounding only, and only one of them talks."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e_jobs import MPIEXEC, REFINE, compare, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)"),
]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5])
def test_any_number_of_ranks_gives_the_same_map_and_poses(
    project: Path, undisturbed: Path, ranks: int
) -> None:
    ended = run(project, [*REFINE, "--o", "out/run"], ranks)
    assert ended.code == 0, ended
    assert compare(undisturbed, project / "out/run").is_rounding()
    assert ended.err == ""
    for line in ("Options given:", "Auto-refine: Iteration= 2", "Auto-refine: Iteration= 3"):
        assert ended.out.count(line) == 1
    working = max(ranks - 1, 1)
    assert f"Processes= {ranks} (" in ended.out
    columns = (project / "out/run_progress.csv").read_text().splitlines()[0].split(",")
    assert sum(name.startswith("rank_") for name in columns) == working
    assert ended.out.count(" particles in ") == 3, f"one of {working} shows its progress"


def test_ranks_without_particles_do_no_harm(project: Path) -> None:
    """Four particles for five workers."""
    star = project / "data/particles.star"
    rows = [i for i, line in enumerate(star.read_text().splitlines()) if "@data/" in line]
    star.write_text("\n".join(star.read_text().splitlines()[: rows[4]]) + "\n")
    quick = [*REFINE, "--auto_iter_max", "1", "--healpix_order", "0", "--offset_range", "1"]
    alone = run(project, [*quick, "--o", "alone/run"])
    ended = run(project, [*quick, "--o", "out/run"], ranks=6)
    assert (alone.code, ended.code) == (0, 0), ended
    assert compare(project / "alone/run", project / "out/run", 1).is_rounding()
