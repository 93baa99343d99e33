"""``mpiapp info`` names what a bug report needs, also where MPI or a GPU is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

import pytest

from mpiapp.backend import gpu_selftest
from mpiapp.cli import info
from mpiapp.errors import DeviceError
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


@pytest.mark.parametrize(
    ("devices", "passes", "words", "code", "tested"),
    [
        (1, True, [], 0, True),
        (1, False, [], DeviceError.exit_code, True),
        (1, False, ["--no_self_test"], 0, False),
        (0, True, [], 0, False),
    ],
)
def test_kernels_are_tested_where_there_is_a_device(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    devices: int,
    passes: bool,
    words: list[str],
    code: int,
    tested: bool,
) -> None:
    def self_test(report: Callable[[str, str], None]) -> bool:
        report("a_kernel", "passed" if passes else "FAILED")
        return passes

    monkeypatch.setattr(info, "load_cupy", lambda: None)
    monkeypatch.setattr(info, "visible_devices", lambda cupy: ("GPU-1",) * devices)
    monkeypatch.setattr(gpu_selftest, "self_test", self_test)
    assert info.run(words) == code
    assert ("a_kernel" in capsys.readouterr().out) == tested
