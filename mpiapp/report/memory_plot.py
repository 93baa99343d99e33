"""Device memory against box size and against the number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mpiapp.report.style import COLOURS, FAINT, figure, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GB = 1 << 30
Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]


def plot_memory(
    path: str | Path,
    by_box: Curves,
    by_classes: Curves,
    cards_GB: Sequence[float],
    titles: tuple[str, str] = ("", ""),
) -> None:
    """Plot the memory that a refinement needs on a device; the numbers go to a CSV beside it.

    Parameters
    ----------
    path : path
        PNG file.
    by_box, by_classes : mapping of label to (box in pixels or number of classes, bytes)
        Both (n,); curves may differ in length.
    cards_GB : sequence of float
        Sizes of cards, drawn as lines across.
    titles : (str, str)
        Of the two panels.
    """
    columns: dict[str, Any] = {"against": [], "curve": [], "x": [], "memory_GB": []}
    for against, curves in (("box_px", by_box), ("classes", by_classes)):
        for label, (x, memory) in curves.items():
            columns["against"] += [against] * len(np.asarray(x))
            columns["curve"] += [label] * len(np.asarray(x))
            columns["x"] += list(np.asarray(x))
            columns["memory_GB"] += list(np.asarray(memory, float) / GB)
    write_csv(path, columns)
    with figure(path, 10.0, 4.4) as fig:
        left, right = fig.subplots(1, 2)
        _draw(left, by_box, cards_GB, "Box (px), data to Nyquist", titles[0])
        _draw(right, by_classes, cards_GB, "Classes", titles[1])


def _draw(axes: Axes, curves: Curves, cards_GB: Sequence[float], xlabel: str, title: str) -> None:
    highest = 0.0
    for (label, (x, memory)), colour in zip(curves.items(), COLOURS, strict=False):
        values = np.asarray(memory, float) / GB
        highest = max(highest, float(values.max()))
        axes.plot(np.asarray(x), values, "o-", color=colour, label=label, markersize=3.5)
    axes.set(xlabel=xlabel, ylabel="Device memory (GB)", title=title, ylim=(0, 1.06 * highest))
    axes.grid(axis="both")
    for size in cards_GB:
        if size < 1.06 * highest:
            axes.axhline(size, color=FAINT, lw=0.9, ls="--")
            axes.annotate(
                f"{size:g} GB card", (1, size), (-2, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", color=FAINT, fontsize=8.5,
            )  # fmt: skip
    axes.legend(loc="upper left")
