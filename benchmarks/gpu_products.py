#!/usr/bin/env python3
"""The coarse score product beside a bare product of the same shape: TFLOP/s on one device.

    benchmarks/gpu_products.py [--images 128]

The program multiplies a batch image by image (strided batches, real and imaginary parts apart); the bare product is one
call of cuBLAS for all rows of the batch. Both take half in and give single out.
"""

from __future__ import annotations

import argparse

import numpy as np

from mpiapp.backend.gpu_kernels import PRECISIONS, make_kernels, multiply

# directions, in-plane angles of half a turn, shifts, pixels: the coarse passes of a global search on 330 A at 1.34 A
SHAPES = {"15 degrees": (192, 12, 21, 320), "7.5 degrees": (768, 24, 45, 1152), "r = 55": (768, 24, 29, 4736)}
REPEATS = 10


def main() -> None:
    """Print one line a shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128)
    n = parser.parse_args().images
    cupy, half = make_kernels().cupy, PRECISIONS["half"]

    def seconds(batches: int, rows: int, a: object, b: object, out: object) -> float:
        times = []
        for _ in range(REPEATS + 2):
            first, last = cupy.cuda.Event(), cupy.cuda.Event()
            first.record()
            multiply(cupy, half, a, b, out, n_batch=batches, n_rows=rows, stride_out=rows * len(b))  # type: ignore[arg-type]
            last.record()
            last.synchronize()
            times.append(cupy.cuda.get_elapsed_time(first, last) / 1e3)
        return float(np.median(times[2:]))

    for name, (n_dir, n_psi, n_trans, n_pix) in SHAPES.items():
        rows = n_psi * n_trans
        a = cupy.random.standard_normal((n * rows, n_pix), dtype=np.float32).astype(np.float16)
        b = cupy.random.standard_normal((n_dir, n_pix), dtype=np.float32).astype(np.float16)
        out = cupy.empty(n * rows * n_dir, np.float32)
        ours, bare = seconds(n, rows, a, b, out), seconds(1, n * rows, a, b, out)
        flop = 2 * n * rows * n_dir * n_pix / 1e12
        print(
            f"{name:12s} {n_dir:5d} directions x {rows:5d} rows x {n_pix:5d}: {flop / ours:6.0f} TFLOP/s, "
            f"bare product {flop / bare:6.0f} TFLOP/s, {100 * bare / ours:3.0f} %"
        )


if __name__ == "__main__":
    main()
