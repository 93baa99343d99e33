"""Sections of the page about a classification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpiapp.errors import MpiappError
from mpiapp.report.collect import Run
from mpiapp.report.page import Figure, Section, Table
from mpiapp.report.plots import (
    plot_angular_distribution,
    plot_class_sizes,
    plot_classes,
    plot_slices,
    plot_spectra,
)
from mpiapp.report.run_sections import (
    cell,
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

ENOUGH_VIEWS = 500  # of a class; the pattern of fewer is chance
MAPS_SHOWN = 4  # a picture of slices has up to half a megabyte
CURVES_SHOWN = 7  # that colours tell apart


def classification_sections(run: Run, pictures: Path) -> list[Section]:
    """All sections of one classification; pictures and their numbers go to a folder."""
    prefix = str(pictures / Path(run.names.root).name)
    table = particles_of(run)
    sections = [_summary(run, table), _classes(run, prefix)]
    progress = progress_section(run, prefix, "Progress of the classification")
    if run.progress:
        progress.figures.insert(0, _sizes(run, prefix))
    sections += [progress, _resolution(run, prefix)]
    if run.model.reference_dimensionality == 3:
        sections.append(_maps(run, prefix))
        if table is not None:
            sections.append(_orientations(run, table, prefix))
    return [*sections, statistics_section(run, table, prefix), provenance_section(run)]


def _summary(run: Run, table: ParticleTable | None) -> Section:
    model = run.model
    shares = np.array([c.distribution for c in model.classes])
    used = shares[shares > 0]
    facts = [
        ("state", run.state),
        ("classes", f"{len(shares)}, of which {used.size} hold particles"),
        ("effective number", f"{np.exp(-(used * np.log(used)).sum()):.1f}"),
        ("resolution of the best", f"{model.current_resolution_A:.2f} Å"),
        ("particles", f"{len(table):,}" if table is not None else "unknown"),
        ("box", f"{model.box} px of {model.pixel_size_A:.4g} Å"),
        ("average Pmax", f"{model.average_pmax:.3f}"),
        ("random seed", str(run.optimiser.random_seed)),
    ]
    if model.reference_dimensionality == 3:
        facts.insert(-2, ("symmetry", symmetry_of(run)))
    if "mini_batch" in run.progress:
        size, step = run.progress["mini_batch"], run.progress["step_size"]
        facts.append(("mini-batches", f"{size[0]:.0f} to {size.max():.0f} particles"))
        facts.append(("step size", f"{np.nanmax(step):.3g} to {step[np.isfinite(step)][-1]:.3g}"))
    return Section("Summary", facts=facts)


def _classes(run: Run, prefix: str) -> Section:
    section = Section("Classes")
    records = run.model.classes
    order = np.argsort([-c.distribution for c in records], kind="stable")
    rows = [
        [
            str(k + 1),
            f"{100 * records[k].distribution:.1f}",
            f"{records[k].resolution_A:.1f}",
            cell("{:.2f}", records[k].accuracy_rot_deg),
            cell("{:.2f}", records[k].accuracy_trans_A),
        ]
        for k in order
    ]
    picture = _picture_of_classes(run, prefix)
    if picture is not None:
        section.figures.append(Figure(picture, "Averages, or projections of maps, largest first.", wide=True))
    head = ["Class", "Share (%)", "Resolution (Å)", "Accuracy (°)", "Accuracy (Å)"]
    section.tables.append(Table(head, rows))
    return section


def _picture_of_classes(run: Run, prefix: str) -> Path | None:
    """The picture that the run left of this iteration, or a new one; None where its maps are not there."""
    from mpiapp.io.mrc import read_map

    assert run.last is not None
    picture = run.names.classes_plot(run.last)
    if run.drawn(picture):
        return picture
    records = run.model.classes
    try:
        if run.model.reference_dimensionality == 2:
            images = read_map(run.names.classes_stack(run.last))[0]
        else:
            maps = [read_map(run.names.class_map(run.last, k))[0] for k in range(1, len(records) + 1)]
            images = np.stack([volume.sum(axis=0) for volume in maps])
    except MpiappError:
        return None  # moved or being written: the rest of the page is still worth showing
    picture = Path(f"{prefix}_classes.png")
    shares, resolutions = [c.distribution for c in records], [c.resolution_A for c in records]
    plot_classes(picture, images, shares, resolutions, f"Classes after iteration {run.last}")
    return picture


def _sizes(run: Run, prefix: str) -> Figure:
    picture = run.names.class_sizes_plot
    if not run.drawn(picture):
        picture = Path(f"{prefix}_class_sizes.png")
        plot_class_sizes(picture, run.progress)
    return Figure(picture, "Share of the particles in each class, by iteration.")


def _resolution(run: Run, prefix: str) -> Section:
    """The signal-to-noise ratio by frequency stands for the FSC, which takes two halves."""
    picture = Path(f"{prefix}_ssnr.png")
    shown = {
        f"class {k + 1}, {run.model.classes[k].resolution_A:.1f} Å": run.model.classes[k].data_vs_prior
        for k in run.largest_first[:CURVES_SHOWN]
    }
    title = "Signal-to-noise ratio of the classes"
    plot_spectra(picture, frequency_of(run), shown, title, level=1.0, name="Signal-to-noise ratio")
    caption = "Signal-to-noise ratio of the largest classes; their resolution is where it falls below 1."
    return Section("Resolution of the classes", figures=[Figure(picture, caption)])


def _maps(run: Run, prefix: str) -> Section:
    from mpiapp.io.mrc import read_map

    assert run.last is not None
    section = Section("Maps")
    if run.largest_first.size > MAPS_SHOWN:
        section.notes.append(f"The {MAPS_SHOWN} largest classes.")
    for k in run.largest_first[:MAPS_SHOWN].tolist():
        path = run.names.class_map(run.last, k + 1)
        picture = run.names.slices_plot(run.last, k + 1)
        if not run.drawn(picture):
            picture = Path(f"{prefix}_class{k + 1:03d}_slices.png")
            try:
                density, pixel = read_map(path)
            except MpiappError as error:
                section.notes.append(str(error))
                continue
            title = f"Class {k + 1}: {run.model.classes[k].distribution:.1%} of the particles"
            diameter = run.optimiser.particle_diameter_A
            plot_slices(picture, density, pixel or run.model.pixel_size_A, title, diameter or None)
        caption = f"Slices at five levels and projections along z, y and x of {path.name}."
        section.figures.append(Figure(picture, caption, wide=True))
    return section


def _orientations(run: Run, table: ParticleTable, prefix: str) -> Section:
    """Viewing directions of all particles, and of those of the largest classes."""
    section = orientations_section(run, table, prefix)
    symmetry = symmetry_of(run)
    for k in run.largest_first[:MAPS_SHOWN].tolist() if len(run.model.classes) > 1 else []:
        mine = table.class_number == k + 1
        if np.count_nonzero(mine) < ENOUGH_VIEWS:
            continue
        picture = Path(f"{prefix}_class{k + 1:03d}_angdist.png")
        plot_angular_distribution(
            picture,
            table.rot_deg[mine],
            table.tilt_deg[mine],
            symmetry,
            f"Viewing directions of class {k + 1}",
        )
        section.figures.append(Figure(picture, f"Viewing directions of the particles of class {k + 1}."))
    return section
