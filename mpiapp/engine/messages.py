"""What a refinement says and records of itself, made from its state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.engine.schedule import Policy, needed_step_deg
from mpiapp.engine.state import RunState, Schedule
from mpiapp.io.outputs import OutputNames
from mpiapp.model.fsc import resolution_at
from mpiapp.model.search import Search
from mpiapp.report import lines

NAMED = 5


def coming_iteration(policy: Policy, s: Schedule, search: Search) -> list[str]:
    """Resolution, sampling and sizes of an expectation step."""
    n_orientations = search.n_directions * search.grid.psi_deg.size
    return [
        *lines.current_resolution(
            1 / max(s.frequency, 1e-6), needed_step_deg(policy, s.frequency), policy.particle_diameter_A
        ),
        *lines.sampling(s.step_deg, s.sigma_deg is not None, s.offset_range_A, s.fine_offset_step_A),
        f" CurrentImageSize= {s.current_size} of {policy.box}; coarse orientations= {n_orientations}; "
        f"coarse translations= {len(search.coarse_shifts_A)}",
    ]


def set_aside(rows: NDArray[np.int64], image_name: Callable[[int], str]) -> list[str]:
    """Which images are not used because they are not finite."""
    if not rows.size:
        return []
    named = ", ".join(image_name(int(row)) for row in rows[:NAMED])
    more = f" and {rows.size - NAMED} more" if rows.size > NAMED else ""
    return [f" WARNING: set aside, not finite (NaN or infinity): {named}{more}"]


def ending(
    names: OutputNames, setup: ImagingSetup, state: RunState, masked: bool, tau2_fudge: float
) -> list[str]:
    """Where the results of a converged run are, and how good they are."""
    shell = resolution_at(state.fsc, 0.143, setup.pixel_size_A, setup.box)
    return [
        *lines.final(
            names.final_map(),
            names.model(None),
            names.data(None),
            1 / max(state.schedule.frequency, 1e-6),
            masked,
            state.schedule.accuracy_rot_deg,
            tau2_fudge,
        ),
        f" Auto-refine: + FSC of the half maps is above 0.143 up to: {shell:.4g} A",
    ]


def record(state: RunState, setup: ImagingSetup, expectation_s: float, maximization_s: float) -> None:
    """Add an iteration to the history of the run, which the progress plot shows."""
    s = state.schedule
    row = {
        "iteration": s.iteration,
        "resolution_A": 1 / max(s.frequency, 1e-6),
        "resolution_0.143_A": resolution_at(state.fsc, 0.143, setup.pixel_size_A, setup.box),
        "step_deg": s.step_deg,
        "offset_step_A": s.fine_offset_step_A,
        "accuracy_rot_deg": s.accuracy_rot_deg,
        "accuracy_trans_A": s.accuracy_trans_A,
        "change_angle_deg": s.change_angle_deg,
        "change_offset_A": s.change_offset_A,
        "average_pmax": s.average_pmax,
        "current_size": s.current_size,
        "expectation_s": expectation_s,
        "maximization_s": maximization_s,
    }
    for key, value in row.items():
        state.history.setdefault(key, []).append(float(value))
