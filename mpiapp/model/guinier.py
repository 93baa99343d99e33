"""Guinier plot and the B-factor that a straight line through it tells (Rosenthal and Henderson 2003)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.radial import shell_of_squares

EMPTY = -99.0  # stands for the logarithm of nothing, as in RELION's files
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GuinierFit:
    """Straight line ln|F| = intercept + slope s^2; `correlation` is its r^2."""

    slope_A2: float
    intercept: float
    correlation: float

    @property
    def bfactor_A2(self) -> float:
        """B-factor that undoes the decay: 4 slope, negative for a map that fades."""
        return 4 * self.slope_A2


def log_amplitudes(sums: FloatArray, counts: NDArray[np.int64], weights: FloatArray, box: int) -> FloatArray:
    """Logarithm of the mean amplitude of each shell after a radial filter.

    Parameters
    ----------
    sums, counts : of `radial.amplitude_sums`
    weights : (3 (N/2)^2 + 1,) radial filter

    Returns
    -------
    (N//2 + 1,) float64; -99 where nothing is left.
    """
    shell = shell_of_squares(box)
    n = box // 2 + 1
    total = np.bincount(shell, sums * weights, minlength=n)[:n]
    mean = total / np.maximum(np.bincount(shell, counts, minlength=n)[:n], 1)
    return np.where(mean > 0, np.log(np.where(mean > 0, mean, 1.0)), EMPTY)


def squared_frequencies(box: int, pixel_size_A: float) -> FloatArray:
    """Abscissa of the plot, s^2 in 1/A^2 of shells 0 .. N/2."""
    return np.square(np.arange(box // 2 + 1) / (box * pixel_size_A))


def fit_line(s2: FloatArray, log_amplitude: FloatArray, lowest_A: float, highest_A: float) -> GuinierFit:
    """Least-squares line through the points of the plot between two resolutions.

    Parameters
    ----------
    s2 : (n,) squared frequencies, 1/A^2
    log_amplitude : (n,) values, -99 where empty
    lowest_A, highest_A : resolutions between which the points count; 0 has no upper end

    Raises
    ------
    ValueError
        When fewer than two points lie there.
    """
    resolution = np.full(s2.shape, np.inf)
    np.divide(1.0, np.sqrt(s2), out=resolution, where=s2 > 0)
    used = (resolution <= lowest_A) & (resolution >= highest_A) & (log_amplitude > EMPTY)
    if np.count_nonzero(used) < 2:
        raise ValueError(f"{np.count_nonzero(used)} shells between {lowest_A:g} and {highest_A:g} A")
    x, y = s2[used], log_amplitude[used]
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    spread = float(dy @ dy)
    r2 = float((dx @ dy) ** 2 / ((dx @ dx) * spread)) if spread > 0 else 1.0
    return GuinierFit(slope, float(y.mean() - slope * x.mean()), r2)
