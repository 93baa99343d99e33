"""RELION 3.1's own programs take what a run leaves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from e2e_jobs import environment

from mpiapp.io.mrc import read_map
from mpiapp.io.star import read_star
from mpiapp.model.fsc import fsc

pytestmark = [pytest.mark.slow, pytest.mark.relion]
ALLOWED = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def call(folder: Path, words: str) -> str:
    """Output of one of RELION's programs."""
    done = subprocess.run(
        words.split(),
        cwd=folder,
        env=environment() | ALLOWED,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def folder(converged: Path, tmp_path: Path) -> Path:
    """A copy of the converged run in its project."""
    shutil.copytree(converged.parent.parent, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def test_postprocess_of_the_half_maps(relion: Path, folder: Path) -> None:
    mask = "relion_mask_create --i out/run_class001.mrc --o mask.mrc --ini_threshold 0.01 --width_soft_edge 4"
    call(folder, f"{relion}/{mask}")
    (folder / "post").mkdir()  # for its PDF
    halves = "--i out/run_half1_class001_unfil.mrc --mask mask.mrc"
    call(folder, f"{relion}/relion_postprocess {halves} --o post --angpix 6")
    table = read_star(folder / "post.star")["fsc"]
    ours = read_star(folder / "out/run_model.star")["model_class_1"]
    theirs = np.asarray(table["rlnFourierShellCorrelationUnmaskedMaps"], float)
    # ours is of the transforms, after the halves were joined below 40 A, shell 4; theirs is of the maps
    kept = slice(6, 16)
    assert np.abs(theirs[kept] - np.asarray(ours["rlnGoldStandardFsc"], float)[kept]).mean() < 0.1


def test_reconstruct_from_the_poses(relion: Path, folder: Path) -> None:
    call(folder, f"{relion}/relion_reconstruct --i out/run_data.star --o theirs.mrc --ctf --maxres 12")
    theirs, pixel = read_map(folder / "theirs.mrc")
    ours, _ = read_map(folder / "out/run_class001.mrc")
    assert pixel == pytest.approx(6.0)
    assert fsc(ours, theirs)[1:8].min() > 0.9


@pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun for RELION")
def test_refine_goes_on_from_our_iteration(relion: Path, folder: Path) -> None:
    before = read_star(folder / "out/run_it003_data.star")["particles"]
    call(
        folder,
        f"mpirun --oversubscribe -n 3 {relion}/relion_refine_mpi --continue out/run_it003_optimiser.star "
        "--o out/relion --auto_iter_max 4",
    )
    after = read_star(folder / "out/relion_it004_data.star")["particles"]
    assert len(after) == len(before)
    assert np.asarray(after["rlnMaxValueProbDistribution"], float).mean() > 0.2
    ours, _ = read_map(folder / "out/run_it003_half1_class001.mrc")
    theirs, _ = read_map(folder / "out/relion_it004_half1_class001.mrc")
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.8


def test_star_handler_reads_the_particles(relion: Path, folder: Path) -> None:
    call(
        folder,
        f"{relion}/relion_star_handler --i out/run_data.star --select rlnRandomSubset --minval 1 --maxval 1 "
        "--o half.star",
    )
    ours = read_star(folder / "out/run_data.star")["particles"]
    theirs = read_star(folder / "half.star")["particles"]
    mine = ours[ours["rlnRandomSubset"].astype(int) == 1]
    assert list(theirs["rlnImageName"]) == list(mine["rlnImageName"])


def test_the_first_lines_tell_version_and_command(folder: Path) -> None:
    head = (folder / "out/run_it003_optimiser.star").read_text().splitlines()[:2]
    assert head[0].startswith("# mpiapp optimiser; version ")
    assert head[1].startswith("# mpiapp refine3d --i data/particles.star --o out/run --ref data/")
