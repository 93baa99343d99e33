"""Side by side with RELION's programs: half maps to work on, and how a program is called."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mpiapp.io.mrc import read_map, write_map
from mpiapp.testing.maps import apply_bfactor
from mpiapp.testing.phantoms import phantom_map

Call = Callable[[str], str]


@dataclass(frozen=True)
class HalfMaps:
    """Two half maps on disc, in a folder to work in, and what RELION's scripts would be told of them."""

    folder: Path
    half1: Path
    threshold: float
    pixel_size_A: float


def _simulated(folder: Path) -> tuple[np.ndarray, ...]:
    """A phantom that fades with a B-factor, in white noise: FSC from 1 to 0 within the box."""
    rng = np.random.default_rng(5)
    signal = apply_bfactor(phantom_map(48, 3.0, 90.0, seed=4), 3.0, 250.0).astype(np.float64)
    signal /= signal.std()
    return tuple((signal + 0.4 * rng.normal(size=signal.shape)).astype(np.float32) for _ in range(2))


@pytest.fixture(scope="session", params=["simulated", "apoferritin"])
def halves(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HalfMaps:
    """Half maps of a phantom, and those of 1,551 particles of apoferritin (EMPIAR-10146)."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "simulated":
        maps, pixel, threshold = _simulated(folder), 3.0, 1.0
    else:
        source = request.getfixturevalue("shared") / "data/empiar10146_halfmaps"
        maps = tuple(read_map(source / f"pm_shared_half{h}_unfil.mrc")[0] for h in (1, 2))
        pixel, threshold = 3.0, 0.02
    for h, density in enumerate(maps, 1):
        write_map(folder / f"run_half{h}_class001_unfil.mrc", density, pixel)
    return HalfMaps(folder, folder / "run_half1_class001_unfil.mrc", threshold, pixel)


@pytest.fixture(scope="session")
def call(relion: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Runs one of RELION's programs and returns what it printed; a missing PDF tool is no failure."""
    folder = tmp_path_factory.mktemp("relion")  # where a program leaves what nobody gave a name

    def run(words: str) -> str:
        program, *rest = words.split()
        done = subprocess.run(
            [str(relion / program), *rest],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "=== Backtrace" not in done.stderr, done.stderr[-2000:]
        return done.stdout

    return run
