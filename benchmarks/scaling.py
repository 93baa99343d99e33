#!/usr/bin/env python3
"""Time of an iteration against the number of particles and the box, one process, all cores.

    benchmarks/scaling.py [--particles 500 1000 2000 4000] [--boxes 64 96 128] [--iterations 4]

Simulates each data set with `mpiapp simulate` (the same phantom in the same physical box), refines it for a few iterations
and prints milliseconds a particle of the last global one, expectation and maximization apart, and the exponents of growth.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
import tempfile
from pathlib import Path

FIELD_A = 217.6  # edge of the box in A, whatever the number of pixels


def run(*command: str) -> None:
    """Run one mpiapp command quietly."""
    subprocess.run([sys.executable, "-m", "mpiapp", *command], check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path, n: int, box: int, iterations: int) -> tuple[float, float]:
    """Seconds of expectation and maximization of the last iteration."""
    data = folder / f"n{n}_box{box}"
    run(
        "simulate",
        "--o",
        str(data),
        "--n",
        str(n),
        "--box",
        str(box),
        "--angpix",
        f"{FIELD_A / box:.4f}",
        "--snr",
        "0.2",
        "--seed",
        "1",
    )
    reference = next(data.glob("reference_class001*.mrc"))
    run(
        "refine3d",
        "--i",
        str(data / "particles.star"),
        "--ref",
        str(reference),
        "--ini_high",
        "30",
        "--o",
        str(data / "run"),
        "--particle_diameter",
        "160",
        "--random_seed",
        "1",
        "--auto_iter_max",
        str(iterations),
        "--offset_range",
        "4",
        "--offset_step",
        "2",
    )
    from mpiapp.io.checkpoint import load_checkpoint

    state, _ = load_checkpoint(data / f"run_it{iterations:03d}_checkpoint.h5")
    history = state["history"]
    return float(history["expectation_s"][-1]), float(history["maximization_s"][-1])


def main() -> None:
    """Print the table and the exponents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--particles", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--boxes", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--iterations", type=int, default=4)
    a = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scaling_"))
    table = csv.writer(sys.stdout, delimiter="\t")
    table.writerow(["particles", "box", "expectation_s", "maximization_s", "expectation_ms_a_particle"])
    results = {}
    for n, box in [*((n, a.boxes[0]) for n in a.particles), *((a.particles[1], b) for b in a.boxes[1:])]:
        e, m = results[n, box] = measure(folder, n, box, a.iterations)
        table.writerow([n, box, f"{e:.2f}", f"{m:.2f}", f"{1000 * e / n:.2f}"])
        sys.stdout.flush()
    for label, first, last, size in (
        ("particles", (a.particles[0], a.boxes[0]), (a.particles[-1], a.boxes[0]), 0),
        ("box", (a.particles[1], a.boxes[0]), (a.particles[1], a.boxes[-1]), 1),
    ):
        ratio = math.log(last[size] / first[size])
        powers = [math.log(results[last][k] / results[first][k]) / ratio for k in (0, 1)]
        print(f"growth with {label}: expectation ^{powers[0]:.2f}, maximization ^{powers[1]:.2f}")


if __name__ == "__main__":
    main()
