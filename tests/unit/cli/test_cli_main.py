"""The command table: help, start-up time, versions, errors as one line with their exit code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time

import pytest

import mpiapp
from mpiapp.cli import main as cli
from mpiapp.errors import ConfigError, InputError, StopRequested

HEAVY = ("numpy", "scipy", "numba", "pandas", "matplotlib", "h5py", "mpi4py", "rich", "starfile", "cupy")


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mpiapp", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def raises(error: BaseException) -> object:
    def run(argv: list[str]) -> int:
        raise error

    return type("Module", (), {"run": staticmethod(run)})


def test_help_is_fast_and_lists_every_command() -> None:
    begin = time.perf_counter()
    done = call("--help")
    seconds = time.perf_counter() - begin
    print(f"mpiapp --help: {seconds:.3f} s")
    assert done.returncode == 0
    assert seconds < 1.0
    for group, commands in cli.COMMANDS.items():
        assert f"{group}:" in done.stdout
        for name in commands:
            assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(
    "code", ["import mpiapp", "from mpiapp.cli.main import main; main(['refine3d', '--help'])"]
)
def test_nothing_heavy_is_imported_for_help(code: str) -> None:
    check = f"import sys; {code}; print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", [name for commands in cli.COMMANDS.values() for name in commands])
def test_every_listed_command_exists(name: str) -> None:
    module = next(commands[name][0] for commands in cli.COMMANDS.values() if name in commands)
    assert importlib.util.find_spec(module) is not None


def test_version() -> None:
    assert call("--version").stdout.strip() == f"mpiapp {mpiapp.__version__}"


def test_misspelt_command_suggests_the_right_one() -> None:
    done = call("refine3")
    assert done.returncode == 2
    assert done.stderr.strip() == "mpiapp: error: unknown command refine3; did you mean refine3d?"


def test_forgotten_command_is_explained() -> None:
    done = call("--i", "particles.star")
    assert done.returncode == 2
    assert "mpiapp refine3d --i" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (ConfigError("--pad 9: wrong"), 2, "error"),
        (InputError("a.star, row 3:\n too short"), 2, "error"),
        (StopRequested("time limit"), 75, "stopped"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    error: Exception,
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: raises(error))
    monkeypatch.delenv("MPIAPP_DEBUG", raising=False)
    assert cli.main(["refine3d"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith(f"mpiapp: {word}: ")
    assert printed.count("\n") == 1
    assert "Traceback" not in printed


def test_debug_variable_shows_the_traceback() -> None:
    done = call("refine3d", "--pad", "9", MPIAPP_DEBUG="1")
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("mpiapp: error: --pad 9")


def test_only_the_first_rank_prints() -> None:
    quiet = call("refine3d", "--pad", "9", OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="1")
    first = call("refine3d", "--pad", "9", OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert (quiet.returncode, quiet.stderr, quiet.stdout) == (2, "", "")
    assert "mpiapp: error: --pad 9" in first.stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: raises(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["refine3d"])


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    """As in ``mpiapp refine3d --help | head -1``, with the pipe closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mpiapp", "refine3d", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
