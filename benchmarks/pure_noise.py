"""How often half maps of noise alone seem to have a resolution: 20 seeds, boxes and masks, tight and loose.

    python benchmarks/pure_noise.py [--boxes 64 128] [--seeds 20]

Prints, for each box and mask, how many seeds have a corrected FSC above 0.143 beyond the shell within which the mask's
own transform holds 99 % of its power, and without the correction.
"""

from __future__ import annotations

import argparse

import numpy as np

from mpiapp.model.fourier import forward_3d, half_radius
from mpiapp.model.fsc import first_shell_below, solvent_corrected_fsc
from mpiapp.model.mask_creation import extend, soft_edge
from mpiapp.model.masks import soft_sphere


def masks(box: int) -> dict[str, np.ndarray]:
    """A ragged tight mask with a short edge, the same with a wide one, and a soft sphere."""
    rng = np.random.default_rng(0)
    blobs = np.zeros((box,) * 3, bool)
    blobs[tuple(rng.integers(box // 3, 2 * box // 3, (3, 30)))] = True
    blobs = extend(blobs, box / 12)
    return {
        "tight": soft_edge(blobs, 2),
        "soft": soft_edge(blobs, 8),
        "loose": soft_sphere(box, 0.35 * box, 8),
    }


def mask_shell(mask: np.ndarray) -> int:
    """Shell within which the transform of a mask holds all but a hundredth of its power."""
    power = np.abs(forward_3d(mask.astype(np.float64), centre=False)) ** 2
    shell = (half_radius(mask.shape[0], 3) + 0.5).astype(int).ravel()
    total = np.bincount(shell, power.ravel())
    return int(np.searchsorted(np.cumsum(total) / total.sum(), 0.99))


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    for box in options.boxes:
        for name, mask in masks(box).items():
            limit, counts = mask_shell(mask), np.zeros(2, int)
            for seed in range(options.seeds):
                rng = np.random.default_rng([box, seed])
                halves = [rng.standard_normal((box,) * 3, dtype=np.float32) for _ in range(2)]
                found = solvent_corrected_fsc(*halves, mask, seed, clip=False, workers=2)
                for i, curve in enumerate((found.corrected, found.masked)):
                    counts[i] += first_shell_below(curve, 0.143) - 1 > limit
            print(
                f"box {box}, {name} mask (shell {limit}): corrected {counts[0]} of {options.seeds} beyond it, "
                f"masked only {counts[1]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
