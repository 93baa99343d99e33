"""Log lines of a refinement, in RELION's words where users and scripts look for them.

Each function returns lines without line ends. Numbers have six significant digits, as C++ streams print them.
"""

from __future__ import annotations

from pathlib import Path


def iteration_start(
    iteration: int,
    resolution_A: float,
    iterations_without_gain: int,
    change_angles_deg: float,
    change_offsets_A: float,
    iterations_without_change: int,
) -> list[str]:
    """State of auto-refine at the start of an iteration."""
    return [
        f" Auto-refine: Iteration= {iteration}",
        f" Auto-refine: Resolution= {resolution_A:g} (no gain for {iterations_without_gain} iter) ",
        f" Auto-refine: Changes in angles= {change_angles_deg:g} degrees; and in offsets= "
        f"{change_offsets_A:g} Angstroms (no gain for {iterations_without_change} iter) ",
    ]


def accuracies(angles_deg: float, offsets_A: float) -> list[str]:
    """Expected accuracies, with RELION's warning when particles can not be aligned."""
    lines = [
        f" Auto-refine: Estimated accuracy angles= {angles_deg:g} degrees; offsets= {offsets_A:g} Angstroms"
    ]
    if angles_deg > 10:
        lines.append(
            " Auto-refine: WARNING: The angular accuracy is worse than 10 degrees, so basically you cannot "
            "align your particles (yet)!"
        )
    return lines


def sampling(
    step_deg: float,
    local_searches: bool,
    offset_range_A: float,
    offset_step_A: float,
    label: str = " Auto-refine:",
) -> list[str]:
    """Sampling of the iteration; the angular and offset steps are the oversampled ones."""
    local = "true" if local_searches else "false"
    return [
        f"{label} Angular step= {step_deg:g} degrees; local searches= {local}",
        f"{label} Offset search range= {offset_range_A:g} Angstroms; "
        f"offset step= {offset_step_A:g} Angstroms",
    ]


def current_resolution(resolution_A: float, needed_step_deg: float, diameter_A: float) -> list[str]:
    """Resolution and the angular sampling it asks for."""
    return [
        f" CurrentResolution= {resolution_A:g} Angstroms, which requires orientationSampling of at least "
        f"{needed_step_deg:g} degrees for a particle of diameter {diameter_A:g} Angstroms"
    ]


def iteration_end(
    n_particles: int,
    expectation_s: float,
    maximization_s: float,
    elapsed_s: float,
    average_pmax: float,
    device_busy: float | None = None,
) -> list[str]:
    """Speed of the iteration that ended; `device_busy` is the share of time in which devices had work."""
    rate = n_particles / expectation_s if expectation_s > 0 else float("inf")
    return [
        f" Expectation {duration(expectation_s)} ({rate:,.0f} particles/s), maximization "
        f"{duration(maximization_s)}, since start {duration(elapsed_s)}; average Pmax= {average_pmax:.3g}"
        + ("" if device_busy is None else f"; GPU in work {100 * device_busy:.0f} %")
    ]


def changes(angles_deg: float, offsets_A: float, classes: float) -> list[str]:
    """How much the particles changed in an iteration of a classification."""
    return [
        f" Changes in angles= {angles_deg:g} degrees; in offsets= {offsets_A:g} Angstroms; in classes= "
        f"{100 * classes:.3g} % of the particles"
    ]


def converged() -> list[str]:
    """Before the last iteration."""
    return [
        " Auto-refine: Refinement has converged, "
        "entering last iteration where two halves will be combined...",
        " Auto-refine: The last iteration will use data to Nyquist frequency, "
        "which may take more CPU and RAM.",
    ]


def final(
    map_file: Path | str,
    model_star: Path | str,
    data_star: Path | str,
    resolution_A: float,
    masked: bool,
    accuracy_angles_deg: float = 0.0,
    tau2_fudge: float = 1.0,
) -> list[str]:
    """Where the results of a converged run are; `masked` when its FSCs were corrected for the mask."""
    with_or_without = "already with" if masked else "without"
    lines = [
        " Auto-refine: Refinement has converged, stopping now... ",
        f" Auto-refine: + Final reconstruction from all particles is saved as: {map_file}",
        f" Auto-refine: + Final model parameters are stored in: {model_star}",
        f" Auto-refine: + Final data parameters are stored in: {data_star}",
    ]
    if tau2_fudge > 1:
        lines.append(
            f" Auto-refine: + SEVERE WARNING: Because you used a tau2_fudge of {tau2_fudge:g} your "
            "resolution during this refinement will be inflated!"
        )
    lines.append(f" Auto-refine: + Final resolution ({with_or_without} masking) is: {resolution_A:g}")
    if not masked:
        lines.append(
            " Auto-refine: + But you may want to run relion_postprocess to mask the unfil.mrc maps and "
            "calculate a higher resolution FSC"
        )
    if accuracy_angles_deg > 10:
        lines.append(
            " Auto-refine: + WARNING: The angular accuracy is worse than 10 degrees, so basically you cannot "
            "align your particles!"
        )
    return lines


def duration(seconds: float) -> str:
    """A time span for people: 0.83 s, 42 s, 12:05 min, 3:20 h."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
