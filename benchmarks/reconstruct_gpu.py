#!/usr/bin/env python3
"""Reconstruction from known poses on processors and on a device: whole commands, and how far the maps are apart.

    benchmarks/reconstruct_gpu.py /dev/shm                        10,000 images of 256 px (2.6 GB)
    benchmarks/reconstruct_gpu.py /dev/shm --n 2000 --box 128 --sym C4 --runs 3

Images are noise with poses and defocus drawn at random; they are written to a new folder there, which is removed at
the end. The best of the runs counts: the first run of a machine compiles kernels.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mpiapp.io.mrc import read_map, write_stack
from mpiapp.io.star import write_star
from mpiapp.model.fsc import fsc

PIXEL_A = 1.2
PER_STACK = 500


def write_particles(folder: Path, n: int, box: int) -> Path:
    """Stacks of noise and their STAR file."""
    rng, names = np.random.default_rng(1), []
    for first in range(0, n, PER_STACK):
        count = min(PER_STACK, n - first)
        path = folder / f"{first:06d}.mrcs"
        write_stack(path, rng.normal(size=(count, box, box)).astype(np.float32), PIXEL_A)
        names += [f"{i + 1:06d}@{path}" for i in range(count)]
    optics = pd.DataFrame(
        {
            "rlnOpticsGroupName": ["one"], "rlnOpticsGroup": [1], "rlnVoltage": [300.0],
            "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1], "rlnImagePixelSize": [PIXEL_A],
            "rlnImageSize": [box], "rlnImageDimensionality": [2],
        }
    )  # fmt: skip
    defocus = rng.uniform(8000, 20000, n)
    particles = pd.DataFrame(
        {
            "rlnImageName": names, "rlnMicrographName": ["mic.mrc"] * n, "rlnOpticsGroup": 1,
            "rlnAngleRot": rng.uniform(-180, 180, n), "rlnAngleTilt": np.degrees(np.arccos(rng.uniform(-1, 1, n))),
            "rlnAnglePsi": rng.uniform(-180, 180, n), "rlnOriginXAngst": rng.normal(0, 3, n),
            "rlnOriginYAngst": rng.normal(0, 3, n), "rlnDefocusU": defocus, "rlnDefocusV": defocus - 300,
            "rlnDefocusAngle": rng.uniform(0, 180, n),
        }
    )  # fmt: skip
    write_star(folder / "particles.star", {"optics": optics, "particles": particles})
    return folder / "particles.star"


def timed(words: list[str]) -> tuple[float, str]:
    """Wall time of a command and the lines that it printed last."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mpiapp", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    sums = re.findall(r"Back-projection: .* in ([\d.]+) s", done.stdout)
    return time.perf_counter() - begun, sums[-1] if sums else "?"


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=10_000, help="images")
    parser.add_argument("--box", type=int, default=256)
    parser.add_argument("--sym", default="C1")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--j", type=int, default=0, help="threads on processors; 0 for all")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=o.folder) as name:
        star, maps = write_particles(Path(name), o.n, o.box), {}
        for where, flags in (("processors", ["--j", str(o.j)]), ("device", ["--gpu"])):
            out = f"{name}/{where}.mrc"
            words = ["reconstruct", "--i", str(star), "--o", out, "--ctf", "--sym", o.sym, *flags]
            runs = [timed(words) for _ in range(o.runs)]
            best, sums = min(runs)
            print(
                f"{o.n} particles of {o.box} px, {o.sym}, {where}: {best:.2f} s (first {runs[0][0]:.2f} s), of which "
                f"back-projection {sums} s",
                flush=True,
            )
            maps[where] = read_map(out)[0].astype(float)
        one, two = maps.values()
        print(
            f"maps differ by {np.abs(one - two).max() / np.sqrt((one**2).mean()):.1e} of the r.m.s. at most, 1 - FSC "
            f"{1 - fsc(one, two)[1:].min():.1e} at most"
        )


if __name__ == "__main__":
    main()
