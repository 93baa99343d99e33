"""Class averages or projections of class maps sorted by size, and class sizes against the iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mpiapp.report.style import COLOURS, FAINT, figure, panel, write_csv

_INCH = 1.25  # of an image
_MOST_COLUMNS = 10
_NAMED = 7  # classes that a plot of sizes names


def plot_classes(
    path: str | Path,
    images: ArrayLike,
    shares: Sequence[float] | ArrayLike,
    resolutions_A: Sequence[float] | ArrayLike,
    title: str,
) -> None:
    """Show all classes with particles, the largest first, with share and resolution under each.

    Every image has its own grey scale. The numbers beside it are class, share and resolution.

    Parameters
    ----------
    images : (n, y, x) averages, or projections of maps
    shares : (n,) of the particles;  resolutions_A : (n,)
    """
    stack, share = np.asarray(images, np.float32), np.asarray(shares, float)
    resolution = np.asarray(resolutions_A, float)
    order = np.argsort(-share, kind="stable")
    write_csv(path, {"class": order + 1, "share": share[order], "resolution_A": resolution[order]})
    shown = [k for k in order if share[k] > 0]
    columns = max(1, min(_MOST_COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    with figure(path, _INCH * max(columns, 4), (_INCH + 0.38) * rows + 0.45) as fig:
        panels = np.atleast_1d(fig.subplots(rows, columns, squeeze=False)).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, k in zip(panels, shown, strict=False):
            low, high = np.percentile(stack[k], [1, 99.8])
            axes.imshow(stack[k], cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower")
            text = f"{k + 1}: {100 * share[k]:.1f} %\n{resolution[k]:.1f} Å"
            axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=8.5)
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)


def plot_class_sizes(path: str | Path, history: Mapping[str, ArrayLike]) -> None:
    """Plot the share of the particles in each class against the iteration, largest classes named.

    Parameters
    ----------
    history : columns ``iteration`` and ``class_001``, ``class_002``, ... of one length
    """
    names = sorted(name for name in history if name.startswith("class_"))
    iteration = np.asarray(history["iteration"])
    sizes = np.array([np.asarray(history[name], float) for name in names])
    write_csv(path, {"iteration": iteration, **dict(zip(names, sizes, strict=True))})
    from matplotlib.ticker import MaxNLocator

    names_of_axes = ("Iteration", "Share of the particles (%)")
    with figure(path, 6.4, 3.9, layout="none") as fig:
        axes = panel(fig, "Class sizes", names_of_axes, margins=(0.68, 0.52, 1.2, 0.29))
        for place, k in enumerate(np.argsort(-sizes[:, -1], kind="stable")):
            named = place < _NAMED
            colour = COLOURS[place] if named else FAINT
            label = f"class {int(names[k][6:])}" if named else None
            axes.plot(iteration, 100 * sizes[k], color=colour, label=label, lw=1.8 if named else 0.8)
        axes.set_ylim(0, None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
