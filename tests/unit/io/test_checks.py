"""Checks that warn, and that good input passes without a word. What is refused: test_bad_inputs.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from io_builders import Project

from mpiapp.errors import InputError
from mpiapp.io.checks import check_mask, check_particles, check_reference
from mpiapp.io.mrc import read_map
from mpiapp.io.particles import read_particles


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, per_stack=12)


def ball(n: int = 16, radius: float = 5.0, edge: float = 2.0) -> np.ndarray:
    """A soft ball, white, values 0 to 1."""
    grid = np.arange(n) - n // 2
    r = np.sqrt(grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2)
    return np.clip((radius + edge - r) / edge, 0, 1).astype(np.float32)


def test_good_input_passes_in_silence(project: Project) -> None:
    table = read_particles(project.write())
    assert check_particles(table, (16, 16, 16), 3.0, diameter_A=40.0) == []
    assert check_reference(ball(), 3.0, "ref.mrc") == []
    assert check_mask(ball(), 3.0, "mask.mrc", (16, 16, 16), 3.0) == []


def test_real_input_passes(shared: Path) -> None:
    folder = shared / "data/empiar10146_apoferritin"
    table = read_particles(folder / "particles.star", root=folder)
    reference, pixel = read_map(folder / "reference_30A.mrc")
    assert check_reference(reference, pixel, folder / "reference_30A.mrc") == []
    assert check_particles(table, reference.shape, pixel, diameter_A=150.0) == []


def spoil_column(label: str, cells: Callable[[int], object]) -> Callable[[Project], None]:
    def spoil(project: Project) -> None:
        project.particles[label] = [cells(i) for i in range(len(project.particles["rlnImageName"]))]

    return spoil


def spoil_stack(project: Project) -> None:
    project.write_stack(1, project.images[1], pixel_size_A=2.0)


def spoil_mark(project: Project) -> None:
    for i in range(2):
        project.write_stack(i, project.images[i], mark=bytes(4))


def spoil_nan(project: Project) -> None:
    project.images[0, 3, 2, 2] = np.nan
    project.write_stack(0, project.images[0])


def spoil_background(project: Project) -> None:
    project.write_stack(1, project.images[1] * 7 + 100)


def spoil_copies(project: Project) -> None:
    project.particles["rlnImageName"][1] = project.particles["rlnImageName"][0]
    project.particles["rlnRandomSubset"] = [1, 1] + [1, 2] * 11


def spoil_optics(project: Project) -> None:
    project.optics = {label: cells * 2 for label, cells in project.optics.items()}
    project.optics["rlnOpticsGroup"] = [1, 2]
    project.optics["rlnOpticsGroupName"] = ["og1", "empty"]


WARNINGS = {
    "overfocus": (
        spoil_column("rlnDefocusV", lambda i: -500.0 if i == 4 else 9000.0),
        ["row 5 ", "rlnDefocusV", "-500", "overfocus"],
    ),
    "one defocus of zero": (
        spoil_column("rlnDefocusU", lambda i: 0.0 if i < 2 else 9000.0),
        ["row 1 ", "rlnDefocusU", "2 rows", "not estimated"],
    ),
    "defocus of 20 um": (
        spoil_column("rlnDefocusU", lambda i: 2e5 if i == 0 else 9000.0),
        ["row 1 ", "200000", "more than 10 um"],
    ),
    "CTF scale of zero": (
        spoil_column("rlnCtfScalefactor", lambda i: float(i != 7)),
        ["row 8 ", "rlnCtfScalefactor", "without signal"],
    ),
    "shift beyond the box": (
        spoil_column("rlnOriginXAngst", lambda i: 30.0 if i == 2 else 1.0),
        ["row 3 ", "rlnOriginX", "30", "half the box"],
    ),
    "uneven halves": (
        spoil_column("rlnRandomSubset", lambda i: 1 + (i % 4 == 0)),
        ["rlnRandomSubset", "18 and 6"],
    ),
    "small groups": (
        spoil_column("rlnMicrographName", lambda i: f"m{i // 5}.mrc"),
        ["5 of 5 groups", "m4.mrc with 4", "rlnGroupName"],
    ),
    "optics group without particles": (spoil_optics, ["no particle", "empty"]),
    "pixel size of a stack": (spoil_stack, ["s1.mrcs", "2.0000", "3.0000", "data_optics is used"]),
    "mark missing": (spoil_mark, ["s0.mrcs", "'MAP '", "2 stacks"]),
    "NaN pixel": (spoil_nan, ["row 4 ", "000004@Extract/s0.mrcs", "NaN", "set aside"]),
    "background": (spoil_background, ["row 13 ", "mean", "12 of 24", "normalise"]),
    "copies in one half": (spoil_copies, ["row 2 ", "000001@Extract/s0.mrcs", "row 1 ", "1 copy"]),
}


@pytest.mark.parametrize("case", list(WARNINGS))
def test_warnings(project: Project, case: str) -> None:
    spoil, parts = WARNINGS[case]
    spoil(project)
    warnings = check_particles(read_particles(project.write()))
    assert len(warnings) == 1, warnings
    for part in parts:
        assert part in warnings[0]


def test_large_diameter_warns(project: Project) -> None:
    (warning,) = check_particles(read_particles(project.write()), diameter_A=60.0)
    assert "60 A" in warning
    assert "48 A" in warning


def test_reader_notices_are_passed_on(project: Project) -> None:
    (warning,) = check_particles(read_particles(project.write(line_end="\r\n")))
    assert "CR LF" in warning


def test_options_that_switch_checks_off(project: Project) -> None:
    project.particles["rlnRandomSubset"] = [1] * 24
    project.particles["rlnDefocusU"] = project.particles["rlnDefocusV"] = [0.0] * 24
    table = read_particles(project.write())
    with pytest.raises(InputError, match="2 problems"):
        check_particles(table)
    assert check_particles(table, ctf=False, split_halves=False) == []
    with pytest.raises(InputError, match=r"box 8.*is 16"):
        check_particles(table, (8, 8, 8), 6.0, ctf=False, split_halves=False)
    assert check_particles(table, (8, 8, 8), 6.0, ctf=False, split_halves=False, trust_reference=True) == []


def test_problems_are_collected_and_capped(project: Project) -> None:
    project.optics = {label: cells * 9 for label, cells in project.optics.items()}
    project.optics["rlnOpticsGroup"] = list(range(1, 10))
    project.optics["rlnVoltage"] = [0.0] * 9
    with pytest.raises(InputError) as caught:
        check_particles(read_particles(project.write()), max_problems=3)
    lines = str(caught.value).splitlines()
    assert lines[0] == "9 problems with the input:"
    assert len(lines) == 5
    assert lines[-1].strip() == "... and 6 more"


def test_reference_warnings() -> None:
    assert "no pixel size" in check_reference(ball(), 0.0, "ref.mrc")[0]
    assert "inverted" in check_reference(1 - ball(), 3.0, "ref.mrc")[0]


def test_mask_warnings() -> None:
    assert "soft edge" in check_mask((ball() > 0.5).astype(np.float32), 3.0, "m.mrc")[0]
    assert "solvent" in check_mask(0.6 + 0.4 * ball(), 3.0, "m.mrc")[0]
    assert "3.1000" in check_mask(ball(), 3.1, "m.mrc", (16, 16, 16), 3.0)[0]
