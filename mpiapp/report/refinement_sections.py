"""Sections of the page about a refinement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mpiapp.errors import MpiappError
from mpiapp.model.fsc import resolution_at
from mpiapp.report.collect import Run
from mpiapp.report.page import Figure, Section
from mpiapp.report.plots import plot_fsc, plot_fsc_history, plot_slices
from mpiapp.report.run_sections import (
    frequency_of,
    orientations_section,
    particles_of,
    progress_section,
    provenance_section,
    statistics_section,
    symmetry_of,
)

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable


def refinement_sections(run: Run, pictures: Path) -> list[Section]:
    """All sections of one refinement; pictures and their numbers go to a folder.

    Parameters
    ----------
    pictures : folder of the page's pictures
    """
    prefix = str(pictures / Path(run.names.root).name)
    table = particles_of(run)
    return [
        _summary(run, table),
        progress_section(run, prefix, "Progress of the refinement"),
        _resolution(run, prefix),
        _map(run, prefix),
        *([orientations_section(run, table, prefix)] if table is not None else []),
        statistics_section(run, table, prefix),
        provenance_section(run),
    ]


def _summary(run: Run, table: ParticleTable | None) -> Section:
    model = run.model
    curve = list(run.curves.values())[-1] if run.curves else model.classes[0].fsc
    facts = [
        ("state", run.state),
        ("resolution, FSC 0.143", f"{resolution_at(curve, 0.143, model.pixel_size_A, model.box):.2f} Å"),
        ("resolution, FSC 0.5", f"{resolution_at(curve, 0.5, model.pixel_size_A, model.box):.2f} Å"),
        ("particles", f"{len(table):,}" if table is not None else "unknown"),
        ("box", f"{model.box} px of {model.pixel_size_A:.4g} Å"),
        ("symmetry", symmetry_of(run)),
        ("average Pmax", f"{model.average_pmax:.3f}"),
        ("random seed", str(run.optimiser.random_seed)),
    ]
    return Section("Summary", facts=facts)


def _resolution(run: Run, prefix: str) -> Section:
    section = Section("Fourier shell correlation")
    if not run.curves:
        section.notes.append("No FSC yet.")
        return section
    frequency = frequency_of(run)
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


def _map(run: Run, prefix: str) -> Section:
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
