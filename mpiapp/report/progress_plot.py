"""How a refinement went: resolution, sampling, accuracies, changes and time against the iteration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.report.style import COLOURS, figure, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Panel:
    """One panel: title with unit, columns with their labels, kind of axis."""

    title: str
    columns: tuple[tuple[str, str], ...]
    scale: str = "linear"


_PANELS = (
    _Panel(
        "Resolution (Å)", (("resolution_A", "current"), ("resolution_0.143_A", "FSC = 0.143")), "resolution"
    ),
    _Panel(
        "Angles (°)",
        (
            ("step_deg", "sampling step"),
            ("accuracy_rot_deg", "expected accuracy"),
            ("change_angle_deg", "change of the particles"),
        ),
        "log",
    ),
    _Panel(
        "Offsets (Å)",
        (
            ("offset_step_A", "sampling step"),
            ("accuracy_trans_A", "expected accuracy"),
            ("change_offset_A", "change of the particles"),
        ),
        "log",
    ),
    _Panel("Image size in use (px)", (("current_size", "current size"),), "count"),
    _Panel("Particles of the mini-batch", (("mini_batch", "mini-batch"),), "count"),
    _Panel("Step size of the gradient", (("step_size", "step size"),)),
    _Panel("Particles that change class", (("change_class", "share"),), "fraction"),
    _Panel("Average Pmax", (("average_pmax", "largest weight of a particle"),), "fraction"),
    _Panel(
        "Time of the iteration (s)",
        (("expectation_s", "expectation"), ("maximization_s", "maximization")),
        "bar",
    ),
)
KNOWN_COLUMNS = ("iteration", *(name for panel in _PANELS for name, _ in panel.columns))
_LEGEND_ROW = 0.095  # of the height of a panel
_UNKNOWN = 900.0  # RELION writes 999 for what is not known yet


def plot_progress(
    path: str | Path, table: Mapping[str, ArrayLike], title: str = "Progress of the refinement"
) -> None:
    """Plot what a run did, iteration by iteration; the whole table goes to a CSV beside it.

    Parameters
    ----------
    table : mapping of column name to (n_iterations,) values
        ``iteration`` and any of `KNOWN_COLUMNS`. NaN, and the 999 that stands for "not known yet" in the
        first iteration, leave a gap. Panels without a column are left out; other columns go to the CSV only.
    """
    columns = {name: np.atleast_1d(np.asarray(values)) for name, values in table.items()}
    if "iteration" not in columns or len({len(values) for values in columns.values()}) != 1:
        sizes = {name: len(values) for name, values in columns.items()}
        raise ValueError(f"progress table: columns of one length with 'iteration' among them, not {sizes}")
    write_csv(path, columns)
    panels = [panel for panel in _PANELS if any(name in columns for name, _ in panel.columns)]
    width = min(3, max(1, len(panels)))
    height = -(-len(panels) // width)
    across, down = 4.1 * width, 2.9 * max(1, height) + 0.3
    with figure(path, across, down, layout="none") as fig:
        fig.subplots_adjust(0.45 / across, 0.5 / down, 1 - 0.12 / across, 1 - 0.7 / down, 0.17, 0.42)
        for place, panel in enumerate(panels, start=1):
            _draw_panel(fig.add_subplot(height, width, place), panel, columns)
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)


def _draw_panel(axes: Axes, panel: _Panel, columns: Mapping[str, NDArray]) -> None:
    from matplotlib.ticker import MaxNLocator

    iteration = columns["iteration"].astype(np.float64)
    below = np.zeros(len(iteration))  # bars stand on each other
    shown = [(name, label) for name, label in panel.columns if name in columns]
    for (name, label), colour in zip(shown, COLOURS, strict=False):
        values = np.array(columns[name], dtype=np.float64)
        if panel.scale not in ("bar", "count"):
            values[values > _UNKNOWN] = np.nan
        if panel.scale == "bar":
            axes.bar(iteration, values, width=0.7, bottom=below, color=colour, label=label)
            below = below + np.nan_to_num(values)
        else:
            axes.plot(iteration, values, "o-", color=colour, label=label, mec="white", mew=0.7)
    axes.set_title(panel.title)
    axes.set_xlabel("Iteration")
    axes.set_xlim(iteration.min() - 0.6, iteration.max() + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")
    _scale(axes, panel.scale)
    if len(panel.columns) > 1:
        _legend_above(axes, len(shown))


def _legend_above(axes: Axes, rows: int) -> None:
    """Put the legend above what is drawn, where it covers nothing."""
    bottom, top = axes.get_ylim()
    more = 1 / (1 - 0.04 - _LEGEND_ROW * rows)
    if axes.get_yscale() == "log":
        axes.set_ylim(bottom, bottom * (top / bottom) ** more)
    else:
        axes.set_ylim(bottom, bottom + (top - bottom) * more)
    axes.legend(loc="upper right", handlelength=1.4, borderaxespad=0.2)


def _scale(axes: Axes, scale: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()]
    values = np.concatenate([*drawn, np.empty(0)])
    positive = bool(np.any(values[np.isfinite(values)] > 0))
    if scale == "fraction":
        axes.set_ylim(0, 1.03)
    elif scale in ("log", "resolution") and positive:
        axes.set_yscale("log")
        subs = (1.0, 2.0, 5.0) if scale == "log" else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        if scale == "resolution":
            axes.invert_yaxis()  # better is up
