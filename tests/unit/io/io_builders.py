"""Small valid inputs for the tests of readers and checks, written without the code under test."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Table = dict[str, list[Any]]

MRC_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def star_text(tables: Mapping[str, Table], line_end: str = "\n") -> str:
    """Text of a STAR file with one loop per table."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += ["", f"data_{name}", "", "loop_"]
        lines += [f"_{label} #{i}" for i, label in enumerate(table, 1)]
        lines += [" ".join(str(cell) for cell in row) for row in zip(*table.values(), strict=True)]
        lines += [""]
    return line_end.join(lines) + line_end


def mrc_bytes(
    data: np.ndarray,
    pixel_size_A: float = 3.0,
    *,
    mode: int = 2,
    order: str = "<",
    extended: int = 0,
    axes: Sequence[int] = (1, 2, 3),
    stamp: bytes | None = None,
    mark: bytes = b"MAP ",
) -> bytes:
    """An MRC file byte by byte, from the table in the MRC2014 paper; `data` is (sections, rows, columns)."""
    nz, ny, nx = data.shape
    sampling = [0, 0, 0]
    for axis, size in zip(axes, (nx, ny, nz), strict=True):
        sampling[axis - 1] = size
    head = struct.pack(order + "10i", nx, ny, nz, mode, 0, 0, 0, *sampling)
    head += struct.pack(order + "6f", *(n * pixel_size_A for n in sampling), 90, 90, 90)
    head += struct.pack(order + "3i3f2i", *axes, 0, 0, 0, 0, extended)
    head += bytes(100) + bytes(12) + mark
    head += stamp if stamp is not None else (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    head += bytes(4) + struct.pack(order + "i", 0) + bytes(800)
    assert len(head) == 1024
    return head + bytes(extended) + data.astype(order + MRC_MODES[mode]).tobytes()


class Project:
    """A folder with two stacks of eight images each and a particle table, to be spoiled by a test."""

    def __init__(self, folder: Path, box: int = 16, per_stack: int = 8) -> None:
        self.folder, self.box = folder, box
        rng = np.random.default_rng(5)
        self.images = rng.normal(size=(2, per_stack, box, box)).astype(np.float32)
        (folder / "Extract").mkdir()
        for i in range(2):
            self.write_stack(i, self.images[i])
        n = 2 * per_stack
        self.optics: Table = {
            "rlnOpticsGroup": [1],
            "rlnOpticsGroupName": ["og1"],
            "rlnVoltage": ["300.000000"],
            "rlnSphericalAberration": ["2.700000"],
            "rlnAmplitudeContrast": ["0.100000"],
            "rlnImagePixelSize": ["3.000000"],
            "rlnImageSize": [box],
            "rlnImageDimensionality": [2],
        }
        self.particles: Table = {
            "rlnImageName": [f"{i % per_stack + 1:06d}@Extract/s{i // per_stack}.mrcs" for i in range(n)],
            "rlnMicrographName": [f"MotionCorr/job002/Movies/m{i // per_stack}.mrc" for i in range(n)],
            "rlnOpticsGroup": [1] * n,
            "rlnDefocusU": [f"{15000 + 100 * i:.6f}" for i in range(n)],
            "rlnDefocusV": [f"{14000 + 100 * i:.6f}" for i in range(n)],
            "rlnDefocusAngle": ["30.000000"] * n,
            "rlnAngleRot": [f"{10.5 * i:.6f}" for i in range(n)],
        }

    @property
    def star(self) -> Path:
        return self.folder / "particles.star"

    def stack(self, index: int) -> Path:
        return self.folder / "Extract" / f"s{index}.mrcs"

    def write_stack(self, index: int, images: np.ndarray, **options: Any) -> None:
        self.stack(index).write_bytes(mrc_bytes(images, **options))

    def write(self, **options: Any) -> Path:
        """Write the table as it is now."""
        self.star.write_text(star_text({"optics": self.optics, "particles": self.particles}, **options))
        return self.star
