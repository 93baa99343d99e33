"""Sections of the page that refinements and classifications share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.errors import MpiappError
from mpiapp.model.orientation_quality import coverage
from mpiapp.model.symmetry import point_group
from mpiapp.report.collect import Run
from mpiapp.report.orientation import orientation_warnings
from mpiapp.report.page import Figure, Section, Table
from mpiapp.report.plots import plot_angular_distribution, plot_histogram, plot_progress, plot_spectra

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable

GROUPS_SHOWN = 4
RANKS_SHOWN = 8
_RANK = re.compile(r"^rank_(\d+)_s$")
# column of the progress table, heading, format
_COLUMNS = (
    ("iteration", "Iteration", "{:.0f}"),
    ("resolution_A", "Current resolution (Å)", "{:.2f}"),
    ("resolution_0.143_A", "FSC 0.143 (Å)", "{:.2f}"),
    ("current_size", "Size (px)", "{:.0f}"),
    ("step_deg", "Step (°)", "{:.3g}"),
    ("accuracy_rot_deg", "Accuracy (°)", "{:.3g}"),
    ("accuracy_trans_A", "Accuracy (Å)", "{:.3g}"),
    ("change_angle_deg", "Change (°)", "{:.3g}"),
    ("change_offset_A", "Change (Å)", "{:.3g}"),
    ("change_class", "Other class (share)", "{:.3f}"),
    ("average_pmax", "Pmax", "{:.3f}"),
    ("score_error_nats", "Error of scores (nats)", "{:.2g}"),
    ("expectation_s", "Expectation (s)", "{:.1f}"),
    ("maximization_s", "Maximization (s)", "{:.1f}"),
    ("peak_memory_MiB", "Memory (MiB)", "{:.0f}"),
)


def particles_of(run: Run) -> ParticleTable | None:
    """The particles with their poses; None where the file can not be read."""
    from mpiapp.io.particles import read_particles

    try:
        return read_particles(run.names.data(run.last))
    except MpiappError:
        return None  # moved or being written: the rest of the page is still worth showing


def symmetry_of(run: Run) -> str:
    """Point group of the run."""
    from mpiapp.io.relion_files import read_sampling

    try:
        return read_sampling(run.names.sampling(run.last), directions=False).symmetry
    except MpiappError:
        return "C1"


def frequency_of(run: Run) -> NDArray[np.float64]:
    """Spatial frequency of each shell, 1/A."""
    return np.arange(run.model.n_shells) / (run.model.box * run.model.pixel_size_A)


def progress_section(run: Run, prefix: str, title: str) -> Section:
    """Figures and times of all iterations.

    Parameters
    ----------
    title : of the plot
    """
    section = Section("Progress")
    if not run.progress:
        section.notes.append("No iteration is complete yet.")
        return section
    picture = run.names.progress_plot
    if not run.drawn(picture):
        picture = Path(f"{prefix}_progress.png")
        plot_progress(picture, run.progress, title)
    caption = (
        "Resolution, sampling, expected accuracies, changes of the particles and times, by iteration. The current "
        "resolution is where the signal of the reference falls below its noise, which sets the image size."
    )
    section.figures.append(Figure(picture, caption, wide=True))
    shown = [(key, head, form) for key, head, form in _COLUMNS if key in run.progress]
    rows = [
        [cell(form, float(run.progress[key][i])) for key, _, form in shown]
        for i in range(len(run.progress["iteration"]))
    ]
    section.tables += [Table([head for _, head, _ in shown], rows), *time_by_rank(run.progress)]
    return section


def time_by_rank(progress: Mapping[str, NDArray[np.float64]]) -> list[Table]:
    """How long each rank computed, as far as there are several: uneven times are ranks that wait."""
    ranks = {int(found[1]): values for name, values in progress.items() if (found := _RANK.match(name))}
    if len(ranks) < 2:
        return []
    total = {rank: float(np.nansum(values)) for rank, values in ranks.items()}
    slowest = max(total.values())
    order = sorted(total, key=lambda rank: -total[rank])
    shown = order if len(order) <= 2 * RANKS_SHOWN else [*order[:RANKS_SHOWN], *order[-RANKS_SHOWN:]]
    rows = [
        [
            str(rank),
            f"{total[rank]:.1f}",
            cell("{:.1f}", float(ranks[rank][-1])),
            f"{100 * total[rank] / slowest:.0f}",
        ]
        for rank in shown
    ]
    which = "" if len(shown) == len(order) else f" (slowest and fastest {RANKS_SHOWN})"
    head = [f"Rank{which}", "Expectation, all iterations (s)", "last iteration (s)", "of the slowest (%)"]
    return [Table(head, rows)]


def cell(form: str, value: float) -> str:
    """A number of a table; empty where it is not known, for which RELION writes 999 or more."""
    return "" if np.isnan(value) or (value >= 999 and ".0f" not in form) else form.format(value)


def orientations_section(run: Run, table: ParticleTable, prefix: str) -> Section:
    """How even the viewing directions of all particles are."""
    symmetry = symmetry_of(run)
    found = coverage(table.rot_deg, table.tilt_deg, point_group(symmetry))
    picture = run.names.angular_plot()
    if not run.drawn(picture):
        picture = Path(f"{prefix}_angdist.png")
        plot_angular_distribution(picture, table.rot_deg, table.tilt_deg, symmetry)
    return Section(
        "Orientations",
        facts=[
            ("sampling compensation factor", f"{found.factor:.2f}"),
            ("directions without a view", f"{100 * found.empty:.1f} %"),
        ],
        warnings=orientation_warnings(found),
        notes=[
            "The factor is 1 for even views and 0.81 for views from all sides around one axis (Baldwin and Lyumkis "
            "2020); it is the share of the signal-to-noise ratio that the distribution of views leaves."
        ],
        figures=[Figure(picture, "Viewing directions, with their symmetry mates.")],
    )


def statistics_section(run: Run, table: ParticleTable | None, prefix: str) -> Section:
    """Noise of the images, signal and noise of the reference (of the largest class), norms and scales."""
    model, frequency = run.model, frequency_of(run)
    noise = model.sigma2_noise if len(model.sigma2_noise) else model.group_sigma2_noise
    curves = {f"noise, group {g}": row for g, row in enumerate(noise[:GROUPS_SHOWN], 1)}
    plot_spectra(f"{prefix}_noise.png", frequency, curves, "Noise power of the images")
    largest = int(run.largest_first[0]) if run.largest_first.size else 0
    record = model.classes[largest]
    of = f", class {largest + 1}" if len(model.classes) > 1 else ""
    signal = {"signal (tau2)": record.tau2, "noise of the map (sigma2)": record.sigma2}
    plot_spectra(f"{prefix}_signal.png", frequency, signal, f"Power in the reference{of}")
    figures = [
        Figure(Path(f"{prefix}_noise.png"), "Noise power per component, by group (the first four)."),
        Figure(Path(f"{prefix}_signal.png"), f"Signal power and noise power in the reference{of}."),
    ]
    if table is not None and np.ptp(table.norm_correction) > 0:
        plot_histogram(
            f"{prefix}_norm.png", table.norm_correction, "Norm correction", "Norm of the particles"
        )
        figures.append(Figure(Path(f"{prefix}_norm.png"), "Norm correction of the particles."))
    scales = np.asarray(model.group_scales)
    if scales.size > 1 and np.ptp(scales) > 0:
        plot_histogram(f"{prefix}_scale.png", scales, "Scale correction", "Intensity scale of the groups")
        figures.append(Figure(Path(f"{prefix}_scale.png"), "Scale correction of the groups of particles."))
    return Section("Noise, signal and scales", figures=figures)


def provenance_section(run: Run) -> Section:
    """Command, versions and the options that decide most."""
    o = run.optimiser
    facts = [
        ("random seed", str(o.random_seed)),
        ("oversampling", str(o.oversampling)),
        ("adaptive fraction", f"{o.adaptive_fraction:g}"),
    ]
    if o.split_random_halves:
        facts.append(("low-resolution join", f"{o.low_resol_join_halves_A:g} Å"))
    return Section("Command and version", facts=facts, code=run.head)
