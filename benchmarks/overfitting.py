"""What the noise test says of a run that was given a shared high-resolution reference, and of an honest one.

    python benchmarks/overfitting.py FOLDER [--j 2]

A thousand simulated particles with little signal (32 px of 6 A, SNR 0.02) are refined twice by `mpiapp noise_test`, phases
random beyond 40 A: from the truth low-passed to 13 A only, which both halves see, by hard assignment in the first iteration
and with a loose prior (--firstiter_cc --tau2_fudge 4); and from a 60 A map. The first must be told to overfit, the second
not. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SIMULATE = "simulate --n 1000 --box 32 --angpix 6 --snr 0.02 --lowpass 40 --seed 3 --shift_sigma 3"
REFINE = (
    "noise_test --randomize_at 40 --particle_diameter 140 --random_seed 1 --healpix_order 1 --auto_local_healpix_order 2 "
    "--offset_range 2 --offset_step 2 --maxsig 100 --low_resol_join_halves 60 --relion_convergence --firstiter_cc "
    "--tau2_fudge 4"
)


def mpiapp(words: str) -> str:
    """Output of a command, warnings included."""
    done = subprocess.run(
        [sys.executable, "-m", "mpiapp", *words.split()], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr)
    return done.stdout + done.stderr


def main() -> None:
    """Simulate, refine both ways, and print what the test says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--j", type=int, default=2)
    options = parser.parse_args()
    folder = options.folder
    mpiapp(f"{SIMULATE} --o {folder}/data")
    verdicts = {}
    for name, reference, ini_high in (("shared", "truth_class001", 13), ("honest", "reference_class001", 60)):
        text = mpiapp(
            f"{REFINE} --i {folder}/data/particles.star --ref {folder}/data/{reference}.mrc --ini_high {ini_high} "
            f"--o {folder}/{name}/run --j {options.j}"
        )
        said = [line.strip() for line in text.splitlines() if "Noise test:" in line or "overfitting:" in line]
        print(f"{name} reference to {ini_high} A:", *said, sep="\n  ", flush=True)
        verdicts[name] = any(line.startswith("WARNING: overfitting") for line in said)
    if verdicts != {"shared": True, "honest": False}:
        sys.exit(f"expected overfitting with the shared reference only, found {verdicts}")


if __name__ == "__main__":
    main()
