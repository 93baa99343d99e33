"""What a post-processing job leaves: maps, tables, plots."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.io.chimerax import write_map_script
from mpiapp.io.mrc import write_map
from mpiapp.io.outputs import PostprocessNames
from mpiapp.io.postprocess_star import (
    PostprocessRecord,
    write_emdb_fsc,
    write_fsc_text,
    write_postprocess,
)
from mpiapp.model.guinier import squared_frequencies
from mpiapp.model.mask_creation import automatic_threshold
from mpiapp.model.sharpen import Sharpened
from mpiapp.report.cones_plot import plot_cones
from mpiapp.report.fsc_plot import plot_fsc
from mpiapp.report.guinier_plot import plot_guinier
from mpiapp.report.painter import Painter
from mpiapp.report.slices_plot import draw_slices, take_slices
from mpiapp.report.versions import provenance

if TYPE_CHECKING:
    from mpiapp.engine.postprocess_curves import Curves
    from mpiapp.model.orientation_quality import ConicalFsc

F32 = NDArray[np.float32]
SHOWN = {
    "corrected": "corrected",
    "unmasked": "unmasked",
    "masked": "masked",
    "randomised": "masked, random phases",
}


def write_results(
    config: PostprocessConfig,
    names: PostprocessNames,
    pixel_size_A: float,
    curves: Curves,
    sharpened: Sharpened,
    volume: F32,
    mask: F32 | None,
    halves: list[F32],
) -> None:
    """Write maps and the curves, then postprocess.star."""
    frequency = _frequency(curves, pixel_size_A)
    with _maps(names, pixel_size_A, {None: volume, **dict(enumerate(halves, 1))}, mask):
        title = "masked-corrected FSC" if curves.within_mask else "unmasked FSC"
        write_emdb_fsc(names.emdb_xml, frequency, curves.final, title)
        write_fsc_text(names.fsc_text, frequency, curves.final)
        write_map_script(names.script, names.map(masked=mask is not None), automatic_threshold(volume))
        load_page()
    guinier = dict(sharpened.guinier)
    if sharpened.fit is not None:
        guinier["intercept"] = np.full(frequency.size, sharpened.fit.intercept)
    record = PostprocessRecord(_general(config, names, curves, sharpened), frequency, curves.by_name, guinier)
    comment = provenance("postprocess", config.command_line(), f"random seed {config.random_seed}")
    write_postprocess(names.star, record, comment)


@contextmanager
def _maps(
    names: PostprocessNames, pixel_size_A: float, maps: dict[int | None, F32], mask: F32 | None
) -> Iterator[None]:
    """Write maps, and what of them is within the mask, by several threads; at the end of the block they are there."""

    def write(half: int | None, masked: bool) -> None:
        density = maps[half] if mask is None or not masked else maps[half] * mask
        write_map(names.map(half=half, masked=masked), density, pixel_size_A)

    jobs = [(half, masked) for half in maps for masked in ((False, True) if mask is not None else (False,))]
    with ThreadPoolExecutor(len(jobs)) as pool:
        written = pool.map(write, *zip(*jobs, strict=True))
        yield
        list(written)


def load_page() -> None:
    """Load what makes the page, which is slow, where there is time."""
    import jinja2  # noqa: F401

    import mpiapp.report.build  # noqa: F401


def _general(
    config: PostprocessConfig, names: PostprocessNames, curves: Curves, sharpened: Sharpened
) -> dict[str, Any]:
    general: dict[str, Any] = {
        "rlnFinalResolution": curves.resolution_A,
        "rlnBfactorUsedForSharpening": sharpened.bfactor_A2,
        "rlnUnfilteredMapHalf1": config.half1,
        "rlnUnfilteredMapHalf2": config.second_half(),
        "rlnPostprocessedMap": str(names.map()),
    }
    if curves.molecular_fraction:
        general["rlnMolecularWeight"] = config.molweight
        general["rlnParticleBoxFractionMolecularWeight"] = curves.molecular_fraction
    if curves.mask_fraction:
        general["rlnParticleBoxFractionSolventMask"] = curves.mask_fraction
        general["rlnMaskName"] = config.mask or str(names.automask)
        general["rlnRandomiseFrom"] = curves.randomised_from_A
        general["rlnPostprocessedMapMasked"] = str(names.map(masked=True))
    if sharpened.fit is not None:
        general["rlnFittedSlopeGuinierPlot"] = sharpened.fit.slope_A2
        general["rlnFittedInterceptGuinierPlot"] = sharpened.fit.intercept
        general["rlnCorrelationFitGuinierPlot"] = sharpened.fit.correlation
    return general


def draw_curves(
    painter: Painter, names: PostprocessNames, curves: Curves, cones: ConicalFsc | None, pixel_size_A: float
) -> None:
    """Have the FSC drawn, and the FSC by direction."""
    frequency = _frequency(curves, pixel_size_A)
    names_of = {k: label for k, label in SHOWN.items() if k in curves.by_name}
    if not curves.within_mask:  # the table holds the unmasked curve in its place
        names_of.pop("corrected", None)
    shown = {label: (frequency, curves.by_name[k]) for k, label in names_of.items()}
    painter.call(plot_fsc, names.fsc_plot, shown, without_resolution={SHOWN["randomised"]})
    if cones is not None:
        painter.call(plot_cones, names.cones_plot, cones, pixel_size_A)


def draw_map(
    painter: Painter,
    config: PostprocessConfig,
    names: PostprocessNames,
    pixel_size_A: float,
    sharpened: Sharpened,
    volume: F32,
) -> None:
    """Have the Guinier plot drawn, and slices of the map."""
    fit = sharpened.fit
    painter.call(
        plot_guinier,
        names.guinier_plot,
        squared_frequencies(volume.shape[0], pixel_size_A),
        sharpened.guinier,
        sharpened.bfactor_A2,
        (fit.slope_A2, fit.intercept) if fit else None,
        (config.autob_lowres, config.autob_highres),
    )
    painter.call(draw_slices, names.slices_plot, take_slices(volume, pixel_size_A), "Sharpened map")


def remove_pictures(names: PostprocessNames) -> None:
    """Remove the pictures of an earlier job of this name: those that are there later are of this one."""
    for picture in _pictures(names):
        picture.unlink(missing_ok=True)
        picture.with_suffix(".csv").unlink(missing_ok=True)


def finish_pictures(names: PostprocessNames) -> None:
    """Make the pictures as new as the table, which was written while they were drawn: the page looks for that."""
    for picture in _pictures(names):
        if picture.is_file():
            os.utime(picture)


def _pictures(names: PostprocessNames) -> tuple[Path, ...]:
    return (names.fsc_plot, names.guinier_plot, names.slices_plot, names.cones_plot)


def _frequency(curves: Curves, pixel_size_A: float) -> NDArray[np.float64]:
    return np.arange(curves.final.size) / (2 * (curves.final.size - 1) * pixel_size_A)
