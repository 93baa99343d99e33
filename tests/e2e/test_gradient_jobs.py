"""Classification by mini-batches from end to end: it separates, stops and goes on, on any number of ranks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from e2e_jobs import MPIEXEC, compare, run, undisturbed_job

from mpiapp.config.simulate import SimulateConfig
from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.mrc import write_map
from mpiapp.io.outputs import OutputNames
from mpiapp.io.star import read_star

pytestmark = pytest.mark.slow
ITERATIONS, EVERY = 9, 3
GRADIENT = (
    "--i data/particles.star --particle_diameter 144 --offset_range 3 --offset_step 1 --random_seed 1 --grad "
    f"--iter {ITERATIONS} --grad_write_iter {EVERY} --grad_ini_subset 24 --grad_fin_subset 50"
)
JOBS = {
    "class2d": f"class2d {GRADIENT} --psi_step 15 --K 3 --class_inactivity_threshold 1 --center_classes".split(),
    "class3d": f"class3d {GRADIENT} --ref data/reference_class001.mrc --ini_high 20 --healpix_order 1 --K 2 "
    "--grad_em_iters 1".split(),
}


@pytest.fixture(scope="module", params=JOBS)
def job(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path
) -> tuple[str, Path]:
    """Name of a kind of job, and the folder of a run of it that nothing interrupted."""
    return request.param, undisturbed_job(tmp_path_factory.mktemp(request.param), data, JOBS[request.param])


def test_what_a_run_leaves(job: tuple[str, Path]) -> None:
    name, folder = job
    out = folder / "out"
    written = sorted(int(p.name[6:9]) for p in out.glob("run_it*_optimiser.star"))
    assert written == [0, 3, 6, 9]
    log = (out / "run.log").read_text()
    first = "0.9" if name == "class2d" else "0.3"
    assert f"Gradient step of size {first}; mini-batch of 24 of 80 particles" in log
    ends = {
        "class2d": "mini-batch of all 80 particles",
        "class3d": "Expectation-maximization with all particles",
    }
    assert ends[name] in log
    with open(out / "run_progress.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # 3 tenths of 9 iterations are 2, 2 tenths 1: from 24 to 50 along iterations 2 to 8
    sizes = [24, 24, 28, 33, 37, 41, 46, 50, 80]
    assert [round(float(row["mini_batch"])) for row in rows] == sizes
    assert float(rows[-2]["step_size"]) == pytest.approx(0.3, rel=1e-3)
    particles = read_star(out / "run_it009_data.star")["particles"]
    assert (particles["rlnNrOfSignificantSamples"].astype(int) > 0).all()
    assert "mini-batch" in (out / "report.html").read_text()


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)")
def test_any_number_of_ranks(job: tuple[str, Path], project: Path) -> None:
    """Each rank keeps the moments of its own classes, also where one takes the place of another."""
    name, folder = job
    ended = run(project, [*JOBS[name], "--o", "out/run"], 4 if name == "class2d" else 2)
    assert ended.code == 0, ended
    assert compare(folder / "out/run", project / "out/run", ITERATIONS).is_rounding()


def test_stop_between_checkpoints_and_continue(job: tuple[str, Path], project: Path) -> None:
    """A signal in the first pseudo-half of iteration 5: iteration 4 is written then, and what was done of 5."""
    name, folder = job
    hook = """
    def at(step, batch):
        if (step, batch) == (9, 1):
            os.kill(os.getpid(), signal.SIGTERM)
    """
    stopped = run(project, [*JOBS[name], "--o", "out/run"], hook=hook)
    assert stopped.code == 75, stopped
    assert "--continue out/run_it004_optimiser.star" in stopped.err
    ranks = 3 if MPIEXEC.exists() else 0
    ended = run(project, [name, "--continue", "out/run_it004_optimiser.star"], ranks)
    assert ended.code == 0, ended
    assert "were done before the run was stopped" in ended.out
    assert compare(folder / "out/run", project / "out/run", ITERATIONS).is_rounding()


def test_two_clear_classes_are_separated(tmp_path: Path) -> None:
    """Balls and hollow shells, which look the same from everywhere; four classes, from random blobs."""
    from mpiapp.testing.simulate import simulate

    axis = np.arange(32) - 16
    r = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    maps = [np.exp(-((r / 7) ** 4)), np.exp(-(((r - 7) / 2) ** 2))]
    for name, volume in zip("ab", maps, strict=True):
        write_map(tmp_path / f"{name}.mrc", volume.astype(np.float32), 6.0)
    simulate(
        SimulateConfig(
            output=str(tmp_path / "data"),
            maps=(str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")),
            proportions=(0.6, 0.4),
            n_particles=400,
            snr=0.3,
            diameter_A=130.0,
            seed=5,
        )
    )
    options = (
        "class2d --i data/particles.star --o out/run --particle_diameter 140 --psi_step 30 --offset_range 3 --K 4 "
        "--grad --iter 40 --grad_ini_subset 80 --grad_fin_subset 150 --random_seed 1"
    )
    ended = run(tmp_path, options.split())
    assert ended.code == 0, ended
    found = read_star(tmp_path / "out/run_it040_data.star")["particles"]["rlnClassNumber"].astype(int)
    truth = read_star(tmp_path / "data/truth.star")["particles"]["rlnClassNumber"].astype(int)
    counts = np.array([[((found == k) & (truth == t)).sum() for t in (1, 2)] for k in (1, 2, 3, 4)])
    assert counts.max(axis=1).sum() > 0.97 * len(truth)
    state, _ = load_checkpoint(OutputNames(str(tmp_path / "out/run")).checkpoint(40))
    assert state["moments"]["second"].shape[0] == 4
