#!/usr/bin/env python3
"""Does half precision on a device change the result? Curves and poses beside float64 and beside processors.

    benchmarks/gpu_parity.py FOLDER --diameter 190 [--particles 2000 --iterations 4] [--flags="--pad 1"]

FOLDER holds particles.star and ref_class001_lpNN.mrc (`--ini_high NN` follows from its name). The same particles are
refined four times: on the device in half and in double precision, and on processors with two random seeds. Processors
compute scores in single precision with sums in double (they have no float64 run), so double precision on the device
stands for float64. Runs on the device follow one another, those on processors go on beside them: no times are taken.

After Kimanius et al. 2016, figure 5: FSC curves of the halves, FSC between the full reconstructions, and how far poses
differ between device and processors, and between processors with two seeds. A difference in one pose reaches the
reference and with it all poses of later iterations, so differences are those of whole runs. Asked for: curves of the
halves closer than 0.01 up to the final resolution, and poses no farther apart than with two seeds. Ends with code 1
where that fails. Writes parity.png with its numbers (parity.csv, parity_angles.csv), and
the runs, to --out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.mrc import read_map
from mpiapp.io.outputs import OutputNames
from mpiapp.io.star import read_star, write_star
from mpiapp.model.fsc import fsc, resolution_at
from mpiapp.model.rotations import angular_distance_rows_deg, euler_to_matrix
from mpiapp.model.symmetry import point_group
from mpiapp.report.style import COLOURS, FAINT, figure, write_csv

F64 = NDArray[np.float64]
LARGEST_DIFFERENCE = 0.01
NEAR_DEG = 1.0
ON_DEVICE = {
    "half": "--gpu --precision half --random_seed 1",
    "double": "--gpu --precision double --random_seed 1",
}
ON_PROCESSORS = {"processors": "--random_seed 1", "other seed": "--random_seed 2"}


@dataclass
class Run:
    """What a run left."""

    curve: F64  # (n_shells,) FSC of the halves
    full: NDArray[np.float32]  # map from all particles
    poses: F64  # (n, 3, 3)
    pixel_size_A: float
    iterations: int
    converged: bool


def refine(name: str, flags: str, common: list[str], out: Path) -> None:
    """Run one refinement; its output goes to a file."""
    folder = out / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "mpiapp",
        "refine3d",
        *common,
        *flags.split(),
        "--o",
        str(folder / "run"),
    ]
    with (folder / "output.txt").open("w") as log:
        if code := subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            last = (folder / "output.txt").read_text().splitlines()[-3:]
            raise RuntimeError(f"{name}: code {code}: " + " / ".join(last))
    print(f"{name}: done", flush=True)


def load(name: str, out: Path) -> Run:
    """Final files of a run, or those of its last iteration where it was ended by --auto_iter_max."""
    names = OutputNames(str(out / name.replace(" ", "_") / "run"))
    number, path = names.checkpoints()[-1]
    converged = names.final_map().is_file()
    if converged:
        halves, number = [read_map(names.unfil(h))[0] for h in (1, 2)], number + 1
        full, pixel_size_A = read_map(names.final_map())
        curve = fsc(*halves)
    else:
        halves = [read_map(names.half_map(number, h))[0] for h in (1, 2)]
        full, pixel_size_A = (halves[0] + halves[1]) / 2, read_map(names.half_map(number, 1))[1]
        curve = np.asarray(load_checkpoint(path)[0]["fsc"])
    table = read_star(names.data(None if converged else number))["particles"]
    poses = euler_to_matrix(*(table[f"rlnAngle{angle}"].to_numpy() for angle in ("Rot", "Tilt", "Psi")))
    return Run(curve, full, poses, pixel_size_A, number, converged)


def table_of(folder: Path, particles: int, out: Path) -> Path:
    """STAR file with the first particles (0: all), whose images are looked for in the folder."""
    blocks = dict(read_star(folder / "particles.star"))
    table = blocks["particles"].iloc[: particles or None].copy()
    table["rlnImageName"] = [re.sub(r"@.*/", "@", name) for name in table["rlnImageName"]]
    write_star(out / "particles.star", blocks | {"particles": table})
    return out / "particles.star"


def compare(runs: dict[str, Run], sym: str) -> tuple[bool, dict[str, F64], dict[str, F64]]:
    """Print the table; whether all that is asked for holds, FSC between reconstructions, angular differences."""
    operators = point_group(sym).operators
    first, reference = runs["half"], runs["double"]
    box, pixel = len(first.full), first.pixel_size_A
    last = round(box * pixel / resolution_at(reference.curve, 0.143, pixel, box))
    print(
        f"\nrun          iterations  FSC 0.143   largest difference of the halves' FSC to `double`, shells 1-{last}"
    )
    worst = {}
    for name, run in runs.items():
        difference = np.abs(run.curve - reference.curve)[1 : last + 1]
        worst[name] = float(difference.max())
        end = "+ final" if run.converged else "       "
        resolution = resolution_at(run.curve, 0.143, pixel, box)
        print(f"{name:12s} {run.iterations - run.converged:4d} {end} {resolution:6.2f} A   {worst[name]:.4f} "
              f"(mean {difference.mean():.4f})")  # fmt: skip
    pairs = {"half, double": ("half", "double"), "half, processors": ("half", "processors"),
             "two seeds": ("processors", "other seed")}  # fmt: skip
    between = {label: fsc(runs[a].full, runs[b].full) for label, (a, b) in pairs.items()}
    angles = {
        label: np.sort(angular_distance_rows_deg(runs[a].poses, runs[b].poses, operators))
        for label, (a, b) in pairs.items()
    }
    print(
        f"\npair of runs       FSC of full maps: at shell {last}, first below 0.99   angles: within 1 degree, median"
    )
    near = {label: float((found <= NEAR_DEG).mean()) for label, found in angles.items()}
    for label in pairs:
        print(f"{label:18s} {between[label][last]:24.4f} {resolution_at(between[label], 0.99, pixel, box):14.2f} A "
              f"{100 * near[label]:29.1f} % {np.median(angles[label]):8.3f}")  # fmt: skip
    checks = {
        f"curves of the halves within {LARGEST_DIFFERENCE:g}": worst["half"] < LARGEST_DIFFERENCE,
        "full reconstructions agree at the final resolution (0.95)": between["half, double"][last] > 0.95,
        "poses no farther apart than with two seeds": near["half, processors"] >= near["two seeds"],
    }
    print()
    for text, good in checks.items():
        print(f"{'passed' if good else 'FAILED'}: {text}")
    return all(checks.values()), between, angles


def plot(path: Path, runs: dict[str, Run], between: dict[str, F64], angles: dict[str, F64]) -> None:
    """FSC curves and cumulative angular differences, with their numbers beside the picture."""
    first = runs["half"]
    frequency = np.arange(len(first.curve)) / (len(first.full) * first.pixel_size_A)
    with figure(path, 10, 4.2) as fig:
        left, right = fig.subplots(1, 2)
        for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
            left.plot(frequency, run.curve, color=colour, lw=1.3, label=f"halves: {name}")
        for (label, curve), colour in zip(between.items(), COLOURS, strict=False):
            left.plot(frequency, curve, color=colour, lw=1.3, ls="--", label=f"full maps: {label}")
        left.axhline(0.143, color=FAINT, lw=0.8)
        left.set(xlim=(0, frequency[-1]), ylim=(-0.05, 1.03), xlabel="Spatial frequency (1/Å)", ylabel="FSC")
        left.set_title("Fourier shell correlation")
        left.legend(fontsize=7.5)
        for (label, found), colour in zip(angles.items(), COLOURS, strict=False):
            share = np.arange(1, len(found) + 1) / len(found)
            near = 100 * float((found <= NEAR_DEG).mean())
            right.step(found, share, color=colour, lw=1.3, label=f"{label}: {near:.0f} % within 1°")
        right.set(
            xlim=(0, 5), ylim=(0, 1.02), xlabel="Angular difference (degrees)", ylabel="Share of particles"
        )
        right.set_title("Differences of poses")
        right.legend(loc="lower right")
    columns = {f"fsc {name}": run.curve for name, run in runs.items()}
    write_csv(
        path, {"frequency_1_over_A": frequency, **columns, **{f"maps {k}": v for k, v in between.items()}}
    )
    write_csv(
        path.with_name("parity_angles"), {f"{pair}, sorted (deg)": found for pair, found in angles.items()}
    )


def main() -> None:
    """Run, compare, plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diameter", required=True, help="A")
    parser.add_argument("--sym", default="C1")
    parser.add_argument("--particles", type=int, default=0, help="only the first ones")
    parser.add_argument("--iterations", type=int, default=0, help="stop after these; else run to convergence")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument(
        "--no_gpu", action="store_true", help="no device: processors in its place, as a test of this"
    )
    parser.add_argument("--flags", default="", help="more flags of refine3d, as one word")
    a = parser.parse_args()
    out = a.out or Path(tempfile.mkdtemp(prefix="gpu_parity_"))
    out.mkdir(parents=True, exist_ok=True)
    (reference,) = a.folder.glob("ref_class001_lp*.mrc")
    high = re.findall(r"lp([\d.]+)\.mrc$", reference.name)[0]
    particles = table_of(a.folder, a.particles, out)
    common = ["--i", str(particles), "--root", str(a.folder), "--ref", str(reference), "--ini_high", high,
              "--particle_diameter", a.diameter, "--sym", a.sym, *a.flags.split()]  # fmt: skip
    if a.iterations:
        common += ["--auto_iter_max", str(a.iterations)]
    device = {"half": "--random_seed 1 --j 1", "double": "--random_seed 1 --j 2"} if a.no_gpu else ON_DEVICE
    with ThreadPoolExecutor(2) as pool:
        sides = [
            pool.submit(lambda jobs: [refine(name, flags, common, out) for name, flags in jobs.items()], side)
            for side in (device, ON_PROCESSORS)
        ]
        for side in sides:
            side.result()
    runs = {name: load(name, out) for name in (*device, *ON_PROCESSORS)}
    good, between, angles = compare(runs, a.sym)
    plot(out / "parity.png", runs, between, angles)
    print(f"picture: {out / 'parity.png'}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
