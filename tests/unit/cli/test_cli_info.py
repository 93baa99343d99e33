"""``mpiapp info`` names what a bug report needs, also where MPI or a GPU is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

from mpiapp.cli import info
from mpiapp.parallel.launcher import Launch


def test_info_shows_versions_machine_mpi_and_devices() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mpiapp", "info"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    for heading in ("Versions:", "Machine:", "MPI:", "Devices:"):
        assert heading in done.stdout
    assert metadata.version("numpy") in done.stdout
    assert "launched by" in done.stdout


def test_info_works_without_mpi4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "version_of", lambda name: "not installed")
    lines = dict(info._mpi(None))
    assert "mpiapp[mpi]" in lines["library"]


def test_a_launcher_without_mpi4py_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "version_of", lambda name: "not installed")
    assert "srun (4 processes)" in dict(info._mpi(Launch("srun", 4, 0)))["launched by"]


def test_a_failing_helper_becomes_a_line() -> None:
    crash = [sys.executable, "-c", "import sys; sys.exit('no such library')"]
    assert info._from_child(crash, "library") == [("library", "not usable: no such library")]
    assert info._from_child(["/nonexistent/tool"], "GPU")[0][1].startswith("/nonexistent/tool failed")


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("mpirun (Open MPI) 4.1.4", "Open MPI"),
        ("HYDRA build details:", "MPICH"),
        ("MPICH Version: 5.0.2", "MPICH"),
        ("Intel(R) MPI Library for Linux", "Intel MPI"),
        ("something else", "unknown"),
    ],
)
def test_mpi_families_are_told_apart(text: str, family: str) -> None:
    assert info._family(text) == family
