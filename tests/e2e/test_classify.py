"""Classifications from end to end: what they leave, any number of ranks, stops, RELION's own reader."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from e2e_jobs import CLASS2D, CLASS3D, ITERATIONS, MPIEXEC, compare, environment, run, undisturbed_job
from test_relion_reads import ALLOWED

from mpiapp.io.mrc import read_map
from mpiapp.io.relion_files import read_model, read_optimiser
from mpiapp.io.star import read_star, write_star

pytestmark = pytest.mark.slow
JOBS = {"class3d": CLASS3D, "class2d": CLASS2D}
LAST = f"run_it{ITERATIONS:03d}"


@pytest.fixture(scope="module", params=JOBS)
def job(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path
) -> tuple[str, Path]:
    """Name of a kind of job, and the folder of a run of it that nothing interrupted."""
    return request.param, undisturbed_job(tmp_path_factory.mktemp(request.param), data, JOBS[request.param])


def test_files_of_a_run(job: tuple[str, Path]) -> None:
    name, folder = job
    out = folder / "out"
    n_class = 2 if name == "class3d" else 3
    model = read_model(out / f"{LAST}_model.star")
    assert len(model.classes) == n_class
    sizes = np.array([c.distribution for c in model.classes])
    assert sizes.sum() == pytest.approx(1, abs=1e-5)
    particles = read_star(out / f"{LAST}_data.star")["particles"]
    numbers = np.asarray(particles["rlnClassNumber"], int)
    assert set(numbers) <= set(range(1, n_class + 1))
    # every particle has most of its weight in its best class
    counts = np.bincount(numbers, minlength=n_class + 1)[1:] / len(numbers)
    np.testing.assert_allclose(counts, sizes, atol=0.2)
    optimiser = read_optimiser(out / f"{LAST}_optimiser.star")
    assert not optimiser.auto_refine
    assert optimiser.n_iterations == ITERATIONS
    for picture in (f"{LAST}_classes.png", "run_class_sizes.png", "run_progress.png"):
        assert (out / picture).stat().st_size > 1000
    page = (out / "report.html").read_text()
    assert "run: finished" in page
    assert page.count("data:image/png;base64,") >= (11 if name == "class3d" else 6)
    assert not list((out / "report_files").glob("*_slices.png"))  # those that the run left are shown
    assert "Share (%)" in page
    assert f"{n_class}, of which {np.count_nonzero(sizes)} hold particles" in page
    if name == "class2d":
        images, pixel = read_map(out / f"{LAST}_classes.mrcs")
        assert images.shape == (3, 32, 32)
        assert model.reference_dimensionality == 2
        assert "@" in str(model.classes[0].map_path)
    else:
        images = np.stack([read_map(out / f"{LAST}_class{k:03d}.mrc")[0] for k in (1, 2)])
        pixel = read_map(out / f"{LAST}_class001.mrc")[1]
        assert model.reference_dimensionality == 3
    assert pixel == pytest.approx(6.0)
    assert (images.std(axis=tuple(range(1, images.ndim))) > 0).all()


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)")
@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks(job: tuple[str, Path], project: Path, ranks: int) -> None:
    """Three workers for two maps or three averages: one may have no class of its own."""
    name, folder = job
    ended = run(project, [*JOBS[name], "--o", "out/run"], ranks)
    assert ended.code == 0, ended
    assert compare(folder / "out/run", project / "out/run").is_rounding()


def test_stop_and_continue(job: tuple[str, Path], project: Path) -> None:
    """A signal in the middle of iteration 2; what was done of it is kept, and the result is that without a stop."""
    name, folder = job
    hook = """
    def at(iteration, batch):
        if (iteration, batch) == (2, 2):
            os.kill(os.getpid(), signal.SIGTERM)
    """
    stopped = run(project, [*JOBS[name], "--o", "out/run"], hook=hook)
    assert stopped.code == 75, stopped
    assert "run: after iteration 1" in (project / "out/report.html").read_text()
    ended = run(project, [name, "--continue", "out/run_it001_optimiser.star"])
    assert ended.code == 0, ended
    assert "were done before the run was stopped" in ended.out
    assert compare(folder / "out/run", project / "out/run").is_rounding()


def test_more_iterations(job: tuple[str, Path], project: Path) -> None:
    name, folder = job
    shutil.copytree(folder / "out", project / "out")
    last = f"out/{LAST}_optimiser.star"
    done = run(project, [name, "--continue", last])
    assert done.code == 2
    assert f"--iter {ITERATIONS}" in done.err
    more = run(project, [name, "--continue", last, "--iter", str(ITERATIONS + 1)])
    assert more.code == 0, more
    assert (project / f"out/run_it{ITERATIONS + 1:03d}_data.star").is_file()
    other = "class2d" if name == "class3d" else "class3d"
    wrong = run(project, [other, "--continue", last, "--iter", "9"])
    assert wrong.code == 2
    assert f"mpiapp {name}" in wrong.err
    no_ctf = run(project, [name, "--continue", last, "--iter", "9", "--no_ctf"])
    assert no_ctf.code == 2
    assert "--no_ctf" in no_ctf.err or "--ctf" in no_ctf.err
    gone = f"out/run_it{ITERATIONS - 1:03d}"
    (project / f"{gone}_checkpoint.h5").unlink(missing_ok=True)
    early = run(project, [name, "--continue", f"{gone}_optimiser.star"])
    assert early.code == 2
    assert f"the last one there is out/run_it{ITERATIONS + 1:03d}_optimiser.star" in early.err


def test_a_local_search_goes_on_from_a_global_one(job: tuple[str, Path], project: Path) -> None:
    name, folder = job
    shutil.copytree(folder / "out", project / "out")
    options = ["--continue", f"out/{LAST}_optimiser.star", "--iter", str(ITERATIONS + 1), "--sigma_ang", "10"]
    ended = run(project, [name, *options])
    if name == "class2d":
        assert ended.code == 2
        return
    assert ended.code == 0, ended
    assert "local searches= true" in ended.out


@pytest.mark.parametrize("flags", [["--skip_align"], ["--skip_rotate"], ["--sigma_ang", "10"]])
def test_orientations_must_be_there_to_keep_to(project: Path, flags: list[str]) -> None:
    path = project / "data/particles.star"
    blocks = read_star(path)
    blocks["particles"] = blocks["particles"].drop(columns=["rlnAngleTilt"], errors="ignore")
    write_star(path, blocks)
    refused = run(project, [*CLASS3D, "--o", "out/run", *flags])
    assert refused.code == 2, refused
    assert f"{flags[0]} keeps to the orientations in the file" in refused.err
    assert "rlnAngleTilt" in refused.err


def test_select(job: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = job
    data = f"out/{LAST}_data.star"
    ended = run(folder, ["select", "--i", data, "--o", str(tmp_path / "one.star"), "--classes", "1"])
    assert ended.code == 0, ended
    before = read_star(folder / data)["particles"]
    after = read_star(tmp_path / "one.star")["particles"]
    chosen = before[before["rlnClassNumber"].astype(int) == 1]
    assert list(after["rlnImageName"]) == list(chosen["rlnImageName"])
    assert list(after.columns) == list(before.columns)
    for classes in ("9", "1-99999999999"):
        refused = run(
            folder, ["select", "--i", data, "--o", str(tmp_path / "none.star"), "--classes", classes]
        )
        assert refused.code == 2
    onto_itself = run(folder, ["select", "--i", data, "--o", f"out/../{data}", "--classes", "1"])
    assert onto_itself.code == 2
    assert len(read_star(folder / data)["particles"]) == len(before)


@pytest.mark.relion
def test_relion_goes_on(relion: Path, job: tuple[str, Path], project: Path) -> None:
    name, folder = job
    shutil.copytree(folder / "out", project / "out")
    (project / "more").mkdir()
    command = [
        str(relion / "relion_refine"),
        *("--continue", f"out/{LAST}_optimiser.star", "--o", "more/run", "--iter", str(ITERATIONS + 1)),
        *("--j", "2"),
    ]
    done = subprocess.run(
        command,
        cwd=project,
        env=environment() | ALLOWED,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    theirs = read_model(project / f"more/run_it{ITERATIONS + 1:03d}_model.star")
    assert len(theirs.classes) == (2 if name == "class3d" else 3)
    assert theirs.average_pmax > 0
