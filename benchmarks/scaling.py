#!/usr/bin/env python3
"""Time of an iteration against the number of particles and the box, one process, all cores.

    benchmarks/scaling.py [500:64 1000:64 2000:64 4000:64 1000:96 1000:128]

Simulates each data set (PARTICLES:BOX, the same phantom in the same physical box) with `mpiapp simulate` and refines it
twice for a few iterations: with global searches from the start, and with local ones around the true poses. Prints of the
last iteration the image size that the resolution asked for, seconds by part and milliseconds a particle; the largest
resident set; and the exponents of growth of each part where several data sets share a box or a number of particles.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.outputs import OutputNames

FIELD_A = 217.6  # edge of the box in A, whatever the number of pixels
REFINE = """
    --ini_high 30 --particle_diameter 160 --random_seed 1 --offset_range 4 --offset_step 2 --checkpoint_keep 2
""".split()
SEARCHES = {
    "global": ("particles.star", "--healpix_order 2 --auto_iter_max 4"),
    "local": ("truth.star", "--healpix_order 4 --auto_local_healpix_order 4 --auto_iter_max 3"),
}
PARTS = ("expectation", "maximization", "rest")


def run(*words: str) -> float:
    """Run one mpiapp command quietly; MiB of its largest resident set."""
    process = subprocess.Popen([sys.executable, "-m", "mpiapp", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"mpiapp {' '.join(words)} ended with code {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024


def measure(folder: Path, search: str) -> tuple[list[float], int, float]:
    """Of the last iteration: seconds of the parts, image size; MiB."""
    particles, flags = SEARCHES[search]
    root = folder / f"{search}_run"
    data = ["--i", str(folder / particles), "--ref", str(folder / "reference_class001.mrc")]
    mib = run("refine3d", *data, "--o", str(root), *REFINE, *flags.split())
    names = OutputNames(str(root))
    number = int(flags.split()[-1])
    history = load_checkpoint(names.checkpoint(number))[0]["history"]
    # checkpoints come last in an iteration, so all of it lies between two of them
    ended = [names.checkpoint(n).stat().st_mtime for n in (number - 1, number)]
    parts = [float(history[f"{part}_s"][-1]) for part in PARTS[:2]]
    return [*parts, ended[1] - ended[0] - sum(parts)], int(history["current_size"][-1]), mib


def print_growth(search: str, rows: dict[tuple[int, int], list[float]], axis: int) -> None:
    """Exponents with particles (axis 0) or box (axis 1), for every set of cases that differ in nothing else."""
    for fixed in sorted({case[1 - axis] for case in rows}):
        cases = [case for case in rows if case[1 - axis] == fixed]
        if len(cases) > 1:
            size = np.log([case[axis] for case in cases])
            powers = np.polyfit(size, np.log([rows[case] for case in cases]), 1)[0]
            what = f"particles, box {fixed}" if axis == 0 else f"box, {fixed} particles"
            parts = ", ".join(f"{part} ^{power:.2f}" for part, power in zip(PARTS, powers, strict=True))
            print(f"{search}, growth with {what}: {parts}")


def main() -> None:
    """Print the table and the exponents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ["500:64", "1000:64", "2000:64", "4000:64", "1000:96", "1000:128"]
    parser.add_argument("cases", nargs="*", default=default, metavar="PARTICLES:BOX")
    a = parser.parse_args()
    results: dict[str, dict[tuple[int, int], list[float]]] = {search: {} for search in SEARCHES}
    titles = ["search", "particles", "box", "size", *(f"{part}_s" for part in PARTS), "ms_a_particle", "MiB"]
    print(*titles, sep="\t", flush=True)
    for n, box in (map(int, case.split(":")) for case in a.cases):
        with tempfile.TemporaryDirectory(prefix="scaling_") as folder:
            data = ["--n", str(n), "--box", str(box), "--angpix", f"{FIELD_A / box:.4f}"]
            run("simulate", "--o", folder, *data, "--snr", "0.2", "--seed", "1")
            for search, rows in results.items():
                parts, size, mib = measure(Path(folder), search)
                rows[n, box] = parts
                numbers = [*(f"{s:.2f}" for s in parts), f"{1000 * sum(parts) / n:.2f}", f"{mib:.0f}"]
                print(search, n, box, size, *numbers, sep="\t", flush=True)
    for search, rows in results.items():
        for axis in (0, 1):
            print_growth(search, rows, axis)


if __name__ == "__main__":
    main()
