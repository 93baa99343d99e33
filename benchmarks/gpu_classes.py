#!/usr/bin/env python3
"""Time of an iteration of classification on a device against the number of classes.

    benchmarks/gpu_classes.py FOLDER [--class3d 1 2 4 6 8 16] [--class2d 50 200] [--iterations 4] [--verbose]
    benchmarks/gpu_classes.py FOLDER --particles 105247 --class3d 6 --class2d --iterations 2

FOLDER holds particles.star, its stack and ref_class001_lp60.mrc. Prints of every iteration the image size, milliseconds
of expectation a particle, seconds of maximization and of everything else (files, accuracies), and the whole. The first
iteration correlates (class3d), reads the images and has the start-up in it. An iteration ends with its line in the log:
its maps are there then, its files are written while the next one computes. More particles than there are images are rows
that come again, each with an image of its own in the memory of the device, as it counts for reading and space.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gpu_growth import make_case
from numpy.typing import NDArray

from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.outputs import OutputNames
from mpiapp.io.star import read_star
from mpiapp.report.style import COLOURS, figure, write_csv

Figures = NDArray[np.float64]  # milliseconds of expectation a particle, seconds of M, of the rest, of all

COMMON = """
    --particle_diameter 330 --oversampling 1 --offset_range 5 --offset_step 2 --ctf --norm --scale
    --flatten_solvent --zero_mask --pad 2 --random_seed 1 --gpu
""".split()
OWN = {
    "class3d": "--ini_high 60 --firstiter_cc --tau2_fudge 4 --healpix_order 2 --ref",
    "class2d": "--tau2_fudge 2 --psi_step 12 --center_classes",
}
END = "since start"  # of the line that ends an iteration


def run(command: str, star: Path, root: Path, n_classes: int, iterations: int, verbose: bool) -> list[float]:
    """When a run began and when each of its iterations ended, seconds."""
    own = OWN[command].split()
    if own[-1] == "--ref":
        own.append(str(star.parent / "ref_class001_lp60.mrc"))
    words = [sys.executable, "-m", "mpiapp", command, "--i", str(star), "--o", str(root),
             *COMMON, *own, "--K", str(n_classes), "--iter", str(iterations),
             "--verb", "2" if verbose else "1"]  # fmt: skip
    ends, text = [time.monotonic()], []
    job = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert job.stdout is not None
    for line in job.stdout:
        text.append(line)
        if END in line:
            ends.append(time.monotonic())
    if job.wait():
        sys.exit(f"{' '.join(words)} ended with code {job.returncode}:\n{''.join(text[-40:])}")
    if verbose:
        print("".join(text))
    return ends


def plot(path: Path, measured: dict[tuple[str, int], Figures]) -> None:
    """Expectation a particle and whole iterations against the number of classes (Kimanius et al. 2016, figure 4D-E)."""
    panels_of = {0: "Expectation (ms a particle)", 3: "Whole iteration (s)"}
    with figure(path, 9, 4) as fig:
        for panel, (part, label) in zip(fig.subplots(1, 2), panels_of.items(), strict=True):
            for command, colour in zip(OWN, COLOURS, strict=False):
                numbers = sorted(k for job, k in measured if job == command)
                if numbers:
                    values = [measured[command, k][part] for k in numbers]
                    panel.plot(numbers, values, "o-", color=colour, label=command)
            numbers = sorted({k for _, k in measured})
            panel.set_xscale("log", base=2)
            panel.set_xticks(numbers, [str(k) for k in numbers])
            panel.minorticks_off()
            panel.set(xlabel="Classes", ylabel=label, ylim=(0, None), title="Median from iteration 2 on")
            panel.grid(axis="both")
            panel.legend()
    keys = sorted(measured)
    columns = {
        "is_class2d": [float(job == "class2d") for job, _ in keys],
        "classes": [float(k) for _, k in keys],
    }
    values = np.array([measured[key] for key in keys]).T
    names = ("E_ms_a_particle", "M_s", "rest_s", "whole_s")
    write_csv(path, {**columns, **dict(zip(names, values, strict=True))})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--class3d", type=int, nargs="*", default=[1, 2, 4, 6, 8, 16], metavar="K")
    parser.add_argument("--class2d", type=int, nargs="*", default=[50, 200], metavar="K")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--particles", type=int, default=0, help="so many instead of those of the folder")
    parser.add_argument(
        "--plot", type=Path, help="picture of the figures against the number of classes, .png"
    )
    parser.add_argument("--verbose", action="store_true", help="show the logs, with device time by kernel")
    a = parser.parse_args()
    print(
        "job", "K", "iteration", "size", "E_ms_a_particle", "M_s", "rest_s", "whole_s", sep="\t", flush=True
    )
    measured: dict[tuple[str, int], Figures] = {}
    star = a.folder / "particles.star"
    if a.particles:
        box = int(read_star(star)["optics"]["rlnImageSize"].iloc[0])
        star = make_case(a.folder, a.particles, box, a.folder, np)
    for command, numbers in (("class3d", a.class3d), ("class2d", a.class2d)):
        for n_classes in numbers:
            with tempfile.TemporaryDirectory(prefix="classes_", dir=a.folder) as out:
                root = Path(out) / "run"
                ends = run(command, star, root, n_classes, a.iterations, a.verbose)
                state = load_checkpoint(OutputNames(str(root)).checkpoints()[-1][1])[0]
            history, n = state["history"], len(state["half"])
            rows = []
            for k, whole in enumerate(np.diff(ends)):
                e, m = (float(history[f"{part}_s"][k]) for part in ("expectation", "maximization"))
                size = int(history["current_size"][k])
                rows.append((1000 * e / n, m, whole - e - m, whole))
                print(command, n_classes, k + 1, size, *(f"{x:.3f}" for x in rows[-1]), sep="\t", flush=True)
            measured[command, n_classes] = np.median(rows[1:] or rows, axis=0)
    if a.plot:
        plot(a.plot, measured)
        print(f"picture: {a.plot}")


if __name__ == "__main__":
    main()
