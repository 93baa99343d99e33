"""From a finished refinement on: its page, masks, post-processing, local resolution, on one rank and many."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from e2e_jobs import MPIEXEC, run

from mpiapp.io.mrc import read_map
from mpiapp.model.fsc import fsc

pytestmark = pytest.mark.slow
needs_mpi = pytest.mark.skipif(
    not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)"
)


@pytest.fixture
def folder(converged: Path, tmp_path: Path) -> Path:
    """A copy of the converged run in its project."""
    shutil.copytree(converged.parent.parent, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def test_a_run_leaves_its_page(converged: Path) -> None:
    page = (converged.parent / "report.html").read_text()
    assert "finished" in page
    assert "mpiapp refine3d" in page
    assert page.count("data:image/png;base64,") >= 8
    assert len(page) < 5_000_000
    script = converged.with_name("run.cxc").read_text().splitlines()
    assert script[0] == "open run_class001.mrc"
    assert "open run_class001_angdist.bild" in script
    with open(f"{converged}_progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["peak_memory_MiB"]) > 50
    assert float(rows[-1]["expectation_s"]) > 0


def test_the_usual_way_on(folder: Path) -> None:
    halves = ["--i", "out/run_half1_class001_unfil.mrc"]
    mask = "mask_create --i out/run_class001.mrc --o mask.mrc --ini_threshold -1 --width_soft_edge 3"
    assert run(folder, mask.split()).code == 0
    post = "--mask mask.mrc --adhoc_bfac -100 --randomize_at_A 25 --o post/ --verb 0"
    ended = run(folder, ["postprocess", *halves, *post.split()])
    assert ended.code == 0, ended
    assert (folder / "post/report.html").is_file()
    local = "--locres --adhoc_bfac -50 --mask mask.mrc --o local/ --verb 0"
    assert run(folder, ["postprocess", *halves, *local.split()]).code == 0
    assert "Local resolution" in (folder / "local/report.html").read_text()
    ended = run(folder, ["report", "post", "out"])
    assert ended.code == 0, ended
    assert ended.out.split() == ["post/report.html", "out/report.html"]


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_reconstruction_and_local_resolution(folder: Path, ranks: int) -> None:
    rebuild = "reconstruct --i out/run_data.star --ctf --verb 0 --o".split()
    local = "postprocess --i out/run_half1_class001_unfil.mrc --locres --adhoc_bfac -50 --verb 0 --o".split()
    for job, name in ((rebuild, "map.mrc"), (local, "local_locres.mrc")):
        root = name.removesuffix("_locres.mrc")
        alone = run(folder, [*job, f"alone/{root}"])
        shared = run(folder, [*job, f"shared/{root}"], ranks)
        assert (alone.code, shared.code) == (0, 0), (alone, shared)
        a, b = (read_map(folder / side / name)[0] for side in ("alone", "shared"))
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())


def test_the_final_map_is_reconstructed_from_its_poses(folder: Path) -> None:
    assert run(folder, "reconstruct --i out/run_data.star --ctf --o again.mrc --maxres 12".split()).code == 0
    again, _ = read_map(folder / "again.mrc")
    final, _ = read_map(folder / "out/run_class001.mrc")
    assert fsc(again, final)[1:8].min() > 0.9
