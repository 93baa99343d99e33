"""What a refinement says and records of itself, made from its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.engine.gradient_schedule import GradientStep
from mpiapp.engine.memory_used import peak_memory_MiB
from mpiapp.engine.schedule import Policy, needed_step_deg
from mpiapp.engine.state import UNKNOWN, HalfState, RunState, Schedule
from mpiapp.io.outputs import OutputNames
from mpiapp.model.fsc import resolution_at
from mpiapp.model.search import Free, Search
from mpiapp.report import lines

NAMED = 5
SHOWN = 12  # classes in a line of the log


def coming_iteration(policy: Policy, s: Schedule, search: Search, label: str) -> list[str]:
    """Resolution, sampling and sizes of an expectation step; ``label`` begins the lines about sampling."""
    n_orientations = search.n_directions * search.grid.psi_deg.size if search.free is Free.ALL else 1
    n_shifts = 1 if search.free is Free.CLASS else len(search.coarse_shifts_A)
    sampling = lines.sampling(
        s.step_deg, search.sigma_deg is not None, s.offset_range_A, s.fine_offset_step_A, label
    )
    return [
        *lines.current_resolution(
            1 / max(s.frequency, 1e-6), needed_step_deg(policy, s.frequency), policy.particle_diameter_A
        ),
        *(sampling if search.free is Free.ALL else []),
        f" CurrentImageSize= {s.current_size} of {policy.box}; coarse orientations= {n_orientations}; "
        f"coarse translations= {n_shifts}",
    ]


def gradient_step(step: GradientStep, n_particles: int) -> list[str]:
    """Size of the mini-batch and of the step."""
    if not step.gradient:
        return [" Expectation-maximization with all particles"]
    of = f"of {step.size} of {n_particles}" if step.size is not None else f"of all {n_particles}"
    return [
        f" Gradient step of size {step.step_size:.3g}; mini-batch {of} particles; T= {step.tau2_fudge:.3g}"
    ]


def class_accuracies(half: HalfState) -> list[str]:
    """Expected accuracies of the classes that are large enough, each where they are few."""
    known = np.flatnonzero(half.accuracy[:, 0] < UNKNOWN)
    if not known.size:
        return []
    if known.size <= SHOWN:
        each = (f"{k + 1}: {half.accuracy[k, 0]:.3g} degrees {half.accuracy[k, 1]:.3g} A" for k in known)
        return [f" Expected accuracies, classes: {', '.join(each)}"]
    (rot, trans), (worst_rot, worst_trans) = (f(half.accuracy[known], axis=0) for f in (np.min, np.max))
    return [
        f" Expected accuracy of the best class: {rot:.3g} degrees, {trans:.3g} A; of the worst: {worst_rot:.3g} "
        f"degrees, {worst_trans:.3g} A"
    ]


def classes(policy: Policy, half: HalfState, s: Schedule, shells: NDArray[np.int64]) -> list[str]:
    """Sizes and resolutions of the classes after an iteration, the largest first."""
    order = np.argsort(-half.class_prior, kind="stable")
    words = [
        f"{k + 1}: {100 * half.class_prior[k]:.1f} % {1 / policy.frequency(int(shells[k])):.1f} A"
        for k in order
        if half.class_prior[k] > 0
    ]
    empty = half.n_class - len(words)
    more = f"; {empty} empty" if empty else ""
    shown = ", ".join(words[:SHOWN]) + (f", {len(words) - SHOWN} smaller" if len(words) > SHOWN else "")
    return [f" Iteration {s.iteration}, classes: {shown}{more}"]


def classes_ending(names: OutputNames, state: RunState, planar: bool) -> list[str]:
    """Where the results of a classification are."""
    number = state.schedule.iteration
    references = names.classes_stack(number) if planar else names.class_map(number, 1)
    return [
        f" Classification ended after {number} iteration{'s' if number > 1 else ''}; particles: {names.data(number)}, "
        f"model: {names.model(number)}",
        f" References: {references}{'' if planar else ' and on'}, pictures: {names.classes_plot(number)}",
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


def rank_figures(rank_s: Mapping[float, float]) -> dict[str, float]:
    """Expectation time of each rank that works, as columns of the history."""
    return {f"rank_{rank:03.0f}_s": seconds for rank, seconds in sorted(rank_s.items())}


def record(
    state: RunState,
    setup: ImagingSetup,
    expectation_s: float,
    maximization_s: float,
    more: Mapping[str, float],
) -> None:
    """Add an iteration to the history of the run, which the progress plot shows.

    Parameters
    ----------
    more : further columns, which need not be there in every iteration
    """
    s = state.schedule
    row = {
        "iteration": s.iteration,
        "resolution_A": 1 / max(s.frequency, 1e-6),
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
    if len(state.halves) == 2:
        row["resolution_0.143_A"] = resolution_at(state.fsc, 0.143, setup.pixel_size_A, setup.box)
    else:
        row["change_class"] = s.change_class
        row |= {f"class_{k:03d}": share for k, share in enumerate(state.halves[0].class_prior, 1)}
    row["peak_memory_MiB"] = peak_memory_MiB()
    before = len(state.history.get("iteration", []))
    for key, value in {**row, **more}.items():
        state.history.setdefault(key, [float("nan")] * before).append(float(value))
    # a run that goes on elsewhere, with fewer ranks or without a device, keeps its columns
    for values in state.history.values():
        values += [float("nan")] * (before + 1 - len(values))
