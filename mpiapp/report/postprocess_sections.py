"""Sections of the page about post-processing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mpiapp.errors import MpiappError
from mpiapp.io.postprocess_star import PostprocessRecord, read_postprocess
from mpiapp.model.mask_creation import automatic_threshold
from mpiapp.report.collect import head_of, is_newer
from mpiapp.report.fsc_plot import plot_fsc
from mpiapp.report.guinier_plot import plot_guinier
from mpiapp.report.histogram_plot import plot_histogram
from mpiapp.report.job_log import JobLog, read_log
from mpiapp.report.locres_plot import plot_local_resolution
from mpiapp.report.page import Figure, Section
from mpiapp.report.slices_plot import plot_slices

_CURVES = {
    "corrected": "corrected",
    "unmasked": "unmasked",
    "masked": "masked",
    "randomised": "masked, random phases",
}
_FACTS = (
    ("rlnFinalResolution", "resolution", "{:.2f} Å"),
    ("rlnBfactorUsedForSharpening", "B-factor", "{:.1f} Å²"),
    ("rlnRandomiseFrom", "phases random from", "{:.1f} Å"),
    ("rlnCorrelationFitGuinierPlot", "fit of the Guinier plot, r²", "{:.3f}"),
)
_PERCENTILES = "5 / 50 / 95 % of the "
_COLOURED = "Central slices, coloured by local resolution."
_CONES = "Resolution by direction: FSC within cones of 20 degrees."


def postprocess_sections(star: Path, pictures: Path) -> list[Section]:
    """Curves, Guinier plot and map of one post-processing job."""
    record = read_postprocess(star)
    root = str(star.with_suffix(""))
    prefix = str(pictures / Path(root).name)
    shown = {label: (record.frequency_invA, record.fsc[k]) for k, label in _CURVES.items() if k in record.fsc}
    fsc = _picture(root, prefix, "_fsc.png", star)
    if fsc.parent == pictures:
        plot_fsc(fsc, shown, without_resolution={_CURVES["randomised"]})
    facts = [
        (name, form.format(float(record.general[label])))
        for label, name, form in _FACTS
        if label in record.general
    ]
    told = read_log(Path(f"{root}.log"), "FINAL RESOLUTION")
    sphericity = re.search(r"sphericity (\S+)", told.figures.get("by direction, 90 %", ""))
    if sphericity:
        facts.append(("sphericity", sphericity[1]))
    facts += _time_and_memory(told)
    section = Section(f"Post-processing: {Path(root).name}", facts=facts, warnings=told.warnings)
    section.figures.append(Figure(fsc, "FSC of the half maps, with and without mask."))
    if record.guinier:
        guinier = _picture(root, prefix, "_guinier.png", star)
        if guinier.parent == pictures:
            _draw_guinier(guinier, record)
        section.figures.append(Figure(guinier, "Guinier plot."))
    cones = Path(f"{root}_cones.png")
    if is_newer(cones, star):
        section.figures.append(Figure(cones, _CONES))
    _add_map(section, Path(f"{root}.mrc"), _picture(root, prefix, "_slices.png", star), pictures)
    section.code = head_of(star)
    return [section]


def local_sections(locres: Path, pictures: Path) -> list[Section]:
    """Histogram and slices of one local-resolution job, RELION's included.

    What is told is of the mask where the job's log tells it, as its histogram is; else of the whole map.
    """
    from mpiapp.io.mrc import read_map

    resolution, pixel = read_map(locres)
    root = locres.name.removesuffix(".mrc")
    known = resolution[resolution > 0]
    told = read_log(locres.with_name(f"{root.removesuffix('_locres')}.log"), "Local resolution map")
    where, percentiles = _of_mask(told) or (
        "whole map, with its solvent",
        np.percentile(known, (5, 50, 95)) if known.size else np.zeros(3),
    )
    section = Section(
        f"Local resolution: {root.removesuffix('_locres')}",
        facts=[
            *zip(
                ("finest 5 %", "median", "coarsest 5 %"),
                (f"{value:.2f} Å" for value in percentiles),
                strict=True,
            ),
            *_time_and_memory(told),
        ],
        warnings=told.warnings,
        notes=[f"The figures are of the {where}."],
    )
    histogram = locres.with_name(f"{root}_histogram.png")
    if not (told.figures and is_newer(histogram, locres)):
        histogram = pictures / f"{root}_histogram.png"
        plot_histogram(histogram, known, "Local resolution (Å)", "Local resolution: voxels")
    section.figures.append(Figure(histogram, "Histogram of the local resolution."))
    filtered = locres.with_name(f"{root}_filtered.mrc")
    slices = locres.with_name(f"{root}_slices.png")
    if is_newer(slices, locres):
        section.figures.append(Figure(slices, _COLOURED, wide=True))
    elif filtered.is_file():
        slices = pictures / f"{root}_slices.png"
        density, _ = read_map(filtered)
        inside = (density > automatic_threshold(density)) & (resolution > 0)
        limits = (float(percentiles[0]), float(percentiles[2]))
        plot_local_resolution(slices, resolution, density, inside, pixel or 1.0, limits)
        section.figures.append(Figure(slices, _COLOURED, wide=True))
    _add_map(section, filtered, pictures / f"{root}_filtered_slices.png", pictures)
    curves = locres.with_name(f"{root}_fscs.star")
    section.code = head_of(curves) if curves.is_file() else []
    return [section]


def _of_mask(told: JobLog) -> tuple[str, list[float]] | None:
    """What the local resolutions are of that a job told, and their 5, 50 and 95 %, A."""
    for name, text in told.figures.items():
        if name.startswith(_PERCENTILES):
            return name.removeprefix(_PERCENTILES), [float(value) for value in text.split()[:-1:2]]
    return None


def _time_and_memory(told: JobLog) -> list[tuple[str, str]]:
    return [(name, told.figures[name]) for name in ("time", "peak memory") if name in told.figures]


def _picture(root: str, prefix: str, ending: str, star: Path) -> Path:
    """The picture that the job left, or the name of one that is still to be drawn for the page."""
    left = Path(root + ending)
    return left if is_newer(left, star) else Path(prefix + ending)


def _draw_guinier(path: Path, record: PostprocessRecord) -> None:
    general = record.general
    line = None
    if "rlnFittedSlopeGuinierPlot" in general:
        slope, intercept = (float(general[f"rlnFitted{name}GuinierPlot"]) for name in ("Slope", "Intercept"))
        line = (slope, intercept)
    bfactor = float(general.get("rlnBfactorUsedForSharpening", 0))
    plot_guinier(path, np.square(record.frequency_invA), record.guinier, bfactor, line)


def _add_map(section: Section, path: Path, picture: Path, pictures: Path) -> None:
    from mpiapp.io.mrc import read_map

    if picture.parent == pictures:
        try:
            density, pixel = read_map(path)
        except MpiappError as error:
            section.notes.append(str(error))
            return
        plot_slices(picture, density, pixel or 1.0, path.stem)
    section.figures.append(Figure(picture, f"Slices of {path.name}.", wide=True))
