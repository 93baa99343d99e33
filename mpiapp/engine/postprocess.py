"""Post-processing: solvent-corrected FSC of two half maps, sharpening of their average (Chen et al. 2013;
Rosenthal and Henderson 2003)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.gpu_device import start_arrays
from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.engine.faults import named_faults
from mpiapp.engine.half_maps import check_not_empty, load_halves
from mpiapp.engine.memory_used import peak_memory_MiB
from mpiapp.engine.page_writer import refresh_page
from mpiapp.engine.postprocess_curves import THRESHOLD, Curves, solvent_curves, unmasked_curve
from mpiapp.engine.postprocess_files import (
    draw_curves,
    draw_map,
    finish_pictures,
    remove_pictures,
    write_results,
)
from mpiapp.errors import InputError
from mpiapp.io.atomic import check_writable
from mpiapp.io.maps_in import InputMap
from mpiapp.io.mtf import read_mtf
from mpiapp.io.outputs import PostprocessNames
from mpiapp.model.arrays import to_host
from mpiapp.model.filters import lowpass_map
from mpiapp.model.fourier import forward_3d, inverse_3d
from mpiapp.model.fsc import SolventFsc, resolution_interpolated
from mpiapp.model.mask_creation import automatic_threshold, extend, largest_piece, soft_edge
from mpiapp.model.orientation_quality import ConicalFsc, conical_fsc, tells_directions
from mpiapp.model.radial import filter_radially
from mpiapp.model.sharpen import Mtf, Sharpened, Sharpening, make_filter
from mpiapp.parallel.serial import SerialTeam
from mpiapp.parallel.threads import available_cores
from mpiapp.report import log
from mpiapp.report.painter import Painter

AUTO_MASK_A = 15.0
POOR_SPHERICITY = 0.75
# of the directions; 100 of 102 pairs of simulated maps without signal within 45 degrees of an axis were above either limit
MANY_MISSING = 0.03
HALF = np.float32(0.5)
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """Where a post-processing job ended."""

    names: PostprocessNames
    resolution_A: float
    bfactor_A2: float


def postprocess(
    config: PostprocessConfig | None = None, painter: Painter | None = None, **options: Any
) -> Result | None:
    """Post-process two half maps, or estimate their local resolution (``--locres``); all processes call this.

    The leader does the former alone; the latter is shared out.

    Parameters
    ----------
    config : all options; or give them by name, as in ``postprocess(i="run_half1_class001_unfil.mrc", ...)``
    painter : process that draws, if it was started already

    Returns
    -------
    Result, on the leader; None for local resolution.

    Raises
    ------
    InputError, ConfigError
        Before any work starts.
    """
    from mpiapp.parallel.runtime import session

    if config is None:
        config = PostprocessConfig.from_options(options)
    config.validate()
    names = PostprocessNames(config.output_root)
    with session(n_sets=1) as team, named_faults():
        check_writable(names.log)
        log.setup(config.verb, rank=team.rank, log_file=names.log)
        try:
            log.emit(log.options(config))
            result = None
            if config.locres:
                from mpiapp.engine.locres import local_resolution

                local_resolution(team, config, names)
            elif team.is_leader:
                with painter or Painter(len(available_cores())) as drawing:
                    result = _run(config, names, drawing)
                finish_pictures(names)
            if team.is_leader:
                refresh_page(names.log.parent)
            return result
        finally:
            log.close()


def _run(config: PostprocessConfig, names: PostprocessNames, painter: Painter) -> Result:
    workers = config.threads or len(available_cores())
    with ThreadPoolExecutor(1) as reader:  # maps are read while a device starts
        loading = reader.submit(_load, config, names, workers)
        here = start_arrays(SerialTeam(1), config.gpu)  # the leader works alone
        half1, half2, mask = loading.result()
    pixel = half1.pixel_size_A
    mtf_pixel = config.mtf_angpix if config.mtf_angpix > 0 else pixel
    mtf = read_mtf(config.mtf, mtf_pixel) if config.mtf else None
    begun = time.monotonic()
    halves: list[F32] = [here(half) for half in (half1.density, half2)]
    found = None
    if mask is None:
        transforms = tuple(forward_3d(half, centre=False, workers=workers) for half in halves)
        curves = unmasked_curve(transforms, pixel, workers)
    else:
        curves, found = solvent_curves(config, halves, here(mask), pixel, workers)
        transforms = found.transforms
    cones = None
    if config.cones and tells_directions(len(half2), pixel, curves.resolution_A):
        cones = _by_direction(transforms, found if curves.within_mask else None, pixel, workers)
    remove_pictures(names)
    draw_curves(painter, names, curves, cones, pixel)
    average: NDArray[Any] = (transforms[0] + transforms[1]) * HALF
    sharpened = _filter_of(config, average, pixel, curves, mtf, workers)
    _say_sharpened(config, sharpened)
    sources = (average, *(transforms if config.half_maps else ()))
    volumes = [_filtered(source, sharpened, workers) for source in sources]
    draw_map(painter, config, names, pixel, sharpened, volumes[0])
    volume, *halves_out = map(to_host, volumes)
    seconds = time.monotonic() - begun
    write_results(config, names, pixel, curves, sharpened, volume, mask, halves_out)
    if config.cones:
        _say_directions(names, cones, curves.resolution_A)
    where = "on the device" if config.gpu is not None else f"with {workers} threads"
    log.emit(
        [
            f"  + Processed map:                 {names.map()}",
            f"  + Metadata file:                 {names.star}",
            f"  + FINAL RESOLUTION:              {curves.resolution_A:g}",
            f"  + time:                          {seconds:.2f} s {where}",
            f"  + peak memory:                   {peak_memory_MiB():.0f} MiB",
        ]
    )
    if config.interpolate:
        crossing = resolution_interpolated(curves.final, THRESHOLD, pixel, volume.shape[0])
        log.emit([f"  + interpolated crossing:         {crossing:.4f}"])
    return Result(names, curves.resolution_A, sharpened.bfactor_A2)


def _load(
    config: PostprocessConfig, names: PostprocessNames, workers: int
) -> tuple[InputMap, F32, F32 | None]:
    """Both half maps, checked, and the mask: given, made or none."""
    half1, half2, mask = load_halves(config)
    if config.auto_mask:
        from mpiapp.io.mrc import write_map

        mask = automatic_mask(HALF * (half1.density + half2), half1.pixel_size_A, config, workers)
        write_map(names.automask, mask, half1.pixel_size_A)
        log.emit([f" Mask made from the average map:    {names.automask}"])
        check_not_empty(mask, str(names.automask))
    return half1, half2, mask


def automatic_mask(average: F32, pixel_size_A: float, config: PostprocessConfig, workers: int) -> F32:
    """Mask of the largest piece of density above a threshold in the average map, low-passed to 15 A."""
    smooth = lowpass_map(average, pixel_size_A, max(AUTO_MASK_A, 2.5 * pixel_size_A), workers=workers)
    threshold = config.inimask_threshold
    if threshold == -1:
        threshold = automatic_threshold(smooth)
    log.emit([f" Density threshold of the mask:     {threshold:.4g}"])
    binary = largest_piece(smooth >= threshold)
    return soft_edge(extend(binary, config.extend_inimask), config.width_mask_edge)


def _filter_of(
    config: PostprocessConfig,
    transform: NDArray[np.complex64],
    pixel_size_A: float,
    curves: Curves,
    mtf: Mtf | None,
    workers: int,
) -> Sharpened:
    low_pass = config.low_pass if config.low_pass > 0 else curves.resolution_A
    steps = Sharpening(
        mtf=mtf,
        fsc=None if config.skip_fsc_weighting else curves.final,
        bfactor_A2=config.adhoc_bfac or None,
        fit_from_A=config.autob_lowres if config.auto_bfac else None,
        fit_to_A=config.autob_highres,
        low_pass_A=low_pass if config.low_pass else None,
        edge=config.filter_edge_width,
    )
    try:
        return make_filter(transform, pixel_size_A, steps, workers=workers)
    except ValueError as error:
        raise InputError(
            f"--auto_bfac: the fit has only {error}; raise --autob_lowres, or give a B-factor with --adhoc_bfac"
        ) from error


def _say_sharpened(config: PostprocessConfig, sharpened: Sharpened) -> None:
    if sharpened.fit is not None:
        log.emit(
            [
                f"  + slope of fit:                  {sharpened.fit.slope_A2:g}",
                f"  + intercept of fit:              {sharpened.fit.intercept:g}",
                f"  + correlation of fit:            {sharpened.fit.correlation:g}",
            ]
        )
    if sharpened.bfactor_A2:
        log.emit([f"  + apply b-factor of:             {sharpened.bfactor_A2:g}"])
    if sharpened.bfactor_A2 > 0:
        log.warn("a positive B-factor blurs the map; sharpening needs a negative one.")
    if not config.auto_bfac and not config.adhoc_bfac:
        log.warn("the map is not sharpened: neither --auto_bfac nor --adhoc_bfac was given.")


def _by_direction(
    transforms: tuple[NDArray[Any], ...], solvent: SolventFsc | None, pixel_size_A: float, workers: int
) -> ConicalFsc:
    """FSC by direction of the whole maps, or within the mask and corrected for it."""
    if solvent is None:
        return conical_fsc(transforms[0], transforms[1], pixel_size_A, workers=workers)
    return conical_fsc(
        solvent.masked_transforms[0],
        solvent.masked_transforms[1],
        pixel_size_A,
        randomised=solvent.randomised,
        randomise_from=solvent.randomise_from,
        workers=workers,
    )


def _say_directions(names: PostprocessNames, cones: ConicalFsc | None, resolution_A: float) -> None:
    """Tell the resolution by direction; warns when the map is better along some directions than others."""
    if cones is None:
        log.emit(
            [
                f"  + by direction:                  not told, too few coefficients in a cone at {resolution_A:.4g} A"
            ]
        )
        return
    fine, coarse = np.percentile(cones.resolution_A, (5, 95))
    log.emit(
        [
            f"  + by direction, 90 %:            {fine:.4g} to {coarse:.4g} A, sphericity {cones.sphericity:.3f}"
        ]
    )
    missing = cones.missing(resolution_A)
    if cones.sphericity < POOR_SPHERICITY or missing > MANY_MISSING:
        log.warn(
            f"the resolution depends on the direction (sphericity {cones.sphericity:.2f}, {100 * missing:.0f} % of the "
            f"directions far behind): views are missing; look at "
            f"{names.cones_plot} and at the angular distribution of the refinement."
        )


def _filtered(transform: NDArray[np.complex64], sharpened: Sharpened, workers: int) -> F32:
    """Map of a half transform, which is spent, after the filter."""
    filter_radially(transform, sharpened.weights, workers=workers)
    volume: F32 = inverse_3d(transform, centre=False, workers=workers)
    return volume
