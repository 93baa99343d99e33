"""Histogram of one quantity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mpiapp.report.style import COLOURS, INK, figure, write_csv


def plot_histogram(path: str | Path, values: ArrayLike, label: str, title: str, bins: int = 40) -> None:
    """Plot how often values occur, with their median; the counts go to a CSV beside it.

    Parameters
    ----------
    values : (n,) numbers; what is not finite is left out
    label : of the horizontal axis, with unit
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    data = data[np.isfinite(data)]
    counts, edges = np.histogram(data, bins=bins)
    write_csv(path, {"from": edges[:-1], "to": edges[1:], "count": counts})
    from matplotlib.ticker import MaxNLocator

    with figure(path, 5.8, 3.7) as fig:
        axes = fig.add_subplot()
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[0], lw=0)
        if data.size:
            median = float(np.median(data))
            axes.axvline(median, color=INK, ls="--", lw=1, label=f"median {median:.3g}")
            axes.legend()
        axes.set(xlabel=label, ylabel="Count", title=title)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.grid(axis="y")
