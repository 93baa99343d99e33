"""The markers by which RELION's pipeline follows a job, and the Python call."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from e2e_jobs import MPIEXEC, REFINE, compare, run

import mpiapp
from mpiapp.errors import ConfigError

pytestmark = pytest.mark.slow
START = [*REFINE, "--o", "job/run", "--pipeline_control", "job/"]


def markers(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "job").glob("RELION_JOB_*"))


@pytest.fixture
def job(project: Path) -> Path:
    """The project with a job folder, where a run before has left its markers."""
    (project / "job").mkdir()
    for name in ("EXIT_FAILURE", "EXIT_ABORTED", "ABORT_NOW"):
        (project / f"job/RELION_JOB_{name}").touch()
    return project


def test_success(job: Path) -> None:
    assert run(job, [*START, "--auto_iter_max", "1"]).code == 0
    assert markers(job) == ["RELION_JOB_EXIT_SUCCESS"]
    assert "after iteration 1" in (job / "job/report.html").read_text()  # iterations that are used up


@pytest.mark.parametrize("more", [["--ref", "data/nothing.mrc"], ["--precision", "half"], ["--pad", "9"]])
def test_failure(job: Path, more: list[str]) -> None:
    assert run(job, [*START, *more]).code == 2
    assert "RELION_JOB_EXIT_FAILURE" in markers(job)
    assert "RELION_JOB_EXIT_SUCCESS" not in markers(job)


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python")
def test_failure_of_a_worker(job: Path) -> None:
    hook = """
    def at(i, b):
        if rank == 2:
            raise ValueError
    """
    assert run(job, START, 3, hook).code == 1
    assert markers(job) == ["RELION_JOB_EXIT_FAILURE"]


def test_an_abort_from_relions_interface(job: Path, undisturbed: Path) -> None:
    hook = """
    def at(i, b):
        if i == 2:
            open("job/RELION_JOB_ABORT_NOW", "w")
            time.sleep(0.4)
    """
    ended = run(job, START, hook=hook)
    assert ended.code == 75
    assert "RELION_JOB_ABORT_NOW found" in ended.err
    assert "RELION_JOB_EXIT_ABORTED" in markers(job)
    assert "after iteration 1" in (job / "job/report.html").read_text()
    again = run(job, ["refine3d", "--continue", "job/run_it001_optimiser.star", "--pipeline_control", "job/"])
    assert again.code == 0
    assert markers(job) == ["RELION_JOB_EXIT_SUCCESS"]
    assert compare(undisturbed, job / "job/run").is_rounding()


def test_the_python_call_in_another_thread(
    project: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a notebook or an interface with windows calls it; signals belong to the main thread."""
    monkeypatch.chdir(project)
    options = dict(zip(REFINE[1::2], REFINE[2::2], strict=True))
    results: list[object] = []

    def call() -> None:
        results.append(mpiapp.refine3d(**{k.lstrip("-"): v for k, v in options.items()}, o="out/run", j=1))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    (result,) = results
    assert (result.iterations, result.converged) == (3, False)  # type: ignore[attr-defined]
    assert compare(undisturbed, project / "out/run").is_rounding()
    assert "Auto-refine: Iteration= 3" in capsys.readouterr().out


def test_the_python_call_refuses_what_the_command_line_refuses() -> None:
    with pytest.raises(ConfigError, match="did you mean particle_diameter"):
        mpiapp.refine3d(i="a.star", o="out/run", ref="map.mrc", particel_diameter=100)
    with pytest.raises(ConfigError, match="compute on a device with --gpu"):
        mpiapp.refine3d(i="a.star", o="out/run", ref="map.mrc", precision="half")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine may have a device")
def test_a_missing_device_is_told_before_anything_is_read(job: Path) -> None:
    """CuPy or the device is missing: exit code 3, and what to do."""
    ended = run(job, [*START, "--i", "no_such_file.star", "--gpu", "0"])
    assert ended.code == 3
    (message,) = ended.messages
    assert "--gpu" in message
