#!/usr/bin/env python3
"""Where the time of an expectation step goes on a device, by kernel, and how near each is to what the device can do.

    benchmarks/gpu_profile.py FOLDER --diameter 330 [--particles 1000] [--iterations 3 6 11]

FOLDER holds particles.star, its stack and ref_class001_lpNN.mrc. A refinement runs under Nsight Compute (ncu), which
looks at the first half in each of the iterations given: one run each, which ends there. Kernels run one after the other,
some more than once, so times are those of each kernel alone. DRAM, L2 and L1 are shares of what the device can move at
most, FMA and tensor shares of the time of these units, and issue that of the instructions; a kernel near 100 % in one of
them is bound by it.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from glob import glob
from itertools import count
from pathlib import Path
from typing import Any

from gpu_growth import make_case

TIME, BYTES = "gpu__time_duration.sum", "dram__bytes.sum"
# heading: metrics of which the first that a device has is asked for
SHARES = {
    "DRAM": ["dram__bytes.sum.pct_of_peak_sustained_elapsed"],
    "L2": ["lts__t_sectors.sum.pct_of_peak_sustained_elapsed"],
    "L1": ["l1tex__data_pipe_lsu_wavefronts.sum.pct_of_peak_sustained_elapsed"],
    "issue": ["sm__inst_issued.sum.pct_of_peak_sustained_elapsed"],
    "FMA": ["sm__inst_executed_pipe_fma.sum.pct_of_peak_sustained_elapsed"],
    "tensor": [
        "sm__pipe_tensor_cycles_active.sum.pct_of_peak_sustained_elapsed",
        "sm__inst_executed_pipe_tensor.sum.pct_of_peak_sustained_elapsed",
        "sm__pipe_tensor_op_hmma_cycles_active.sum.pct_of_peak_sustained_elapsed",
    ],
}
SPARED_MB = 30_000  # ncu keeps what kernels overwrite in memory of the device
PLACES = (
    "/usr/local/cuda*/bin/ncu",
    "/opt/nvidia/nsight-compute/*/ncu",
    "/usr/local/cuda*/nsight-compute*/ncu",
)


@dataclass
class Kernel:
    """Launches of one kernel: nanoseconds, bytes, and shares weighted by time."""

    launches: int = 0
    ns: float = 0.0
    bytes: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)


def find_ncu() -> str | None:
    """The profiler on the PATH or where the CUDA toolkit puts it."""
    places = [path for pattern in PLACES for path in sorted(glob(pattern))]
    return os.environ.get("NCU") or shutil.which("ncu") or next(iter(places[::-1]), None)


def metrics_here(ncu: str) -> dict[str, str]:
    """Heading to metric, of those that this device has."""
    done = subprocess.run([ncu, "--query-metrics"], capture_output=True, text=True, timeout=120, check=False)
    known = set(re.findall(r"^\w+__\w+", done.stdout, re.MULTILINE))
    found = {}
    for heading, names in SHARES.items():
        here = [name for name in names if name.partition(".")[0] in known]
        if here:
            found[heading] = here[0]
    return found


def by_kernel(lines: Iterable[str], shares: dict[str, str]) -> dict[str, Kernel]:
    """Sums over the launches in ncu's CSV (raw page, base units), the longest kernel first."""
    table = csv.DictReader(line for line in lines if line.startswith('"'))
    kernels: dict[str, Kernel] = {}
    for row in table:
        if not row.get("ID"):
            continue  # the row of units
        kernel = kernels.setdefault(short_name(row["Kernel Name"]), Kernel())
        ns = number(row[TIME])
        kernel.launches += 1
        kernel.ns += ns
        kernel.bytes += number(row[BYTES])
        for heading, metric in shares.items():
            kernel.shares[heading] = kernel.shares.get(heading, 0.0) + ns * number(row[metric])
    return dict(sorted(kernels.items(), key=lambda item: -item[1].ns))


def number(text: str) -> float:
    """A value of ncu's; 0 for one that it could not measure."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0


def short_name(name: str) -> str:
    """A kernel's name without arguments; those of the libraries by library."""
    if re.search(r"gemm|cutlass|cublas|xmma", name):
        return "cuBLAS product"
    if re.search(r"fft|regular_|vector_", name):
        return "cuFFT"
    bare = name.removeprefix("void ").partition("(")[0]
    return "CuPy: " + bare.removeprefix("cupy_") if bare.startswith(("cupy", "cub")) else bare


def table_of(kernels: dict[str, Kernel], headings: Sequence[str]) -> list[str]:
    """One line a kernel, with the last few together."""
    whole = sum(kernel.ns for kernel in kernels.values()) or 1.0
    rows = [
        f"{'kernel':<34}{'launches':>9}{'ms':>8}{'%':>5}{'GB/s':>7}" + "".join(f"{h:>8}" for h in headings)
    ]
    for name, kernel in kernels.items():
        if kernel.ns < 0.004 * whole:
            continue
        shares = "".join(f"{kernel.shares[h] / kernel.ns:>7.0f}%" for h in headings)
        rows.append(
            f"{name[:33]:<34}{kernel.launches:>9}{kernel.ns / 1e6:>8.2f}{100 * kernel.ns / whole:>5.0f}"
            f"{kernel.bytes / kernel.ns:>7.0f}{shares}"
        )
    launches = sum(kernel.launches for kernel in kernels.values())
    return [*rows, f"{'all kernels':<34}{launches:>9}{whole / 1e6:>8.2f}"]


def watch(iteration: int, words: list[str]) -> None:
    """A refinement of which ncu sees the expectation of the first half in one iteration, where it ends."""
    from mpiapp.backend.gpu import GpuBackend
    from mpiapp.cli.main import main as run

    expectation, calls = GpuBackend.expectation, count()

    def watched(self: GpuBackend, *arguments: Any) -> Any:
        if next(calls) != 2 * (iteration - 1):  # two halves
            return expectation(self, *arguments)
        self.cupy.cuda.runtime.profilerStart()
        expectation(self, *arguments)
        self.device.synchronize()
        self.cupy.cuda.runtime.profilerStop()
        raise SystemExit(0)

    GpuBackend.expectation = watched  # type: ignore[method-assign]
    sys.exit(run(words))


def profile(ncu: str, shares: dict[str, str], iteration: int, words: list[str], patience: int) -> list[str]:
    """Output of a run under ncu: lines of CSV among others."""
    metrics = ",".join([TIME, BYTES, *shares.values()])
    command = [
        ncu,
        "--profile-from-start",
        "off",
        "--clock-control",
        "none",
        "--cache-control",
        "none",
        "--csv",
        "--page",
        "raw",
    ]
    command += ["--print-units", "base", "--metrics", metrics]
    command += [sys.executable, __file__, "--watch", str(iteration), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return [f"not finished after {patience} s"]
    return (done.stdout + done.stderr).splitlines()


def main() -> None:
    """Print one table an iteration."""
    if sys.argv[1:2] == ["--watch"]:
        watch(int(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diameter", type=float, required=True, help="of the particle, A")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--iterations", type=int, nargs="+", default=[3, 6, 11])
    parser.add_argument("--patience", type=int, default=150, help="seconds for a run")
    options = parser.parse_args()
    ncu = find_ncu()
    if ncu is None:
        sys.exit(
            "Nsight Compute (ncu) is not installed: it comes with the CUDA toolkit; NCU=/path/ncu names it"
        )
    shares = metrics_here(ncu)
    with tempfile.TemporaryDirectory() as out:
        star = make_case(options.folder, options.particles, box_of(options.folder), Path(out), None)
        words = [
            *f"refine3d --i {star} --ini_high 60 --firstiter_cc --offset_range 5 --offset_step 2".split()
        ]
        words += [
            *f"--random_seed 1 --gpu --free_gpu_memory {SPARED_MB} --particle_diameter {options.diameter}".split()
        ]
        words += ["--ref", str(next(options.folder.glob("ref_class001_lp*.mrc")))]
        for iteration in options.iterations:
            lines = profile(
                ncu, shares, iteration, [*words, "--o", f"{out}/{iteration}/run"], options.patience
            )
            kernels = by_kernel(lines, shares)
            sizes = re.findall(r"CurrentImageSize.*|Angular step=.*degrees", "\n".join(lines))
            print(
                f"\nIteration {iteration}, half 1 of {options.particles:,} particles: "
                + "; ".join(sizes[-2:])
            )
            print("\n".join(table_of(kernels, list(shares)) if kernels else lines[-5:]), flush=True)


def box_of(folder: Path) -> int:
    """Box of the images of a case."""
    from mpiapp.io.star import read_star

    return int(read_star(folder / "particles.star")["optics"]["rlnImageSize"].iloc[0])


if __name__ == "__main__":
    main()
