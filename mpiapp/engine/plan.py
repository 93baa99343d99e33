"""What a run will do, before it does it: particles, ranks, sampling, memory (engine.md 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.common import CommonConfig
from mpiapp.config.gradient import GradientConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.state import RunState
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius

MIB = 1 << 20


class Seat(NamedTuple):
    """Machine and number of threads of a rank."""

    host: str
    threads: int


def plan_lines(
    config: CommonConfig, setup: ImagingSetup, state: RunState, seats: Sequence[Seat], n_optics: int
) -> list[str]:
    """Lines for the log: who does what, and, on processors, memory at the first and at the final image size."""
    sizes = [int((state.half == h + 1).sum()) for h in range(len(state.halves))]
    parts = f" ({sizes[0]} + {sizes[1]} in the halves)" if len(sizes) == 2 else ""
    n_class = state.halves[0].n_class
    if n_class > 1:
        parts += f"; classes= {n_class}"
    s = state.schedule
    workers = seats[1:] or seats
    threads = sorted({seat.threads for seat in workers})
    each = "-".join(str(n) for n in dict.fromkeys((threads[0], threads[-1])))
    shell = s.frequency * setup.box * setup.pixel_size_A
    first = s.current_size or 2 * (int(shell) + config.incr_size)
    head = [
        f" Particles= {sum(sizes)}{parts}; box= {setup.box} px of "
        f"{setup.pixel_size_A:.4g} A; optics groups= {n_optics}; groups= {setup.n_groups}; "
        f"symmetry= {setup.group.name}",
        f" Processes= {len(seats)} ({_roles(seats)}); threads each= {each}; seed= {state.seed}",
        f" {_beginning(config, state)}",
    ]
    if config.gpu is not None:  # what devices hold is told once they are known
        return head
    head.append(" Memory a process, MiB (estimate)      volume   accumulators   slices   total")
    gradient = isinstance(config, GradientConfig) and config.grad
    last = "final iteration" if len(sizes) == 2 else "at full size"
    for label, size in (("this sampling", min(first, setup.box)), (last, setup.box)):
        planar = s.psi_step_deg is not None
        volume, sums, slices = memory(setup, size, threads[-1], n_class, planar, gradient)
        total = volume + sums + slices
        head.append(f"   {label:<18} size {size:4d}  {volume:10.0f} {sums:14.0f} {slices:8.0f} {total:7.0f}")
    return head


def _roles(seats: Sequence[Seat]) -> str:
    hosts = len({seat.host for seat in seats})
    where = f" on {hosts} machines" if hosts > 1 else ""
    return f"one leader, {len(seats) - 1} working{where}" if len(seats) > 1 else "leads and works"


def _beginning(config: CommonConfig, state: RunState) -> str:
    s = state.schedule
    begin = f"Going on after iteration {s.iteration}" if s.iteration else "Starting"
    offsets = f"offsets to {s.offset_range_A:.4g} A in fine steps of {s.fine_offset_step_A:.4g} A"
    if s.psi_step_deg is not None:
        return f"{begin} in the plane with a fine step of {s.step_deg:.3g} degrees; {offsets}"
    search = "local searches" if s.sigma_deg is not None else "global searches"
    until = (
        f", local from order {config.auto_local_healpix_order}" if isinstance(config, RefineConfig) else ""
    )
    return (
        f"{begin} with {search} at HEALPix order {s.healpix_order} (fine step {s.step_deg:.3g} degrees){until}; "
        f"{offsets}"
    )


def memory(
    setup: ImagingSetup,
    size: int,
    threads: int,
    n_class: int = 1,
    planar: bool = False,
    gradient: bool = False,
) -> tuple[float, float, float]:
    """MiB of the padded references, of all accumulators, and of slices and rows, at one image size."""
    radius = grid_radius(size // 2, setup.padding)
    voxels = float(n_class * (radius + 1) * (2 * radius + 1) ** (1 if planar else 2))
    n_pix = len(pixel_list(size // 2))
    volume = voxels * 8
    # gradient steps have the sums of two pseudo-halves, and moments
    sums = voxels * (16 * threads + (24 * 4 + 20 if gradient else 24 * 2))
    slices = threads * (24 << 20) + min(1 << 30, 3072 * n_pix * 8.0)
    return volume / MIB, sums / MIB, float(np.round(slices / MIB))
