"""Malformed input through the command line: one message with place and remedy, exit code 2, no traceback.

The checks themselves are tested one by one in tests/unit/io; here it is what the user meets.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2e_jobs import MPIEXEC, REFINE, Ended, command, compare, environment, run

from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.star import read_star, write_star

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Data array contains NaN")]
SOON_S = 20.0  # a second or two on a quiet machine
START = [*REFINE, "--o", "out/run"]
GO_ON = ["refine3d", "--continue", "out/run_it002_optimiser.star"]

Spoil = Callable[[Path], None]


def reference(change: Callable[[np.ndarray], np.ndarray], scale: float = 1.0) -> Spoil:
    """Change the start map, or its pixel size."""

    def spoil(project: Path) -> None:
        path = project / "data/reference_class001.mrc"
        volume, pixel = read_map(path)
        write_map(path, np.ascontiguousarray(change(volume)), pixel * scale)

    return spoil


def particles(label: str, value: Callable[[list[str]], list[object]]) -> Spoil:
    """Change a column of the particles, given the image names."""

    def spoil(project: Path) -> None:
        path = project / "data/particles.star"
        blocks = read_star(path)
        table = blocks["particles"]
        table[label] = value([str(name) for name in table["rlnImageName"]])
        write_star(path, blocks)

    return spoil


def optics(label: str, value: object) -> Spoil:
    def spoil(project: Path) -> None:
        path = project / "data/particles.star"
        blocks = read_star(path)
        blocks["optics"][label] = value
        write_star(path, blocks)

    return spoil


def file(name: str, change: Callable[[bytes], bytes] | None) -> Spoil:
    """Change the bytes of a file, or take it away."""

    def spoil(project: Path) -> None:
        path = project / name
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))

    return spoil


def mask_of_another_box(project: Path) -> None:
    write_map(project / "mask.mrc", np.ones((30, 30, 30), np.float32), 6.0)


def with_nan(volume: np.ndarray) -> np.ndarray:
    volume = volume.copy()
    volume[3, 4, 5] = np.nan
    return volume


def nothing(project: Path) -> None:
    return None


# name: (what is spoilt, arguments, what the message must hold)
NEW_RUNS: dict[str, tuple[Spoil, list[str], list[str]]] = {
    "misspelt flag": (
        nothing,
        ["--particel_diameter", "144"],
        ["--particel_diameter", "--particle_diameter?"],
    ),
    "unknown symmetry": (nothing, ["--sym", "Q5"], ["--sym Q5", "Cn, Dn, T, O, I"]),
    "half precision": (nothing, ["--precision", "half"], ["--precision half", "single"]),
    "CTF variant": (nothing, ["--ctf_phase_flipped"], ["--ctf_phase_flipped", "not implemented"]),
    "no such particles": (nothing, ["--i", "data/nothing.star"], ["data/nothing.star", "no such file"]),
    "missing stack": (
        file("data/particles.mrcs", None),
        [],
        ["data/particles.mrcs", "does not exist", "--root"],
    ),
    "truncated stack": (
        file("data/particles.mrcs", lambda raw: raw[:-9000]),
        [],
        ["data/particles.mrcs", "cut off", "copy it again"],
    ),
    "image past the end": (
        particles("rlnImageName", lambda names: [*names[:-1], "000081@data/particles.mrcs"]),
        [],
        ["rlnImageName", "81", "80"],
    ),
    "text for a number": (
        particles("rlnDefocusU", lambda names: ["12000"] * 5 + ["n/a"] + ["12000"] * (len(names) - 6)),
        [],
        ["row 6", "rlnDefocusU", "n/a"],
    ),
    "empty half": (
        particles("rlnRandomSubset", lambda names: [1] * len(names)),
        [],
        ["rlnRandomSubset", "1"],
    ),
    "pixel size of the reference": (
        reference(lambda volume: volume, 1.5),
        [],
        ["reference_class001.mrc", "9.0000", "6.0000", "--rescale_angpix"],
    ),
    "box of the particles": (optics("rlnImageSize", 48), [], ["48", "32", "rlnImageSize"]),
    "reference with NaN": (reference(with_nan), [], ["reference_class001.mrc", "NaN", "x=5, y=4, z=3"]),
    "reference not cubic": (reference(lambda volume: volume[2:]), [], ["32 x 32 x 30", "not cubic"]),
    "reference is a table": (nothing, ["--ref", "data/particles.star"], ["data/particles.star", "MRC"]),
    "mask of another box": (
        mask_of_another_box,
        ["--solvent_mask", "mask.mrc"],
        ["mask.mrc", "30 x 30 x 30", "32 x 32 x 32"],
    ),
    "output folder is a file": (nothing, ["--o", "data/particles.star/run"], ["data/particles.star", "--o"]),
}

CONTINUED: dict[str, tuple[Spoil, list[str], list[str]]] = {
    "checkpoint cut off": (
        file("out/run_it002_checkpoint.h5", lambda raw: raw[: len(raw) // 2]),
        [],
        ["run_it002_checkpoint.h5", "--continue out/run_it001_optimiser.star"],
    ),
    "checkpoint with a flipped bit": (
        file("out/run_it002_checkpoint.h5", lambda raw: raw[:70000] + bytes([raw[70000] ^ 1]) + raw[70001:]),
        [],
        ["run_it002_checkpoint.h5", "--continue out/run_it001_optimiser.star"],
    ),
    "no such iteration": (
        file("out/run_it002_optimiser.star", None),
        ["--continue", "out/run_it007_optimiser.star"],
        ["out/run_it007_optimiser.star", "no such file", "out/run_it002_optimiser.star"],
    ),
}


def refused(ended: Ended, words: list[str]) -> None:
    """Assert that a job was refused as it should be."""
    assert ended.code == 2, ended
    assert ended.seconds < SOON_S
    (message,) = ended.messages
    assert [word for word in words if word not in message] == []
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize("name", NEW_RUNS)
def test_a_new_run_is_refused(name: str, project: Path) -> None:
    spoil, arguments, words = NEW_RUNS[name]
    spoil(project)
    refused(run(project, [*START, *arguments]), words)
    assert not list(project.glob("out/run_it*"))


@pytest.mark.parametrize("name", CONTINUED)
def test_a_continued_run_is_refused(name: str, half_way: Path, project: Path) -> None:
    spoil, arguments, words = CONTINUED[name]
    spoil(project)
    refused(run(project, [*GO_ON, *arguments]), words)


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python (pip install mpich)")
@pytest.mark.parametrize("name", ["misspelt flag", "half precision", "missing stack", "reference with NaN"])
def test_ranks_print_one_message(name: str, project: Path) -> None:
    spoil, arguments, words = NEW_RUNS[name]
    spoil(project)
    refused(run(project, [*START, *arguments], ranks=3), words)


def test_a_full_disk_leaves_what_can_be_continued(half_way: Path, project: Path, undisturbed: Path) -> None:
    """A limit on the size of files stands for the disk: the maps of 131 kB do not fit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    done = subprocess.run(
        command(GO_ON),
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
    )
    ended = Ended(done.returncode, 0.0, done.stdout, done.stderr)
    refused(ended, ["out/run_it003_half1_class001.mrc", "no space", "make space"])
    left = {path.suffix for path in project.glob("out/*it003*")}
    assert left <= {".star", ".bild"}, (
        left
    )  # small tables that did fit: no map, no checkpoint, nothing temporary
    assert not list(project.glob("out/*it003*optimiser*"))
    assert run(project, GO_ON).code == 0
    assert compare(undisturbed, half_way).is_rounding()


def test_nan_images_are_set_aside_and_named(project: Path, undisturbed: Path) -> None:
    path = project / "data/particles.mrcs"
    raw = bytearray(path.read_bytes())
    for image in (6, 40):
        at = 1024 + image * 32 * 32 * 4 + 1000
        raw[at : at + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(bytes(raw))
    ended = run(project, START)
    assert ended.code == 0, ended
    (line,) = [line for line in ended.out.splitlines() if "set aside, not finite" in line]
    assert "000007@data/particles.mrcs" in line
    assert "000041@data/particles.mrcs" in line
    state, _ = load_checkpoint(project / "out/run_it003_checkpoint.h5")
    assert np.isfinite(state["fsc"]).all()
    assert all(np.isfinite(state["maps"][h]).all() for h in "01")
    assert all(np.isfinite(value).all() for value in state["poses"].values())
    good = np.ones(80, bool)
    good[[6, 40]] = False
    assert (state["poses"]["p_max"][good] > 0).all()
    assert compare(undisturbed, project / "out/run").fsc < 0.3


def test_a_dry_run_writes_nothing(project: Path) -> None:
    before = sorted(project.rglob("*"))
    ended = run(project, [*START, "--dry-run"])
    assert (ended.code, ended.err) == (0, "")
    assert "Particles= 80 (" in ended.out
    assert "Memory a process" in ended.out
    assert sorted(project.rglob("*")) == before
