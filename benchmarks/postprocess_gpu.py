"""Post-processing on a device: wall time of whole commands, what of it is start-up, and the difference from processors.

    python benchmarks/postprocess_gpu.py [--boxes 128 256 360] [--locres]

The first run of a machine compiles kernels; the best of three runs counts. Start-up is that of Python with CuPy and a
context, and of what draws, without any work.
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
from postprocess_against_relion import HALF, MASK, simulate

from mpiapp.io.mrc import read_map

STARTS = {
    "Python, NumPy": "import numpy",
    "and CuPy with a context": "import numpy, cupy; cupy.zeros(1)",
    "what draws": "import matplotlib.figure, matplotlib.backends.backend_agg",
}


def timed(words: list[str]) -> tuple[float, str]:
    """Wall time of a command and what it printed."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - begun, done.stdout


def job(folder: Path, name: str, flags: list[str]) -> str:
    """Three runs of a job; what there is to say about them."""
    words = ["-m", "mpiapp", "postprocess", "--i", str(folder / HALF), "--mask", str(folder / MASK), *flags]
    runs = [timed([*words, "--o", f"{folder}/{name}/"]) for _ in range(3)]
    inside = re.findall(r"time: +([\d.]+) s|points in ([\d.]+) s", runs[-1][1])
    own = "".join(inside[0]) if inside else "?"
    return f"{min(t for t, _ in runs):.2f} s (first {runs[0][0]:.2f} s), of which the work {own} s"


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", nargs="+", type=int, default=[128, 256, 360])
    parser.add_argument("--locres", action="store_true")
    options = parser.parse_args()
    for name, code in STARTS.items():
        print(f"start-up, {name}: {min(timed(['-c', code])[0] for _ in range(3)):.2f} s", flush=True)
    flags = ["--locres", "--adhoc_bfac", "-50"] if options.locres else ["--auto_bfac"]
    result = "postprocess_locres.mrc" if options.locres else "postprocess.mrc"
    for box in options.boxes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            simulate(folder, box, 1.5)
            print(f"box {box}, device: {job(folder, 'gpu', [*flags, '--gpu'])}", flush=True)
            print(f"box {box}, processors: {job(folder, 'cpu', flags)}", flush=True)
            one, two = (read_map(folder / where / result)[0] for where in ("cpu", "gpu"))
            print(
                f"box {box}: maps differ by {np.abs(one - two).max() / np.abs(one).max():.1e} of the largest value"
            )


if __name__ == "__main__":
    main()
