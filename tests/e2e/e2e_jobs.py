"""Whole jobs in processes of their own: start them, break them, compare what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import numpy as np

from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.outputs import OutputNames
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg

MPIEXEC = Path(sys.executable).parent / "mpiexec"
LAUNCHER_VARIABLES = ("PMI", "OMPI", "MPI", "HYDRA", "SLURM")
ITERATIONS = 3
# good particles and a good start map: few states are significant, so an iteration takes tenths of a second
REFINE = (
    "refine3d --i data/particles.star --ref data/reference_class001.mrc --ini_high 20 --particle_diameter 144 "
    f"--healpix_order 1 --offset_range 3 --offset_step 1 --random_seed 1 --auto_iter_max {ITERATIONS}"
).split()

CLASS3D = (
    "class3d --i data/particles.star --ref data/reference_class001.mrc --ini_high 20 --particle_diameter 144 "
    f"--healpix_order 1 --offset_range 3 --offset_step 1 --random_seed 1 --K 2 --iter {ITERATIONS}"
).split()
CLASS2D = (
    "class2d --i data/particles.star --particle_diameter 144 --psi_step 15 --offset_range 3 --offset_step 1 "
    f"--random_seed 1 --K 3 --iter {ITERATIONS}"
).split()

# Runs the command line with a hook: `at(iteration, batch)` is called before each batch of an expectation step.
DRIVER = """
import os, signal, sys, time
import mpiapp.backend.cpu
from mpiapp.engine.iteration import Iteration
rank = int(os.environ.get("PMI_RANK", "0"))
mpiapp.backend.cpu.BATCH = 8  # several batches in the tiny data set

def at(iteration, batch):
    pass

def die():
    os.kill(os.getpid(), signal.SIGKILL)

{hook}

expectation, count = Iteration.expectation, [0]

def hooked(self, search, halves, maps, shares, drifts, read, step):
    count[0] += 1
    batches = [0]

    def counting(n):
        batches[0] += 1
        at({first} + count[0], batches[0])
        return step(n)

    return expectation(self, search, halves, maps, shares, drifts, read, counting)

Iteration.expectation = hooked
from mpiapp.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Ended:
    """How a job ended."""

    code: int
    seconds: float
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """Lines of the program's own errors, without those of a launcher."""
        return [line for line in (self.out + self.err).splitlines() if line.startswith("mpiapp: ")]


def environment() -> dict[str, str]:
    """That of the tests, without traces of a launcher that started them."""
    return {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER_VARIABLES)}


def command(arguments: list[str], ranks: int = 0, hook: str = "", folder: Path | None = None) -> list[str]:
    """The words that start ``mpiapp``; with a hook, through a script written to the folder.

    A run that is continued counts its iterations from the one that it goes on from.
    """
    launcher = [str(MPIEXEC), "-n", str(ranks)] if ranks else []
    if not hook:
        return [*launcher, sys.executable, "-m", "mpiapp", *arguments]
    assert folder is not None
    first = 0
    if "--continue" in arguments:
        first = OutputNames.from_file(arguments[arguments.index("--continue") + 1])[1] or 0
    script = folder / "driver.py"
    script.write_text(DRIVER.format(hook=dedent(hook), first=first))
    return [*launcher, sys.executable, str(script), *arguments]


def run_words(folder: Path, words: list[str], timeout_s: float = 120, **variables: str) -> Ended:
    """Run a command in a folder to its end, with more environment variables if given."""
    begin = time.monotonic()
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ended(done.returncode, time.monotonic() - begin, done.stdout, done.stderr)


def run(folder: Path, arguments: list[str], ranks: int = 0, hook: str = "", timeout_s: float = 120) -> Ended:
    """Run a job of ``mpiapp`` in a folder to its end."""
    return run_words(folder, command(arguments, ranks, hook, folder), timeout_s)


def last_optimiser(root: Path) -> Path:
    """Optimiser file of the last iteration that a user finds."""
    return sorted(root.parent.glob(f"{root.name}_it*_optimiser.star"))[-1]


@dataclass
class Difference:
    """How far two runs are apart after the same iteration."""

    fsc: float
    same_poses: float  # fraction within 0.01 degrees and 0.01 A and of the same class
    map: float  # relative to the largest density

    def is_rounding(self) -> bool:
        """Whether the runs differ by rounding only; a near tie of two poses may fall either way."""
        return self.fsc < 1e-4 and self.same_poses > 0.995 and self.map < 1e-3


def compare(a: Path, b: Path, iteration: int = ITERATIONS) -> Difference:
    """Compare two runs, given by their output roots."""
    first, second = (load_checkpoint(OutputNames(str(root)).checkpoint(iteration))[0] for root in (a, b))
    p, q = first["poses"], second["poses"]
    turn = geodesic_deg(*(euler_to_matrix(x["rot_deg"], x["tilt_deg"], x["psi_deg"]) for x in (p, q)))
    shift = np.abs(p["origin_A"] - q["origin_A"]).max(axis=1)
    maps = [(first["maps"][h], second["maps"][h]) for h in first["maps"]]
    same = (turn < 0.01) & (shift < 0.01) & (p["class_number"] == q["class_number"])
    return Difference(
        float(np.abs(first["fsc"] - second["fsc"]).max()),
        float(same.mean()),
        max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in maps),
    )


def undisturbed_job(folder: Path, data: Path, words: list[str]) -> Path:
    """A folder with the data and the run of a job in ``out`` that nothing interrupted."""
    (folder / "data").symlink_to(data)
    ended = run(folder, [*words, "--o", "out/run"])
    assert ended.code == 0, ended
    assert ended.err == ""
    return folder
