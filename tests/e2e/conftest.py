"""A tiny simulated data set, and a refinement of it that nothing interrupts, shared by all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from e2e_jobs import REFINE, run

from mpiapp.config.simulate import SimulateConfig


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 80 particles in a box of 32 pixels of 6 A, in the STAR file's words at data/."""
    from mpiapp.testing.simulate import simulate

    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate(
        SimulateConfig(
            output=str(folder),
            n_particles=80,
            box=(32,),
            pixel_size_A=(6.0,),
            snr=4.0,
            low_pass_A=20.0,
            seed=3,
            per_micrograph=40,
        )
    )
    star = folder / "particles.star"
    star.write_text(star.read_text().replace(f"@{folder}/", "@data/"))
    return folder


@pytest.fixture
def project(tmp_path: Path, data: Path) -> Path:
    """A folder to run a job in, with the data in data/ (a copy that may be spoilt)."""
    shutil.copytree(data, tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Output root of three iterations on one process without any event."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "data").symlink_to(data)
    ended = run(folder, [*REFINE, "--o", "out/run", "--checkpoint_keep", "9"])
    assert ended.code == 0, ended
    assert ended.err == ""
    return folder / "out/run"


@pytest.fixture
def half_way(project: Path, undisturbed: Path) -> Path:
    """Output root of a copy of that run, as it was after two iterations."""
    shutil.copytree(undisturbed.parent, project / "out")
    for file in (project / "out").glob("run_it003_*"):
        file.unlink()
    return project / "out/run"


@pytest.fixture(scope="session")
def converged(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path, data: Path) -> Path:
    """Output root of the run, ended by the final iteration with all data."""
    folder = tmp_path_factory.mktemp("converged")
    (folder / "data").symlink_to(data)
    shutil.copytree(undisturbed.parent, folder / "out")
    ended = run(folder, ["refine3d", "--continue", "out/run_it003_optimiser.star", "--force_converge"])
    assert ended.code == 0, ended
    return folder / "out/run"
