"""The posterior of an image over its states and its weighted sums, in float64 (refinement.md 4.8, 4.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.projection import insert_slices
from mpiapp.model.scores import Observation, references, shifted

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]


def normalised(log_weight: F64) -> F64:
    """Posterior weights of all states, summing to 1; same shape."""
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def significance_threshold(log_weight: F64, fraction: float, maximum: int = 0) -> float:
    """Smallest accepted log weight.

    States are accepted in descending order until their sum exceeds a fraction of the whole; ties all pass.

    Parameters
    ----------
    log_weight : any shape;  fraction : in (0, 1].
    maximum : most states that are accepted, 0 or less for no limit.
    """
    descending = np.sort(log_weight.ravel())[::-1]
    reached = np.cumsum(normalised(descending))
    last = int(np.searchsorted(reached, fraction, side="right"))
    if maximum > 0:
        last = min(last, maximum - 1)
    return float(descending[min(last, descending.size - 1)])


def significant_weights(log_weight: F64, fraction: float, maximum: int = 0) -> F64:
    """Posterior weights with 0 for the states that are not significant; they are not scaled up to 1."""
    accepted = log_weight >= significance_threshold(log_weight, fraction, maximum)
    return np.where(accepted, normalised(log_weight), 0.0)


@dataclass
class ImageSums:
    """What one image, or several, add to the sums of an expectation step."""

    data: C128  # padded grid D
    weight: F64  # padded grid W
    image_power: F64  # (n_shells,) sum of w |X|^2
    reference_power: F64  # (n_shells,) sum of w |Ref|^2
    cross: F64  # (n_shells,) sum of w Re(conj(Ref) X_t)

    @classmethod
    def zeros(cls, radius: int, n_shells: int) -> ImageSums:
        """Empty sums for a grid of radius R."""
        shape = (2 * radius + 1, 2 * radius + 1, radius + 1)
        return cls(np.zeros(shape, np.complex128), np.zeros(shape), *np.zeros((3, n_shells)))

    @property
    def noise(self) -> F64:
        """Sum of w |Ref - X_t|^2 by shell."""
        return self.image_power + self.reference_power - 2 * self.cross


def add_residual(
    sums: ImageSums,
    masked: Observation,
    volume: NDArray[Any],
    padding: float,
    matrices: F64,
    shifts_A: F64,
    weights: F64,
) -> None:
    """Add the terms of w |Ref - X_t|^2 of one image, by shell, in place.

    Parameters
    ----------
    masked : the masked image.
    matrices : (n_rot, 3, 3);  shifts_A : (n_shift, 2).
    weights : (n_rot, n_shift) posterior, 0 where not accepted.
    """
    samples, n_shells, x = masked.samples, sums.cross.size, shifted(masked, shifts_A)
    for ref, w in zip(references(masked, volume, padding, matrices), weights, strict=True):
        terms = w.sum() * np.abs(x[0]) ** 2, w.sum() * np.abs(ref) ** 2, (ref.conj() * (w @ x)).real
        for total, term in zip((sums.image_power, sums.reference_power, sums.cross), terms, strict=True):
            total += samples.density * np.bincount(samples.shell, term, n_shells)[:n_shells]


def back_project(
    sums: ImageSums,
    unmasked: Observation,
    padding: float,
    matrices: F64,
    shifts_A: F64,
    weights: F64,
    *,
    premultiplied: bool = False,
) -> None:
    """Add sum_t w C Y_t / sigma2 to D and sum_t w C^2 / sigma2 to W, in place; parameters as `add_residual`.

    Images that were multiplied by their CTF before are not multiplied again.
    """
    y, inverse = shifted(unmasked, shifts_A), unmasked.inverse_sigma2
    factor = inverse if premultiplied else inverse * unmasked.contrast
    radius = sums.weight.shape[2] - 1
    for matrix, w in zip(matrices, weights, strict=True):
        if w.any():
            rows = (factor * (w @ y))[None], (w.sum() * inverse * unmasked.ctf_power)[None]
            data, weight = insert_slices(*rows, radius, padding, matrix[None], *unmasked.samples.q)
            sums.data += data
            sums.weight += weight
