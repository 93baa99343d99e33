"""Operations on a map, one after the other."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.image_handler import ImageHandlerConfig
from mpiapp.errors import InputError
from mpiapp.io.atomic import check_writable
from mpiapp.io.maps_in import InputMap, load_like, load_map, refuse_stack
from mpiapp.io.mrc import read_map, write_map
from mpiapp.model.filters import apply_bfactor, filter_map, lowpass_map, lowpass_weight, whole_shell_A
from mpiapp.model.fourier import half_radius, resample_map, resize_real
from mpiapp.model.fsc import fsc
from mpiapp.model.map_operations import invert_hand, symmetrise_map
from mpiapp.model.random_phases import randomise_phases
from mpiapp.model.symmetry import point_group
from mpiapp.parallel.threads import available_cores
from mpiapp.report import log

F32 = NDArray[np.float32]


def image_handler(config: ImageHandlerConfig) -> InputMap:
    """Do what the options ask for, write the map and return it with its pixel size.

    Raises
    ------
    InputError
        A map can not be read, or two maps do not fit each other.
    """
    log.setup()
    try:
        return _run(config)
    finally:
        log.close()


def _run(config: ImageHandlerConfig) -> InputMap:
    workers = config.threads or len(available_cores())
    if config.output:
        check_writable(config.output)
    source = _load(config)
    if config.stats:
        log.emit([_statistics(config.input_map, source)])
    if config.fsc:
        other = load_like(config.fsc, source, config.input_map)
        # in double precision: maps without noise have shells far below the rounding of single
        curve = fsc(source.density.astype(np.float64), other.astype(np.float64), workers=workers)
        log.emit(fsc_table(curve, source))
    if not config.output:
        return source
    density = _with_numbers(config, source.density)
    density = _with_maps(config, InputMap(density, source.pixel_size_A))
    density = _filters(config, density, source.pixel_size_A, workers)
    density = _geometry(config, density)
    density, pixel = _scale(config, density, source.pixel_size_A, workers)
    write_map(config.output, density, pixel)
    log.emit([f" {config.output}: box {density.shape[0]} of {pixel:.5g} A"])
    return InputMap(density, pixel)


def _load(config: ImageHandlerConfig) -> InputMap:
    """The map; its values are checked unless they are about to be repaired, its shape where it matters."""
    refuse_stack(config.input_map)
    density, header_A = read_map(config.input_map)
    pixel = config.angpix if config.angpix > 0 else header_A
    if len(set(density.shape)) > 1 or density.shape[0] % 2:
        if config.new_box < 0:
            return load_map(config.input_map, config.angpix)  # which says what is wrong
        logging.getLogger(log.NAME).info(" %s: cut or padded to a cube first", config.input_map)
        density = resize_real(density, config.new_box, 3)
    bad = ~np.isfinite(density)
    if bad.any() and config.remove_nan:
        density[bad] = config.replace_nan
        log.emit([f" {int(bad.sum())} voxels replaced by {config.replace_nan:g}"])
    elif bad.any():
        raise InputError(f"{config.input_map}: {int(bad.sum())} voxels are NaN or infinite; add --remove_nan")
    if pixel <= 0:
        raise InputError(f"{config.input_map}: the header has no pixel size; give it with --angpix.")
    return InputMap(density, pixel)


def _statistics(name: str | Path, source: InputMap) -> str:
    d = source.density
    return (
        f" {name}: mean {d.mean(dtype=np.float64):.6g}, standard deviation {d.std(dtype=np.float64):.6g}, "
        f"smallest {d.min():.6g}, largest {d.max():.6g}, box {d.shape[0]} of {source.pixel_size_A:.5g} A"
    )


def fsc_table(curve: NDArray[np.float64], source: InputMap) -> list[str]:
    """FSC as the lines of a STAR table."""
    size_A = source.density.shape[0] * source.pixel_size_A
    labels = ("rlnSpectralIndex", "rlnResolution", "rlnAngstromResolution", "rlnFourierShellCorrelation")
    lines = ["", "data_fsc", "", "loop_", *(f"_{label} #{i}" for i, label in enumerate(labels, 1))]
    for shell, value in enumerate(curve):
        resolution = size_A / shell if shell else 999.0
        lines.append(f"{shell:12d} {1 / resolution:12.6f} {resolution:12.6f} {value:12.6f}")
    return [*lines, ""]


def _with_numbers(config: ImageHandlerConfig, density: F32) -> F32:
    density = density * np.float32(config.multiply_constant / config.divide_constant)
    density += np.float32(config.add_constant - config.subtract_constant)
    if config.threshold_above != 999.0:
        density = np.minimum(density, np.float32(config.threshold_above))
    if config.threshold_below != -999.0:
        density = np.maximum(density, np.float32(config.threshold_below))
    return density


def _with_maps(config: ImageHandlerConfig, source: InputMap) -> F32:
    density = source.density
    if config.multiply:
        density = density * load_like(config.multiply, source, config.input_map)
    if config.divide:
        divisor = load_like(config.divide, source, config.input_map)
        density = np.divide(density, divisor, out=np.zeros_like(density), where=np.abs(divisor) > 1e-10)
    if config.add:
        density = density + load_like(config.add, source, config.input_map)
    if config.subtract:
        density = density - load_like(config.subtract, source, config.input_map)
    return density


def _filters(config: ImageHandlerConfig, density: F32, pixel: float, workers: int) -> F32:
    box = density.shape[0]
    if config.bfactor:
        density = apply_bfactor(density, pixel, config.bfactor, workers=workers)
    if config.lowpass > 0:
        cutoff = whole_shell_A(box, pixel, config.lowpass)
        density = lowpass_map(density, pixel, cutoff, config.filter_edge_width, workers=workers)
    if config.highpass > 0:
        cutoff = box * pixel / whole_shell_A(box, pixel, config.highpass)
        weight = 1 - lowpass_weight(half_radius(box, 3), cutoff, config.filter_edge_width)
        density = filter_map(density, weight, workers=workers)
    if config.phase_randomise > 0:
        rng = np.random.default_rng(config.random_seed)
        density = randomise_phases(density, round(box * pixel / config.phase_randomise), rng, workers=workers)
    return density


def _geometry(config: ImageHandlerConfig, density: F32) -> F32:
    for axis, flag in ((2, "flipX"), (1, "flipY"), (0, "flipZ")):
        if getattr(config, flag):
            density = np.flip(density, axis)
    if config.invert_hand:
        density = invert_hand(density)
    if config.sym:
        density = symmetrise_map(density, point_group(config.sym))
    return density


def _scale(config: ImageHandlerConfig, density: F32, pixel: float, workers: int) -> tuple[F32, float]:
    box = density.shape[0]
    if config.rescale_angpix > 0:
        scaled = 2 * round(box * pixel / config.rescale_angpix / 2)
        box = config.new_box if config.new_box > 0 else scaled
        density = resample_map(density, pixel, config.rescale_angpix, box, workers=workers)
        pixel = config.rescale_angpix
    elif config.new_box > 0:
        density = resize_real(density, config.new_box, 3)
    return density, config.force_header_angpix if config.force_header_angpix > 0 else pixel
