"""What a run will do, before it does it: particles, ranks, sampling, memory (engine.md 7)."""

from __future__ import annotations

import numpy as np

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.state import RunState
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius
from mpiapp.parallel.base import Team

MIB = 1 << 20


def plan_lines(team: Team, config: RefineConfig, setup: ImagingSetup, state: RunState) -> list[str]:
    """Lines for the log: who does what, and memory at the first and at the final image size."""
    n1, n2 = (int((state.half == h).sum()) for h in (1, 2))
    threads = config.threads or team.threads
    head = [
        f" Particles= {n1 + n2} ({n1} + {n2} in the halves); box= {setup.box} px of {setup.pixel_size_A:.4g} A; "
        f"optics groups= {len(setup.optics)}; groups= {setup.n_groups}; symmetry= {setup.group.name}",
        f" Processes= {team.size}; threads each= {threads}; seed= {state.seed}",
        " Memory a process, MiB (estimate)      volume   accumulators   slices   total",
    ]
    final = state.schedule.current_size or 2 * (int(state.schedule.frequency * setup.box * setup.pixel_size_A) + config.incr_size)
    for label, size in (("this sampling", min(final, setup.box)), ("final iteration", setup.box)):
        volume, sums, slices = memory(setup, size, threads)
        head.append(
            f"   {label:<18} size {size:4d}  {volume:10.0f} {sums:14.0f} {slices:8.0f} {volume + sums + slices:7.0f}"
        )
    return head


def memory(setup: ImagingSetup, size: int, threads: int) -> tuple[float, float, float]:
    """MiB of the padded volume, of all accumulators, and of slices and rows, at one image size."""
    radius = grid_radius(size // 2, setup.padding)
    voxels = float((2 * radius + 1) ** 2 * (radius + 1))
    n_pix = len(pixel_list(size // 2))
    volume = voxels * 8
    sums = voxels * (16 * threads + 24 * 2)
    slices = threads * (24 << 20) + min(1 << 30, 3072 * n_pix * 8.0)
    return volume / MIB, sums / MIB, float(np.round(slices / MIB))
