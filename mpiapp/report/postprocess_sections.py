"""Sections of the page about post-processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpiapp.errors import MpiappError
from mpiapp.io.postprocess_star import PostprocessRecord, read_postprocess
from mpiapp.report.collect import head_of, is_newer
from mpiapp.report.fsc_plot import plot_fsc
from mpiapp.report.guinier_plot import plot_guinier
from mpiapp.report.histogram_plot import plot_histogram
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
    section = Section(f"Post-processing: {Path(root).name}", facts=facts)
    section.figures.append(Figure(fsc, "FSC of the half maps, with and without mask."))
    if record.guinier:
        guinier = _picture(root, prefix, "_guinier.png", star)
        if guinier.parent == pictures:
            _draw_guinier(guinier, record)
        section.figures.append(Figure(guinier, "Guinier plot."))
    _add_map(section, Path(f"{root}.mrc"), _picture(root, prefix, "_slices.png", star), pictures)
    cones = Path(f"{root}_cones.png")
    if cones.is_file():
        section.figures.append(Figure(cones, _CONES))
    section.code = head_of(star)
    return [section]


def local_sections(locres: Path, pictures: Path) -> list[Section]:
    """Histogram and slices of one local-resolution job, RELION's included."""
    from mpiapp.io.mrc import read_map

    resolution, _ = read_map(locres)
    known = resolution[resolution > 0]
    root = locres.name.removesuffix(".mrc")
    fine, middle, coarse = np.percentile(known, (5, 50, 95)) if known.size else (0.0, 0.0, 0.0)
    section = Section(
        f"Local resolution: {root.removesuffix('_locres')}",
        facts=[
            ("finest 5 %", f"{fine:.2f} Å"),
            ("median", f"{middle:.2f} Å"),
            ("coarsest 5 %", f"{coarse:.2f} Å"),
        ],
        notes=[
            "These are of the whole map, solvent included; the histogram of a job with a mask is of the mask."
        ],
    )
    histogram = locres.with_name(f"{root}_histogram.png")
    if not histogram.is_file():
        histogram = pictures / f"{root}_histogram.png"
        plot_histogram(histogram, known, "Local resolution (Å)", "Local resolution: voxels")
    section.figures.append(Figure(histogram, "Histogram of the local resolution."))
    filtered = locres.with_name(f"{root}_filtered.mrc")
    _add_map(section, filtered, pictures / f"{root}_filtered_slices.png", pictures)
    return [section]


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
