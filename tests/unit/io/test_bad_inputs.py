"""Malformed inputs: each is refused with InputError, and the message names the place and the remedy."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from io_builders import Project, mrc_bytes, star_text

from mpiapp.errors import InputError
from mpiapp.io.checks import check_particles
from mpiapp.io.particles import read_particles

Spoil = Callable[[Project], None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def cell(label: str, row: int, value: object) -> Spoil:
    """Put one value into the particle table (row from 0); a missing column is filled with 1 first."""

    def spoil(project: Project) -> None:
        n = len(project.particles["rlnImageName"])
        project.particles.setdefault(label, [1] * n)[row] = value

    return spoil


def column(label: str, value: object) -> Spoil:
    def spoil(project: Project) -> None:
        project.particles[label] = [value] * len(project.particles["rlnImageName"])

    return spoil


def optics(label: str, value: object) -> Spoil:
    def spoil(project: Project) -> None:
        project.optics[label] = [value]

    return spoil


def drop(*labels: str) -> Spoil:
    def spoil(project: Project) -> None:
        for label in labels:
            project.optics.pop(label, None)
            project.particles.pop(label, None)

    return spoil


def stack(images: Callable[[np.ndarray], np.ndarray], **options: object) -> Spoil:
    def spoil(project: Project) -> None:
        project.write_stack(1, images(project.images[1]), **options)

    return spoil


def stack_bytes(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(project: Project) -> None:
        project.stack(1).write_bytes(change(project.stack(1).read_bytes()))

    return spoil


def two_groups(project: Project) -> None:
    project.optics = {label: cells * 2 for label, cells in project.optics.items()}
    del project.particles["rlnOpticsGroup"]


def no_rows(project: Project) -> None:
    project.particles = {label: [] for label in project.particles}


def one_row(project: Project) -> None:
    project.particles = {label: cells[:1] for label, cells in project.particles.items()}


def legacy(project: Project, **values: object) -> None:
    project.particles.pop("rlnOpticsGroup")
    for label, value in values.items():
        column(label, value)(project)
    project.optics = {}


def legacy_without_voltage(project: Project) -> None:
    legacy(project, rlnMagnification=1e4, rlnDetectorPixelSize=3.0)


def legacy_without_magnification(project: Project) -> None:
    legacy(
        project, rlnVoltage=300, rlnSphericalAberration=2.7, rlnMagnification=0.0, rlnDetectorPixelSize=3.0
    )


# name: (what is spoilt, what the message must hold). "row"/"line" are those of the file.
TABLES: dict[str, tuple[Spoil, list[str]]] = {
    "missing stack": (
        lambda p: p.stack(1).unlink(),
        [
            "row 9 ",
            "rlnImageName",
            "Extract/s1.mrcs",
            "does not exist",
            "1 of 2 stacks",
            "8 particles",
            "--root",
        ],
    ),
    "truncated stack": (
        stack_bytes(lambda raw: raw[:-1500]),
        ["s1.mrcs", "cut off", "8 images", "has 6", "copy it again"],
    ),
    "stack shorter than a header": (
        stack_bytes(lambda raw: raw[:100]),
        ["row 9 ", "s1.mrcs", "100 bytes", "header"],
    ),
    "stack that is no MRC file": (
        stack_bytes(lambda raw: b"plain text, no image" * 100),
        ["row 9 ", "s1.mrcs", "no MRC file", "check the name"],
    ),
    "complex stack": (
        stack_bytes(lambda raw: raw[:12] + b"\4\0\0\0" + raw[16:] * 2),
        ["s1.mrcs", "mode 4", "complex", "convert"],
    ),
    "packed stack": (stack_bytes(gzip.compress), ["s1.mrcs", "compressed", "unpack"]),
    "folder in place of a stack": (
        lambda p: (p.stack(1).unlink(), p.stack(1).mkdir())[0],
        ["row 9 ", "s1.mrcs", "folder"],
    ),
    "image number 0": (
        cell("rlnImageName", 4, "000000@Extract/s0.mrcs"),
        ["row 5 ", "rlnImageName", ": 0 is no image number", "count from 1"],
    ),
    "image past the end": (
        cell("rlnImageName", 6, "000009@Extract/s0.mrcs"),
        ["row 7 ", "image 9", "Extract/s0.mrcs", "8 images"],
    ),
    "image number that is none": (
        cell("rlnImageName", 2, "x12@Extract/s0.mrcs"),
        ["row 3 ", "rlnImageName", "x12@Extract/s0.mrcs", "000001@stack.mrcs"],
    ),
    "empty image name": (cell("rlnImageName", 2, '""'), ["row 3 ", "rlnImageName", "empty"]),
    "SPIDER stack": (
        cell("rlnImageName", 2, "1@old.spi"),
        ["row 3 ", "old.spi", "SPIDER", "relion_stack_create"],
    ),
    "image twice, halves not assigned": (
        cell("rlnImageName", 5, "000002@Extract/s0.mrcs"),
        ["row 6 ", "000002@Extract/s0.mrcs", "row 2 ", "--remove_duplicates"],
    ),
    "word for a number": (
        cell("rlnDefocusU", 3, "abc"),
        ["row 4 ", "rlnDefocusU", "'abc'", "not a number", "correct"],
    ),
    "NaN for a number": (
        cell("rlnAngleRot", 8, "nan"),
        ["row 9 ", "rlnAngleRot", "'nan'", "finite", "remove the row"],
    ),
    "fraction for a whole number": (
        cell("rlnRandomSubset", 1, "1.5"),
        ["row 2 ", "rlnRandomSubset", "'1.5'", "whole number"],
    ),
    "number far too large": (
        cell("rlnRandomSubset", 1, 300),
        ["row 2 ", "rlnRandomSubset", "300", "too large"],
    ),
    "half 3": (cell("rlnRandomSubset", 4, 3), ["row 5 ", "rlnRandomSubset", ": 3 ", "expected 1 or 2"]),
    "only one half": (column("rlnRandomSubset", 2), ["rlnRandomSubset", "half 2", "remove the column"]),
    "some rows without half": (
        lambda p: p.particles.update(rlnRandomSubset=[1, 2] * 5 + [0] * 6),
        ["row 11 ", "rlnRandomSubset", "6 rows", "remove the column"],
    ),
    "unknown optics group": (
        cell("rlnOpticsGroup", 9, 4),
        ["row 10 ", "rlnOpticsGroup", "group 4", "it has 1", "add the group"],
    ),
    "optics group twice": (two_groups, ["data_optics", "rlnOpticsGroup 1", "2 rows", "number of its own"]),
    "no data_optics": (
        lambda p: p.optics.clear(),
        ["data_optics is missing", "copy it"],
    ),
    "no voltage": (drop("rlnVoltage"), ["data_optics", "rlnVoltage missing", "copy data_optics"]),
    "two columns missing": (
        drop("rlnVoltage", "rlnSphericalAberration"),
        ["columns rlnVoltage, rlnSphericalAberration missing"],
    ),
    "no pixel size": (
        drop("rlnImagePixelSize"),
        ["data_optics", "no pixel size", "add the column rlnImagePixelSize"],
    ),
    "no image names": (
        drop("rlnImageName"),
        ["rlnImageName", "data_optics, data_particles", "extracted particles"],
    ),
    "no defocus": (drop("rlnDefocusU"), ["rlnDefocusU", "missing", "CtfFind"]),
    "defocus zero": (
        lambda p: (column("rlnDefocusU", 0)(p), column("rlnDefocusV", 0)(p))[0],
        ["rlnDefocusU", "0 in all rows", "CtfFind"],
    ),
    "defocus in micrometres": (
        lambda p: (column("rlnDefocusU", 1.5)(p), column("rlnDefocusV", 1.4)(p))[0],
        ["rlnDefocusU", "1.5", "give angstrom"],
    ),
    "voltage in volts": (optics("rlnVoltage", 300000), ["og1", "rlnVoltage", "300000", "kilovolts"]),
    "voltage zero": (optics("rlnVoltage", 0), ["og1", "rlnVoltage", "0 kV", "expected"]),
    "negative aberration": (
        optics("rlnSphericalAberration", -1),
        ["rlnSphericalAberration", "-1 mm", "expected"],
    ),
    "contrast in percent": (
        optics("rlnAmplitudeContrast", 10),
        ["rlnAmplitudeContrast", "10", "between 0 and 1"],
    ),
    "pixel size zero": (optics("rlnImagePixelSize", 0), ["rlnImagePixelSize", "0 A", "above 0"]),
    "word in the optics table": (
        optics("rlnVoltage", "high"),
        ["data_optics, row 1", "rlnVoltage", "'high'"],
    ),
    "Zernike that is no vector": (
        optics("rlnOddZernike", "[1,x]"),
        ["data_optics, row 1", "rlnOddZernike", "[a,b,c]"],
    ),
    "singular magnification": (
        optics("rlnMagMat00", 0),
        ["data_optics", "rlnMagMat00", "singular", "remove"],
    ),
    "subtomograms": (optics("rlnImageDimensionality", 3), ["rlnImageDimensionality", "3", "2D"]),
    "odd box": (optics("rlnImageSize", 15), ["og1", "rlnImageSize", "15 is odd", "even box"]),
    "box of the table": (
        optics("rlnImageSize", 32),
        ["row 1 ", "s0.mrcs", "16 px", "32", "og1", "data_optics"],
    ),
    "box of a stack": (stack(lambda x: x[:, :12, :12]), ["row 9 ", "s1.mrcs", "12 px", "is 16"]),
    "images that are not square": (stack(lambda x: x[:, :, :12]), ["s1.mrcs", "12 x 16", "not square"]),
    "odd box of a stack": (stack(lambda x: x[:, :15, :15]), ["s1.mrcs", "15 is odd", "even box"]),
    "norm correction zero": (
        cell("rlnNormCorrection", 7, 0),
        ["row 8 ", "rlnNormCorrection", ": 0 ", "remove the column"],
    ),
    "empty table": (no_rows, ["data_particles", "no rows", "select particles"]),
    "one particle": (one_row, ["1 particle", "at least 2"]),
    "RELION 3.0 without voltage": (
        legacy_without_voltage,
        ["rlnVoltage, rlnSphericalAberration missing", "RELION 3.0"],
    ),
    "RELION 3.0, magnification 0": (
        legacy_without_magnification,
        ["row 1 ", "rlnMagnification", "0 is not above 0", "correct"],
    ),
}


@pytest.mark.parametrize("case", list(TABLES))
def test_particles(project: Project, case: str) -> None:
    spoil, parts = TABLES[case]
    spoil(project)
    tables = {"optics": project.optics, "particles": project.particles}
    project.star.write_text(star_text({name: table for name, table in tables.items() if table}))
    with pytest.raises(InputError) as caught:
        check_particles(read_particles(project.star))
    message = str(caught.value)
    assert "particles.star" in message or ".mrcs" in message
    for part in parts:
        assert part in message


def test_the_line_in_the_message_is_the_line_of_the_file(project: Project) -> None:
    project.particles["rlnDefocusU"][3] = "abc"
    path = project.write()
    with pytest.raises(InputError) as caught:
        read_particles(path)
    line = int(str(caught.value).split("(line ")[1].split(")")[0])
    assert "abc" in path.read_text().splitlines()[line - 1]


FILES: dict[str, tuple[bytes | None, list[str]]] = {
    "absent": (None, ["no such file", "working directory", "correct the name"]),
    "empty": (b"", ["empty", "disk full"]),
    "blank": (b"\n  \n", ["empty"]),
    "binary": (mrc_bytes(np.zeros((2, 4, 4))), ["binary", "image stack"]),
    "other text": (b"Dear reader,\nthis is a letter.\n", ["no 'data_' block", "no STAR file"]),
    "row cut off": (
        b"data_particles\n\nloop_\n_rlnImageName #1\n_rlnVoltage #2\n_rlnX #3\n1@a 300 1\n2@a 30",
        ["table data_particles", "row 2 (line 8)", "2 values for 3 columns", "rlnX", "cut off"],
    ),
    "row too long": (
        b"data_particles\n\nloop_\n_rlnImageName #1\n_rlnVoltage #2\n_rlnX #3\n1@my stack.mrcs 300 1\n",
        ["row 1 (line 7)", "4 values for 3 columns", "'1'", "quotes"],
    ),
    "column twice": (
        b"data_particles\nloop_\n_rlnImageName #1\n_rlnVoltage #2\n_rlnVoltage #3\n1@a 300 1\n",
        ["line 5", "rlnVoltage twice", "remove one"],
    ),
    "loop without columns": (b"data_particles\nloop_\n1 2 3\n", ["line 3", "names no columns"]),
    "list and loop": (b"data_a\n_rlnX 1\nloop_\n_rlnY #1\n2\n", ["line 3", "both a list and a loop_"]),
    "two values in a list": (b"data_a\n\n_rlnX 1 2\n", ["line 3", "_rlnX", "2 values", "quotes"]),
    "micrographs": (
        b"data_micrographs\nloop_\n_rlnMicrographName #1\n_rlnX #2\na.mrc 1\n",
        ["rlnImageName", "data_micrographs", "extract particles"],
    ),
}


@pytest.mark.parametrize("case", list(FILES))
def test_star_files(tmp_path: Path, case: str) -> None:
    content, parts = FILES[case]
    path = tmp_path / "input.star"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_particles(path)
    for part in ["input.star", *parts]:
        assert part in str(caught.value)


def test_folder_for_a_star_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a STAR file"):
        read_particles(tmp_path)


@pytest.mark.parametrize(
    ("shape", "pixel", "parts"),
    [
        ((16, 16, 16), 2.9, ["2.9000", "3.0000", "--rescale_angpix 3"]),
        ((16, 16, 16), 1.0, ["1.0000", "never set", "--new_box 16"]),
        ((24, 24, 24), 3.0, ["box 24", "is 16", "--new_box 16"]),
    ],
)
def test_reference_that_does_not_fit(
    project: Project, shape: tuple[int, ...], pixel: float, parts: list[str]
) -> None:
    table = read_particles(project.write())
    with pytest.raises(InputError) as caught:
        check_particles(table, shape, pixel, reference_path="ref.mrc")
    for part in ["ref.mrc", "og1", *parts]:
        assert part in str(caught.value)
