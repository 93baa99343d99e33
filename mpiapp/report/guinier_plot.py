"""Guinier plot: logarithm of the mean amplitude against squared frequency, and the line that gives B."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mpiapp.report.style import COLOURS, FAINT, figure, panel, write_csv

_LABELS = {
    "original": "average map",
    "mtf": "corrected for the MTF",
    "weighted": "weighted by the FSC",
    "sharpened": "sharpened",
}
_EMPTY = -90.0  # below this a value stands for "nothing there"


def plot_guinier(
    path: str | Path,
    squared_frequency: ArrayLike,
    curves: Mapping[str, ArrayLike],
    bfactor_A2: float = 0.0,
    line: tuple[float, float] | None = None,
    fit_A: tuple[float, float] | None = None,
) -> None:
    """Plot Guinier curves with their numbers as CSV beside it.

    Parameters
    ----------
    squared_frequency : (n,) 1/A^2
    curves : name (original, mtf, weighted, sharpened) -> (n,) logarithms; -99 leaves a gap
    bfactor_A2 : B-factor that was applied, for the title
    line : slope (A^2) and intercept of the fitted line
    fit_A : lowest and highest resolution of the fit; 0 stands for the end of the curve
    """
    x = np.asarray(squared_frequency, dtype=np.float64)
    shown = {name: np.array(values, dtype=np.float64) for name, values in curves.items() if name in _LABELS}
    for values in shown.values():
        values[values < _EMPTY] = np.nan
    write_csv(path, {"squared_frequency_1_over_A2": x, **shown})
    title = "Guinier plot" + (f": B = {bfactor_A2:.1f} Å²" if bfactor_A2 else "")
    with figure(path, 5.8, 4.2, layout="none") as fig:
        axes = panel(fig, title, ("Squared spatial frequency (1/Å²)", "ln(mean amplitude)"))
        for (name, values), colour in zip(shown.items(), COLOURS, strict=False):
            axes.plot(x, values, "o-", ms=3, color=colour, label=_LABELS[name])
        if line is not None:
            low, high = fit_A or (np.inf, 0.0)
            ends = np.array([1 / low**2, 1 / high**2 if high > 0 else x[-1]])
            label = f"fit, slope {line[0]:.1f} Å²"
            axes.plot(ends, line[1] + line[0] * ends, color=FAINT, ls="--", label=label)
        axes.set_xlim(0, x[-1])
        axes.grid(axis="both")
        axes.legend()
