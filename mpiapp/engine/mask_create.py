"""Make a solvent mask and write it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.mask_create import MaskCreateConfig
from mpiapp.errors import InputError
from mpiapp.io.atomic import check_writable
from mpiapp.io.maps_in import load_like, load_map
from mpiapp.io.mrc import write_map
from mpiapp.model.filters import lowpass_map, whole_shell_A
from mpiapp.model.mask_creation import (
    automatic_threshold,
    central_part,
    combine,
    extend,
    shell_mask,
    soft_edge,
)
from mpiapp.parallel.threads import available_cores
from mpiapp.report import log

AUTOMATIC = -1.0
F32 = NDArray[np.float32]


def mask_create(config: MaskCreateConfig) -> F32:
    """Make the mask that the options ask for, write it and return it, (z, y, x) float32.

    Raises
    ------
    InputError
        The map can not be used, or no voxel is above the threshold.
    """
    log.setup()
    try:
        log.emit(log.options(config))
        check_writable(config.output)
        mask, pixel = _new_shell(config) if config.denovo else _from_density(config)
        if config.helix:
            mask = central_part(mask, config.z_percentage, config.width_soft_edge)
        if config.invert:
            mask = 1 - mask
        write_map(config.output, mask, pixel)
        log.emit([f" {config.output}: {100 * float((mask > 0.5).mean()):.3g} % of the box is inside"])
        return mask
    finally:
        log.close()


def _new_shell(config: MaskCreateConfig) -> tuple[F32, float]:
    centre = (config.center_x, config.center_y, config.center_z)
    mask = shell_mask(
        config.box_size, config.inner_radius, config.outer_radius, config.width_soft_edge, centre
    )
    return mask, config.angpix if config.angpix > 0 else 1.0


def _from_density(config: MaskCreateConfig) -> tuple[F32, float]:
    source = load_map(config.input_map, config.angpix)
    density = source.density
    if config.lowpass > 0:
        workers = config.threads or len(available_cores())
        cutoff = whole_shell_A(density.shape[0], source.pixel_size_A, config.lowpass)
        density = lowpass_map(density, source.pixel_size_A, cutoff, workers=workers)
    threshold = config.ini_threshold
    if threshold == AUTOMATIC:
        threshold = automatic_threshold(density)
        log.emit([f" Density threshold: {threshold:.4g}"])
    binary = density >= threshold
    operation, other = config.logic()
    if operation:
        binary = combine(binary, load_like(other, source, config.input_map) >= threshold, operation)
    if not binary.any():
        raise InputError(
            f"{config.input_map}: no voxel is above --ini_threshold {threshold:g} (largest "
            f"{float(density.max()):.4g}); lower it."
        )
    extended = extend(binary, config.extend_inimask)
    if not extended.any():
        raise InputError(
            f"{config.input_map}: --extend_inimask {config.extend_inimask:g} shrinks the mask to nothing; give a number "
            "nearer to 0, or lower --ini_threshold."
        )
    return soft_edge(extended, config.width_soft_edge), source.pixel_size_A
