"""Sections of the page about a classification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpiapp.errors import MpiappError
from mpiapp.io.outputs import OutputNames
from mpiapp.io.relion_files import read_model
from mpiapp.report.collect import head_of, is_newer, written_progress
from mpiapp.report.page import Figure, Section, Table
from mpiapp.report.plots import plot_class_sizes, plot_classes, plot_progress
from mpiapp.report.refinement_sections import time_by_rank

if TYPE_CHECKING:
    from mpiapp.io.relion_model import ModelRecord


@dataclass
class Classification:
    """One classification: its names, the iteration shown, and the model file of that iteration."""

    names: OutputNames
    last: int
    model: ModelRecord


def load_classification(iterations: dict[int, OutputNames]) -> Classification:
    """Read what the report shows of a classification, from the output names of its iterations."""
    last = max(iterations)
    names = iterations[last]
    return Classification(names, last, read_model(names.model(last), directions=False))


def classification_sections(run: Classification, pictures: Path) -> list[Section]:
    """All sections of one classification; pictures and their numbers go to a folder."""
    prefix = str(pictures / Path(run.names.root).name)
    return [_summary(run), _classes(run, prefix), _progress(run, prefix), _provenance(run)]


def _summary(run: Classification) -> Section:
    model = run.model
    shares = np.array([c.distribution for c in model.classes])
    used = shares[shares > 0]
    facts = [
        ("state", f"after iteration {run.last}"),
        ("classes", f"{len(shares)}, of which {used.size} hold particles"),
        ("effective number", f"{np.exp(-(used * np.log(used)).sum()):.1f}"),
        ("resolution of the best", f"{model.current_resolution_A:.2f} Å"),
        ("box", f"{model.box} px of {model.pixel_size_A:.4g} Å"),
        ("average Pmax", f"{model.average_pmax:.3f}"),
    ]
    progress = written_progress(run.names)
    if "mini_batch" in progress:
        size, step = progress["mini_batch"], progress["step_size"]
        facts.append(("mini-batches", f"{size[0]:.0f} to {size.max():.0f} particles"))
        facts.append(("step size", f"{np.nanmax(step):.3g} to {step[np.isfinite(step)][-1]:.3g}"))
    return Section("Summary", facts=facts)


def _classes(run: Classification, prefix: str) -> Section:
    section = Section("Classes")
    records = run.model.classes
    order = np.argsort([-c.distribution for c in records], kind="stable")
    rows = [
        [
            str(k + 1),
            f"{100 * records[k].distribution:.1f}",
            f"{records[k].resolution_A:.1f}",
            _known(records[k].accuracy_rot_deg),
            _known(records[k].accuracy_trans_A),
        ]
        for k in order
    ]
    picture = _picture_of_classes(run, prefix)
    if picture is not None:
        section.figures.append(Figure(picture, "Averages, or projections of maps, largest first.", wide=True))
    head = ["Class", "Share (%)", "Resolution (Å)", "Accuracy (°)", "Accuracy (Å)"]
    section.tables.append(Table(head, rows))
    return section


def _known(value: float) -> str:
    return "" if value >= 999 else f"{value:.2f}"


def _picture_of_classes(run: Classification, prefix: str) -> Path | None:
    """The picture that the run left of this iteration, or a new one; None where its maps are not there."""
    from mpiapp.io.mrc import read_map

    picture = run.names.classes_plot(run.last)
    if is_newer(picture, run.names.model(run.last)):
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


def _progress(run: Classification, prefix: str) -> Section:
    section = Section("Progress")
    progress = written_progress(run.names)
    if not progress:
        section.notes.append("The run left no table of its progress.")
        return section
    model = run.names.model(run.last)
    sizes, picture = run.names.class_sizes_plot, run.names.progress_plot
    if not is_newer(sizes, model):
        sizes = Path(f"{prefix}_class_sizes.png")
        plot_class_sizes(sizes, progress)
    if not is_newer(picture, model):
        picture = Path(f"{prefix}_progress.png")
        plot_progress(picture, progress, "Progress of the classification")
    section.figures.append(Figure(sizes, "Share of the particles in each class, by iteration."))
    caption = "Resolution, sampling, accuracies, changes of the particles and times, by iteration."
    section.figures.append(Figure(picture, caption, wide=True))
    section.tables += time_by_rank(progress)
    return section


def _provenance(run: Classification) -> Section:
    from mpiapp.io.relion_files import read_optimiser

    path = run.names.optimiser(run.last)
    facts = [("random seed", str(read_optimiser(path).random_seed))]
    return Section("Command and version", facts=facts, code=head_of(path))
