"""Noise and signal power, and FSC curves of many iterations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mpiapp.report.style import COLOURS, FAINT, figure, panel, write_csv

# a range of so much has ticks enough at powers of ten: those between take most of the time of the picture
MANY = 1e3


def plot_spectra(
    path: str | Path,
    frequency: ArrayLike,
    curves: Mapping[str, ArrayLike],
    title: str,
    level: float | None = None,
    name: str = "Power",
) -> None:
    """Plot power against frequency on a logarithmic scale; the numbers go to a CSV beside it.

    Parameters
    ----------
    frequency : (n,) 1/A
    curves : label -> (n,) power; what is not above 0 leaves a gap
    level : where a line is drawn across
    name : of what is plotted
    """
    from matplotlib.ticker import NullLocator

    x = np.asarray(frequency, dtype=np.float64)
    shown = {label: np.array(values, dtype=np.float64) for label, values in curves.items()}
    write_csv(path, {"frequency_1_over_A": x, **shown})
    with figure(path, 5.8, 3.9, layout="none") as fig:
        # room for labels such as 2 x 10^-10
        axes = panel(fig, title, ("Spatial frequency (1/Å)", name), margins=(0.95, 0.52, 0.1, 0.29))
        for i, (label, values) in enumerate(shown.items()):
            values[values <= 0] = np.nan
            axes.plot(x, values, color=COLOURS[i % len(COLOURS)], label=label)
        if level is not None:
            axes.axhline(level, color=FAINT, lw=0.9, ls="--")
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high > MANY * low:
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(0, x[-1])
        axes.grid(axis="both")
        axes.legend(ncols=2 if len(shown) > 5 else 1)


def plot_fsc_history(path: str | Path, frequency: ArrayLike, curves: Mapping[str, ArrayLike]) -> None:
    """Plot the FSC of all iterations, from light to dark, with both thresholds; numbers in a CSV.

    Parameters
    ----------
    curves : iteration, or "final", -> (n,) FSC
    """
    from matplotlib import colormaps

    x = np.asarray(frequency, dtype=np.float64)
    write_csv(
        path, {"frequency_1_over_A": x, **{f"iteration_{name}": np.asarray(v) for name, v in curves.items()}}
    )
    with figure(path, 5.8, 3.9, layout="none") as fig:
        axes = panel(fig, "FSC of the half maps, all iterations", ("Spatial frequency (1/Å)", "FSC"))
        shades = colormaps["viridis_r"](np.linspace(0.1, 1.0, max(len(curves), 2)))
        labelled = {0, len(curves) // 2, len(curves) - 1}
        for i, (name, values) in enumerate(curves.items()):
            label = (name if name == "final" else f"iteration {name}") if i in labelled else None
            axes.plot(x, np.asarray(values), color=shades[i], lw=1.2, label=label)
        for threshold in (0.143, 0.5):
            axes.axhline(threshold, color=FAINT, lw=0.9, ls="--")
        axes.set(xlim=(0, x[-1]), ylim=(-0.1, 1.03))
        axes.grid(axis="both")
        axes.legend()
