"""Post-processing beside relion_postprocess on the same half maps and mask: curves, B-factor, map, time.

    python benchmarks/postprocess_against_relion.py HALF1 MASK [--seeds 10] [--autob_lowres 15]
    python benchmarks/postprocess_against_relion.py --boxes 64 128 256 360       times on simulated half maps
    ... --locres                                                                 local resolution instead

Prints the largest differences of the curves, both programs' B-factor and resolution over RELION's seeds, and the wall
time of each whole command. Needs relion_postprocess on the PATH.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.postprocess_star import read_postprocess
from mpiapp.model.filters import apply_bfactor
from mpiapp.model.masks import soft_sphere

HALF, MASK = "run_half1_class001_unfil.mrc", "mask.mrc"


def timed(words: list[str]) -> float:
    """Wall time of a command in seconds; it must leave its files, whatever it thinks of a missing PDF tool."""
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "=== Backtrace" in done.stderr or "mpiapp: error" in done.stderr:
        sys.exit(done.stderr)
    return time.perf_counter() - begun


def both(folder: Path, half: Path, mask: Path, seed: int, flags: list[str]) -> tuple[float, float]:
    """Run both programs into ours/ and theirs/; returns their times."""
    (folder / "theirs").mkdir(exist_ok=True)
    words = ["--i", str(half), "--mask", str(mask), "--random_seed", str(seed), *flags]
    ours = timed([sys.executable, "-m", "mpiapp", "postprocess", *words, "--o", f"{folder}/ours/post"])
    theirs = timed(["relion_postprocess", *words, "--o", f"{folder}/theirs/post"])
    return ours, theirs


def compare(half: Path, mask: Path, seeds: int, lowest: float) -> None:
    """Curves, resolution, B-factor and map over RELION's seeds."""
    flags = ["--auto_bfac", "--autob_lowres", f"{lowest:g}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records, times = [], []
        for seed in range(seeds):
            times.append(both(folder, half, mask, seed, flags))
            records.append([read_postprocess(folder / side / "post.star") for side in ("ours", "theirs")])
        for curve in ("unmasked", "masked"):
            worst = max(float(np.abs(a.fsc[curve] - b.fsc[curve]).max()) for a, b in records)
            print(f"{curve:<12} largest difference {worst:.1e}")
        for curve in ("randomised", "corrected"):
            ours, theirs = (np.array([pair[i].fsc[curve] for pair in records]) for i in (0, 1))
            spread = np.ptp(theirs, axis=0)
            print(
                f"{curve:<12} largest difference of the means {np.abs(ours.mean(0) - theirs.mean(0)).max():.4f}; "
                f"RELION's seeds differ by up to {spread.max():.4f}, ours by {np.ptp(ours, axis=0).max():.4f}"
            )
        for label, unit in (("rlnFinalResolution", "A"), ("rlnBfactorUsedForSharpening", "A^2")):
            for i, side in enumerate(("ours", "RELION")):
                values = [float(pair[i].general[label]) for pair in records]
                print(f"{label} {side}: {min(values):.2f} .. {max(values):.2f} {unit}")
        maps = [read_map(folder / side / "post.mrc")[0].ravel() for side in ("ours", "theirs")]
        print(f"sharpened maps correlate by {np.corrcoef(*maps)[0, 1]:.6f} (each with its own B-factor)")
        print(
            f"time: {np.median([t[0] for t in times]):.2f} s, RELION {np.median([t[1] for t in times]):.2f} s"
        )


def simulate(folder: Path, box: int, pixel_size_A: float) -> None:
    """Half maps of a ball of random density that fades with a B-factor, in white noise, and a mask."""
    rng = np.random.default_rng(box)
    ball = soft_sphere(box, 0.3 * box, 4) * (1 + rng.standard_normal((box,) * 3, dtype=np.float32))
    signal = apply_bfactor(ball.astype(np.float32), pixel_size_A, 40 * pixel_size_A**2, workers=2)
    signal /= signal.std()
    for h in (1, 2):
        noise = rng.standard_normal((box,) * 3, dtype=np.float32)
        write_map(folder / HALF.replace("half1", f"half{h}"), signal + noise, pixel_size_A)
    write_map(folder / MASK, soft_sphere(box, 0.32 * box, 6), pixel_size_A)


def time_boxes(boxes: list[int], local: bool) -> None:
    """Whole commands on simulated half maps of several boxes."""
    for box in boxes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pixel = 1.5
            simulate(folder, box, pixel)
            flags = ["--locres", "--adhoc_bfac", "-50"] if local else ["--adhoc_bfac", "-50"]
            ours, theirs = both(folder, folder / HALF, folder / MASK, 0, flags)
            print(f"box {box}: {ours:.2f} s, RELION {theirs:.2f} s, {theirs / ours:.1f} times", flush=True)


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("half1", nargs="?", type=Path)
    parser.add_argument("mask", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--autob_lowres", type=float, default=15.0)
    parser.add_argument("--boxes", nargs="+", type=int, default=[])
    parser.add_argument("--locres", action="store_true")
    options = parser.parse_args()
    if options.boxes:
        time_boxes(options.boxes, options.locres)
    elif options.half1 and options.mask:
        compare(options.half1, options.mask, options.seeds, options.autob_lowres)
    else:
        parser.error("give HALF1 and MASK, or --boxes")


if __name__ == "__main__":
    main()
