#!/usr/bin/env python3
"""Time of an iteration on a device against the number of particles and the box.

    benchmarks/gpu_growth.py FOLDER --diameter 330 [--particles 2500 5000 10000 20000] [--boxes 128 200 256 360]

FOLDER holds particles.star, its stack and ref_class001_lpNN.mrc. More particles than there are images are rows that
come again (in the same half); smaller boxes are the images cropped in Fourier space, so that the particle stays as it
is. Each case is refined for a few iterations. The first is left out (it compiles, reads the images and correlates); of
the others the medians of each angular step are printed, with the exponents of growth, and drawn to growth.png.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.device_query import load_cupy
from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.mrc import write_stack
from mpiapp.io.mrc_header import open_data, read_header
from mpiapp.io.outputs import OutputNames
from mpiapp.io.star import read_star, write_star
from mpiapp.report.style import COLOURS, figure, write_csv

CHUNK = 250  # images transformed at a time
PARTS = {"expectation_s": "E", "maximization_s": "M"}
# (particles, box, step in degrees) -> image size, seconds of E, seconds of M
Rows = dict[tuple[int, int, float], tuple[float, ...]]


def cropped(stack: NDArray[Any], box: int, xp: Any) -> NDArray[np.float32]:
    """Images in a smaller box, cropped in Fourier space, with a background of standard deviation 1 as before."""
    old, half = stack.shape[1], box // 2
    keep = xp.asarray(np.r_[:half, old - half : old])
    out = np.empty((len(stack), box, box), np.float32)
    for start in range(0, len(stack), CHUNK):
        images = xp.asarray(np.asarray(stack[start : start + CHUNK], np.float32))
        small = xp.fft.irfft2(xp.fft.rfft2(images)[:, keep, : half + 1], s=(box, box))
        out[start : start + CHUNK] = small.get() if hasattr(small, "get") else small
    axis = np.arange(box) - half
    around = np.hypot(axis, axis[:, None]) > half
    out /= out[:CHUNK, around].std()
    return out


def make_case(folder: Path, particles: int, box: int, out: Path, xp: Any) -> Path:
    """STAR file of a case; the stack of a smaller box is made when it is first asked for."""
    blocks = dict(read_star(folder / "particles.star"))
    table, optics = blocks["particles"], blocks["optics"].copy()
    old = int(optics["rlnImageSize"].iloc[0])
    path = folder / re.sub(r"^.*[@/]", "", table["rlnImageName"].iloc[0])
    if box != old:
        pixel_size_A = float(optics["rlnImagePixelSize"].iloc[0]) * old / box
        optics["rlnImagePixelSize"], optics["rlnImageSize"] = pixel_size_A, box
        small = out / f"box{box}.mrcs"
        if not small.exists():
            write_stack(small, cropped(open_data(read_header(path)), box, xp), pixel_size_A)
        path = small
    rows = np.arange(particles) % len(table)
    table = table.iloc[rows].copy()
    numbers = [name.partition("@")[0] for name in table["rlnImageName"]]
    table["rlnImageName"] = [f"{number}@{path.resolve()}" for number in numbers]
    table["rlnRandomSubset"] = rows % 2 + 1
    star = out / f"particles_{particles}_{box}.star"
    write_star(star, {"optics": optics, "particles": table})
    return star


def measure(star: Path, common: list[str], iterations: int) -> dict[str, NDArray[np.float64]]:
    """History of a run."""
    root = star.parent / star.stem / "run"
    command = [sys.executable, "-m", "mpiapp", "refine3d", "--i", str(star), "--o", str(root), *common,
               "--auto_iter_max", str(iterations), "--random_seed", "1", "--verb", "0"]  # fmt: skip
    if code := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"{' '.join(command)} ended with code {code}")
    history = load_checkpoint(OutputNames(str(root)).checkpoints()[-1][1])[0]["history"]
    return {name: np.asarray(values)[1:] for name, values in history.items()}


def growth(rows: Rows, axis: int) -> list[str]:
    """Exponents with particles (axis 0) or box (axis 1), at each step, for cases that differ in nothing else."""
    lines = []
    for step in sorted({key[2] for key in rows}, reverse=True):
        for fixed in sorted({key[1 - axis] for key in rows}):
            cases = [key for key in rows if key[2] == step and key[1 - axis] == fixed]
            if len(cases) > 1:
                size = np.log([key[axis] for key in cases])
                powers = np.polyfit(size, np.log([rows[key][1:] for key in cases]), 1)[0]
                what = f"particles, box {fixed}" if axis == 0 else f"box, {fixed} particles"
                parts = ", ".join(f"{part} ^{power:.2f}" for part, power in zip("EM", powers, strict=True))
                lines.append(f"{step:.3g} degrees, growth with {what}: {parts}")
    return lines


def plot(path: Path, rows: Rows, particles: list[int], boxes: list[int]) -> None:
    """Seconds against particles at the largest box, and against the box, on logarithmic axes."""
    steps = sorted({key[2] for key in rows}, reverse=True)
    with figure(path, 9, 4) as fig:
        panels = fig.subplots(1, 2)
        for axis, (panel, name) in enumerate(zip(panels, ("Particles", "Box (px)"), strict=True)):
            fixed = max(boxes) if axis == 0 else reference_count(particles)
            for step, colour in zip(steps, COLOURS, strict=False):
                found = sorted(k for k in rows if k[2] == step and k[1 - axis] == fixed)
                for part, (style, letter) in enumerate((("o-", "E"), ("s--", "M")), 1):
                    times = [rows[key][part] for key in found]
                    panel.loglog(
                        [key[axis] for key in found],
                        times,
                        style,
                        color=colour,
                        label=f"{letter}, {step:.3g}°",
                    )
            sizes = particles if axis == 0 else boxes
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
            panel.minorticks_off()
            title = f"Box {fixed} px" if axis == 0 else f"{fixed:,} particles"
            panel.set(xlabel=name, ylabel="Seconds of an iteration", title=title)
            panel.grid(axis="both")
            panel.legend()
    names = ("particles", "box", "step_deg", "size", *PARTS)
    write_csv(path, dict(zip(names, np.array([(*k, *v) for k, v in sorted(rows.items())]).T, strict=True)))


def reference_count(particles: list[int]) -> int:
    """Number of particles at which boxes are compared: the second largest."""
    return sorted(particles)[-2:][0]


def main() -> None:
    """Print the table and the exponents, draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diameter", required=True, help="A")
    parser.add_argument("--particles", type=int, nargs="+", default=[2500, 5000, 10000, 20000])
    parser.add_argument("--boxes", type=int, nargs="+", default=[128, 200, 256, 360])
    parser.add_argument("--iterations", type=int, default=7)
    parser.add_argument("--out", type=Path, help="keep data and runs here; best in memory (/dev/shm)")
    parser.add_argument("--flags", default="--gpu", help="flags of refine3d, as one word [--gpu]")
    a = parser.parse_args()
    out = a.out or Path(tempfile.mkdtemp(prefix="gpu_growth_"))
    out.mkdir(parents=True, exist_ok=True)
    (reference,) = a.folder.glob("ref_class001_lp*.mrc")
    high = re.findall(r"lp([\d.]+)\.mrc$", reference.name)[0]
    common = ["--ref", str(reference), "--ini_high", high, "--particle_diameter", a.diameter, "--firstiter_cc",
              "--trust_ref_size", "--offset_range", "5", "--offset_step", "2", *a.flags.split()]  # fmt: skip
    xp = load_cupy() if "--gpu" in a.flags else np
    cases = [(n, max(a.boxes)) for n in a.particles]
    cases += [(reference_count(a.particles), box) for box in sorted(a.boxes)[:-1]]
    rows: Rows = {}
    print("particles\tbox\tstep\titerations\tsize\tE_s\tM_s\tE_ms_a_particle\twhole_run_s", flush=True)
    for n, box in cases:
        star = make_case(a.folder, n, box, out, xp)
        begun = time.monotonic()
        history = measure(star, common, a.iterations)
        whole = time.monotonic() - begun
        for step in dict.fromkeys(history["step_deg"]):
            at = history["step_deg"] == step
            size, e, m = (float(np.median(history[name][at])) for name in ("current_size", *PARTS))
            rows[n, box, float(step)] = (size, e, m)
            print(
                f"{n}\t{box}\t{step:.3g}\t{at.sum()}\t{size:.0f}\t{e:.2f}\t{m:.2f}\t{1000 * e / n:.3f}\t{whole:.1f}",
                flush=True,
            )
    print("\n".join([*growth(rows, 0), *growth(rows, 1)]))
    plot(out / "growth.png", rows, a.particles, a.boxes)
    print(f"picture: {out / 'growth.png'}")


if __name__ == "__main__":
    main()
