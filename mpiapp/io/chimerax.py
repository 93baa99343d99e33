"""Scripts for ChimeraX (.cxc) that open the results of a job; file names are those beside the script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mpiapp.io.atomic import atomic_file

_PALETTE = "blue:cyan:lime:yellow:red"  # fine to coarse


def write_map_script(path: Path, density: Path, level: float, others: Iterable[Path] = ()) -> None:
    """Open a map at a contour level, and other files such as a .bild as they are; atomic."""
    lines = [f"open {_quoted(density)}", f"volume #1 level {level:.5g}"]
    _write(path, lines + [f"open {_quoted(other)}" for other in others])


def write_local_script(
    path: Path, density: Path, level: float, local: Path, finest_A: float, coarsest_A: float
) -> None:
    """Open a map at a contour level, coloured by the local resolution of another, with a colour key; atomic."""
    steps = [finest_A + (coarsest_A - finest_A) * i / 4 for i in range(5)]
    key = " ".join(f"{colour}:{step:.1f}" for colour, step in zip(_PALETTE.split(":"), steps, strict=True))
    _write(
        path,
        [
            f"open {_quoted(density)}",
            f"open {_quoted(local)}",
            f"volume #1 level {level:.5g} step 1",
            "hide #2 models",
            f"color sample #1 map #2 palette {_PALETTE} range {finest_A:.2f},{coarsest_A:.2f}",
            f"key {key}",
            "lighting soft",
        ],
    )


def _quoted(file: Path) -> str:
    return f'"{file.name}"' if any(c in file.name for c in " ;") else file.name


def _write(path: Path, lines: list[str]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join([*lines, "view", ""]), encoding="utf-8")
