"""Builds report.html of a job's folder from its output files."""

from __future__ import annotations

from pathlib import Path

from mpiapp.errors import InputError
from mpiapp.report.collect import (
    find_local_resolution,
    find_postprocess,
    find_refinements,
    is_classification,
    load_classification,
    load_refinement,
)
from mpiapp.report.page import PAGE, PICTURES, Section, write_page
from mpiapp.report.postprocess_sections import local_sections, postprocess_sections


def build_report(folder: str | Path) -> Path:
    """Write report.html of a folder of this program or of RELION, with its pictures in report_files/.

    Returns
    -------
    Path of the page.

    Raises
    ------
    InputError
        The folder holds no job that is known here, or a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a job, e.g. Refine3D/job001")
    refinements, posts = find_refinements(folder), find_postprocess(folder)
    local = find_local_resolution(folder)
    if not (refinements or posts or local):
        raise InputError(
            f"{folder}: no _optimiser.star of a refinement or classification, no postprocess.star, no _locres.mrc; "
            "give a job's folder"
        )
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    sections: list[Section] = []
    states = []
    for found in refinements:
        names, iterations, finished = found
        name = Path(names.root).name
        if is_classification(iterations):
            from mpiapp.report.classification_sections import classification_sections

            run = load_classification(iterations)
            parts = classification_sections(run, pictures)
        else:
            from mpiapp.report.refinement_sections import refinement_sections

            run = load_refinement(names, iterations, finished)
            parts = refinement_sections(run, pictures)
        if len(refinements) > 1:
            for part in parts:
                part.title = f"{name}: {part.title}"
        sections += parts
        states.append(f"{name}: {run.state}")
    for star in posts:
        sections += postprocess_sections(star, pictures)
        states.append(f"{star.stem}: post-processed")
    for path in local:
        sections += local_sections(path, pictures)
        states.append(f"{path.stem}: local resolution")
    write_page(folder / PAGE, str(folder.resolve().name), "; ".join(states), sections)
    return folder / PAGE
