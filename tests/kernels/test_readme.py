"""The table of kernels leaves none out and names nothing that is not there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "kernels"
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")


def test_every_file_and_every_cuda_kernel_has_a_row() -> None:
    text = (FOLDER / "README.md").read_text()
    named = set(re.findall(r"`([^`\n]+)`", text))
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".cu", ".cuh", ".py")} - {
        "__init__.py"
    }
    kernels = {name for path in FOLDER.glob("*.cu") for name in KERNEL.findall(path.read_text())}
    assert files - named == set()
    assert kernels - named == set()
    rows = [line.split("|") for line in text.split("## numba")[0].splitlines() if line.startswith("| ")]
    listed = {name for row in rows[1:] for name in re.findall(r"`(\w+)`", row[2])}
    assert listed - kernels == set()


def test_twins_exist() -> None:
    text = (FOLDER / "README.md").read_text()
    for module, name in re.findall(r"`((?:model|backend)\.\w+)(?:\.(\w+))?`", text):
        found = importlib.import_module(f"mpiapp.{module}")
        assert not name or hasattr(found, name), f"{module}.{name}"
