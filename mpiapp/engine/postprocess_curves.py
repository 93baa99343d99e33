"""The FSC curves of a post-processing job, and the one that everything else goes by (Chen et al. 2013)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.errors import ConfigError, InputError
from mpiapp.model.fsc import (
    SolventFsc,
    first_shell_below,
    fsc_of_transforms,
    resolution_at,
    solvent_corrected_fsc,
)
from mpiapp.report import log

THRESHOLD = 0.143
PROTEIN_A3_PER_DALTON = 1 / 0.81  # what the field's programs use
SOLVENT_FACTOR = 0.476
COPIED = 0.999  # independent halves fall below this somewhere: each has noise of its own
F32 = NDArray[np.float32]
C64 = NDArray[np.complex64]


@dataclass(frozen=True)
class Curves:
    """FSC curves by the names of postprocess.star, and what was read off them.

    Where the mask is rejected, the corrected curve is that of the unmasked maps, as in RELION.
    """

    by_name: dict[str, NDArray[np.float64]]
    final: NDArray[np.float64]  # the curve that everything else goes by
    within_mask: bool  # whether that one is corrected for a mask, which there is and which was not rejected
    resolution_A: float
    randomised_from_A: float  # 0 without a mask
    mask_fraction: float
    molecular_fraction: float


def unmasked_curve(transforms: Sequence[C64], pixel_size_A: float, workers: int) -> Curves:
    """FSC of two half transforms without a mask."""
    curve = fsc_of_transforms(transforms[0], transforms[1], workers=workers)
    curve[0] = 1.0
    warn_of_copies(curve)
    resolution = resolution_at(curve, THRESHOLD, pixel_size_A, 2 * (curve.size - 1))
    return Curves({"unmasked": curve}, curve, False, resolution, 0.0, 0.0, 0.0)


def solvent_curves(
    config: PostprocessConfig, halves: Sequence[F32], mask: F32, pixel_size_A: float, workers: int
) -> tuple[Curves, SolventFsc]:
    """All FSC curves, and the one that counts; warns where the mask does harm.

    Parameters
    ----------
    halves, mask : (N, N, N) float32, all in host memory or all on a device
    """
    box = halves[0].shape[0]
    start = 0
    if config.randomize_at_A > 0:
        start = first_random_shell("randomize_at_A", config.randomize_at_A, pixel_size_A, box)
    seed = config.random_seed if config.random_seed >= 0 else time.time_ns() % 2**31
    found = solvent_corrected_fsc(
        halves[0],
        halves[1],
        mask,
        seed,
        randomise_below=config.randomize_at_fsc,
        randomise_from=start,
        clip=False,
        draws=config.randomizations,
        workers=workers,
    )
    warn_of_copies(found.unmasked)
    if found.randomise_from < 0:
        raise InputError(
            f"{config.half1}: the unmasked FSC never falls below {config.randomize_at_fsc:g}, so it is unknown "
            "from where to randomise phases; say it with --randomize_at_A, or use maps of smaller pixels."
        )
    accepted = _accepts_mask(config, found, pixel_size_A, box)
    final = found.corrected if accepted else found.unmasked
    curves = {
        "corrected": final,
        "unmasked": found.unmasked,
        "masked": found.masked,
        "randomised": found.randomised,
    }
    fraction = SOLVENT_FACTOR / float((mask > 0.5).mean())
    curves["mask_fraction"] = _in_particle(found.unmasked, fraction)
    molecular = 0.0
    if config.molweight > 0:
        volume_A3 = 1000 * config.molweight * PROTEIN_A3_PER_DALTON
        molecular = SOLVENT_FACTOR * (box * pixel_size_A) ** 3 / volume_A3
        curves["molecular_weight"] = _in_particle(found.unmasked, molecular)
    resolution = resolution_at(final, THRESHOLD, pixel_size_A, box)
    randomised_A = pixel_size_A * box / found.randomise_from
    return Curves(curves, final, accepted, resolution, randomised_A, fraction, molecular), found


def first_random_shell(flag: str, from_A: float, pixel_size_A: float, box: int) -> int:
    """Shell from which an option has phases randomised.

    Raises
    ------
    ConfigError
        It is shell 0, or so high that no shell is left to correct: correction begins two shells further.
    """
    shell = int(pixel_size_A * box / from_A)
    last = box // 2 - 2
    if not 1 <= shell <= last:
        finest, coarsest = pixel_size_A * box / last, pixel_size_A * box
        raise ConfigError(
            f"--{flag} {from_A:g}: for maps of {box} px of {pixel_size_A:g} A it must be from {finest:.4g} to "
            f"{coarsest:.4g} A, or the FSC is not corrected for the mask"
        )
    return shell


def warn_of_copies(unmasked: NDArray[np.float64]) -> None:
    """Warn where the FSC of the whole maps shows that they have no noise of their own."""
    lowest = float(unmasked[1:].min())
    if lowest > COPIED:
        log.warn(
            f"the half maps are not independent: their FSC is {lowest:.4f} or more in every shell, so that neither has "
            "noise of its own; one may be a scaled copy of the other. No resolution that is told here means anything."
        )


def _in_particle(unmasked: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """FSC of the particle alone, from the part of the box that it fills."""
    return factor * unmasked / (1 + (factor - 1) * unmasked)


def _accepts_mask(config: PostprocessConfig, found: SolventFsc, pixel_size_A: float, box: int) -> bool:
    """Whether the corrected curve counts: not where the mask makes the resolution worse."""
    corrected = resolution_at(found.corrected, THRESHOLD, pixel_size_A, box)
    unmasked = resolution_at(found.unmasked, THRESHOLD, pixel_size_A, box)
    log.emit([f"  + randomize phases beyond:       {pixel_size_A * box / found.randomise_from:g} Angstroms"])
    if unmasked < corrected and not config.force_mask:
        log.warn(
            f"the unmasked maps reach {unmasked:.4g} A, within the mask it is {corrected:.4g} A: is the mask "
            "right? The unmasked FSC is used (--force_mask uses the mask all the same)."
        )
        return False
    shell = first_shell_below(found.corrected, THRESHOLD)
    if shell > 1 and found.randomised[shell - 1] > 0.1:
        log.warn(
            f"maps with random phases correlate by {found.randomised[shell - 1]:.2f} at {corrected:.4g} A: the "
            "mask is too sharp or too tight; give it a wider soft edge."
        )
    return True
