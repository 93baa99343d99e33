"""Sharpening of an average map: detector, FSC weights, B-factor and low-pass as one radial filter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.filters import bfactor_weight, lowpass_weight, shell_weights, whole_shell_A
from mpiapp.model.guinier import GuinierFit, fit_line, log_amplitudes, squared_frequencies
from mpiapp.model.radial import amplitude_sums, radii

FloatArray = NDArray[np.float64]
NO_SIGNAL = 1e-4  # an FSC below this ends the weighting


@dataclass(frozen=True)
class Mtf:
    """Modulation transfer of a detector: values at spatial frequencies in 1/A, both (n,)."""

    frequency_invA: FloatArray
    value: FloatArray


@dataclass(frozen=True)
class Sharpening:
    """What is done to the average map, in this order; None leaves a step out.

    Attributes
    ----------
    mtf : the transform is divided by it up to Nyquist
    fsc : (N//2 + 1,) FSC of the halves, for the weights sqrt(2 FSC/(1 + FSC))
    bfactor_A2 : given B-factor, negative sharpens
    fit_from_A, fit_to_A : or resolutions between which a line through the Guinier plot finds it
    low_pass_A : resolution of the final low-pass
    edge : width of its edge in shells
    """

    mtf: Mtf | None = None
    fsc: FloatArray | None = None
    bfactor_A2: float | None = None
    fit_from_A: float | None = None
    fit_to_A: float = 0.0
    low_pass_A: float | None = None
    edge: float = 2.0


@dataclass(frozen=True)
class Sharpened:
    """The radial filter, the B-factor in it (0: none), its fit, and the Guinier curves by name."""

    weights: FloatArray
    bfactor_A2: float
    fit: GuinierFit | None
    guinier: dict[str, FloatArray] = field(default_factory=dict)


def mtf_weight(mtf: Mtf, frequency_invA: FloatArray) -> FloatArray:
    """Linear interpolation of the table, constant beyond its ends."""
    return np.interp(frequency_invA, mtf.frequency_invA, mtf.value)


def fsc_weight(fsc: FloatArray) -> FloatArray:
    """Figure of merit sqrt(2 FSC/(1 + FSC)) of the average of two halves (Rosenthal and Henderson 2003).

    All shells from the first one with an FSC below 1e-4 get 0.
    """
    lost = np.flatnonzero(fsc < NO_SIGNAL)
    known = np.arange(fsc.size) < (lost[0] if lost.size else fsc.size)
    f = np.where(known, fsc, 0.0)
    return np.sqrt(2 * f / (1 + f))


def make_filter(
    transform: NDArray[Any], pixel_size_A: float, steps: Sharpening, *, workers: int = 1
) -> Sharpened:
    """Radial filter that sharpens a map, and the Guinier curves on the way.

    Parameters
    ----------
    transform : (N, N, N//2 + 1) half transform of the average map, divided by N^3
    pixel_size_A : of the map

    Returns
    -------
    Sharpened; its weights are for `radial.filter_radially`.

    Raises
    ------
    ValueError
        When too few shells are left for the fit of a B-factor.
    """
    box = transform.shape[0]
    radius = radii(box)
    sums, counts = amplitude_sums(transform, workers=workers)
    s2 = squared_frequencies(box, pixel_size_A)
    weights = np.ones_like(radius)
    curves = {"original": log_amplitudes(sums, counts, weights, box)}
    if steps.mtf is not None:
        detector = mtf_weight(steps.mtf, radius / (box * pixel_size_A))
        weights = weights / np.where(2 * radius < box, detector, 1.0)
        curves["mtf"] = log_amplitudes(sums, counts, weights, box)
    if steps.fsc is not None:
        weights = weights * shell_weights(radius, fsc_weight(steps.fsc))
        curves["weighted"] = log_amplitudes(sums, counts, weights, box)
    fit, bfactor = None, steps.bfactor_A2 or 0.0
    if steps.fit_from_A is not None:
        fit = fit_line(s2, list(curves.values())[-1], steps.fit_from_A, steps.fit_to_A)
        bfactor = fit.bfactor_A2
    if bfactor:
        weights = weights * bfactor_weight(radius, box, pixel_size_A, bfactor)
        curves["sharpened"] = log_amplitudes(sums, counts, weights, box)
    if steps.low_pass_A is not None:
        cutoff = box * pixel_size_A / whole_shell_A(box, pixel_size_A, steps.low_pass_A)
        weights = weights * lowpass_weight(radius, cutoff, steps.edge)
    return Sharpened(weights, bfactor, fit, curves)
