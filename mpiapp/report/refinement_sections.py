"""Sections of the page about a refinement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.errors import MpiappError
from mpiapp.model.fsc import resolution_at
from mpiapp.model.orientation_quality import coverage
from mpiapp.model.symmetry import point_group
from mpiapp.report.collect import Refinement
from mpiapp.report.orientation import orientation_warnings
from mpiapp.report.page import Figure, Section, Table
from mpiapp.report.plots import (
    plot_angular_distribution,
    plot_fsc,
    plot_fsc_history,
    plot_histogram,
    plot_progress,
    plot_slices,
    plot_spectra,
)

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
    ("change_angle_deg", "Change (°)", "{:.3g}"),
    ("average_pmax", "Pmax", "{:.3f}"),
    ("expectation_s", "Expectation (s)", "{:.1f}"),
    ("maximization_s", "Maximization (s)", "{:.1f}"),
    ("peak_memory_MiB", "Memory (MiB)", "{:.0f}"),
)


def refinement_sections(run: Refinement, pictures: Path) -> list[Section]:
    """All sections of one refinement; pictures and their numbers go to a folder.

    Parameters
    ----------
    pictures : folder of the page's pictures
    """
    prefix = str(pictures / Path(run.names.root).name)
    table = _particles(run)
    return [
        _summary(run, table),
        _progress(run, prefix),
        _resolution(run, prefix),
        _map(run, prefix),
        *([_orientations(run, table, prefix)] if table is not None else []),
        _statistics(run, table, prefix),
        _provenance(run),
    ]


def _particles(run: Refinement) -> ParticleTable | None:
    from mpiapp.io.particles import read_particles

    try:
        return read_particles(run.names.data(run.last))
    except MpiappError:
        return None  # moved or being written: the rest of the page is still worth showing


def _frequency(run: Refinement) -> NDArray[np.float64]:
    return np.arange(run.model.n_shells) / (run.model.box * run.model.pixel_size_A)


def _symmetry(run: Refinement) -> str:
    from mpiapp.io.relion_files import read_sampling

    try:
        return read_sampling(run.names.sampling(run.last), directions=False).symmetry
    except MpiappError:
        return "C1"


def _summary(run: Refinement, table: ParticleTable | None) -> Section:
    model = run.model
    curve = list(run.curves.values())[-1] if run.curves else model.classes[0].fsc
    facts = [
        ("state", "finished" if run.finished else f"after iteration {run.last}"),
        ("resolution, FSC 0.143", f"{resolution_at(curve, 0.143, model.pixel_size_A, model.box):.2f} Å"),
        ("resolution, FSC 0.5", f"{resolution_at(curve, 0.5, model.pixel_size_A, model.box):.2f} Å"),
        ("particles", f"{len(table):,}" if table is not None else "unknown"),
        ("box", f"{model.box} px of {model.pixel_size_A:.4g} Å"),
        ("symmetry", _symmetry(run)),
        ("average Pmax", f"{model.average_pmax:.3f}"),
        ("random seed", str(run.optimiser.random_seed)),
    ]
    return Section("Summary", facts=facts)


def _progress(run: Refinement, prefix: str) -> Section:
    section = Section("Progress")
    if not run.progress:
        section.notes.append("No iteration is complete yet.")
        return section
    picture = run.names.progress_plot
    if not run.drawn(picture):
        picture = Path(f"{prefix}_progress.png")
        plot_progress(picture, run.progress)
    caption = (
        "Resolution, sampling, expected accuracies, changes of the particles and times, by iteration. The current "
        "resolution is where the signal of the reference falls below its noise, which sets the image size; that of the "
        "map is read off the FSC."
    )
    section.figures.append(Figure(picture, caption, wide=True))
    shown = [(key, head, form) for key, head, form in _COLUMNS if key in run.progress]
    rows = [
        [_cell(form, float(run.progress[key][i])) for key, _, form in shown]
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
            _cell("{:.1f}", float(ranks[rank][-1])),
            f"{100 * total[rank] / slowest:.0f}",
        ]
        for rank in shown
    ]
    which = "" if len(shown) == len(order) else f" (slowest and fastest {RANKS_SHOWN})"
    head = [f"Rank{which}", "Expectation, all iterations (s)", "last iteration (s)", "of the slowest (%)"]
    return [Table(head, rows)]


def _cell(form: str, value: float) -> str:
    return "" if np.isnan(value) or (value >= 999 and ".0f" not in form) else form.format(value)


def _resolution(run: Refinement, prefix: str) -> Section:
    section = Section("Fourier shell correlation")
    if not run.curves:
        section.notes.append("No FSC yet.")
        return section
    frequency = _frequency(run)
    name, curve = list(run.curves.items())[-1]
    label = "half maps" if name == "final" else f"half maps, iteration {name}"
    picture = run.names.fsc_plot()
    if not run.drawn(picture):
        picture = Path(f"{prefix}_fsc.png")
        plot_fsc(picture, {label: (frequency, curve)})
    section.figures.append(Figure(picture, "FSC of the half maps, as the refinement uses it."))
    if len(run.curves) > 1:
        plot_fsc_history(f"{prefix}_fsc_history.png", frequency, run.curves)
        section.figures.append(Figure(Path(f"{prefix}_fsc_history.png"), "The same in all iterations."))
    return section


def _map(run: Refinement, prefix: str) -> Section:
    from mpiapp.io.mrc import read_map

    section = Section("Map")
    path = run.names.final_map() if run.finished else run.names.half_map(run.last or 0, 1)
    picture = run.names.slices_plot()
    if not run.drawn(picture):
        picture = Path(f"{prefix}_slices.png")
        try:
            density, pixel = read_map(path)
        except MpiappError as error:
            section.notes.append(str(error))
            return section
        title = "Final map" if run.finished else f"Half 1 after iteration {run.last}"
        diameter = run.optimiser.particle_diameter_A
        plot_slices(picture, density, pixel or run.model.pixel_size_A, title, diameter or None)
    caption = f"Slices at five levels and projections along z, y and x of {path.name}."
    section.figures.append(Figure(picture, caption, wide=True))
    return section


def _orientations(run: Refinement, table: ParticleTable, prefix: str) -> Section:
    symmetry = _symmetry(run)
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


def _statistics(run: Refinement, table: ParticleTable | None, prefix: str) -> Section:
    model, frequency = run.model, _frequency(run)
    noise = model.sigma2_noise if len(model.sigma2_noise) else model.group_sigma2_noise
    curves = {f"noise, group {g}": row for g, row in enumerate(noise[:GROUPS_SHOWN], 1)}
    plot_spectra(f"{prefix}_noise.png", frequency, curves, "Noise power of the images")
    record = model.classes[0]
    signal = {"signal (tau2)": record.tau2, "noise of the map (sigma2)": record.sigma2}
    plot_spectra(f"{prefix}_signal.png", frequency, signal, "Power in the reference")
    figures = [
        Figure(Path(f"{prefix}_noise.png"), "Noise power per component, by group (the first four)."),
        Figure(Path(f"{prefix}_signal.png"), "Signal power and noise power in the reference."),
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


def _provenance(run: Refinement) -> Section:
    o = run.optimiser
    facts = [
        ("random seed", str(o.random_seed)),
        ("oversampling", str(o.oversampling)),
        ("adaptive fraction", f"{o.adaptive_fraction:g}"),
        ("low-resolution join", f"{o.low_resol_join_halves_A:g} Å"),
    ]
    return Section("Command and version", facts=facts, code=run.head)
