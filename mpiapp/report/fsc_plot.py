"""Fourier shell correlation against resolution."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.model.fsc import first_shell_below
from mpiapp.report.style import COLOURS, FAINT, figure, panel, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NICE_A = (
    *(200, 100, 50, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3),
    *(2.7, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1),
)
_HEIGHT, _LEGEND_ROW = 4.6, 0.205  # inches
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def plot_fsc(
    path: str | Path,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    thresholds: Sequence[float] = (0.143, 0.5),
    title: str = "Fourier shell correlation",
    without_resolution: Container[str] = (),
) -> None:
    """Plot FSC curves with the resolution of each at the thresholds; the numbers go to a CSV beside it.

    Parameters
    ----------
    path : path
        PNG file.
    curves : mapping of label to (frequency, fsc)
        Both (n_shells,); frequency in 1/A, rising, the first may be 0. Curves may differ in length.
    thresholds : sequence of float
        0.143 for half maps, 0.5 against a model. The resolution at a threshold is that of the last shell
        before the curve first falls below it, as in the log.
    without_resolution : container of str
        Labels of curves that tell no resolution, such as that of maps with random phases.
    """
    checked = {label: _check(label, curve) for label, curve in curves.items()}
    _write_numbers(path, checked)
    below, above = 0.61 + _LEGEND_ROW * len(checked), 0.72
    height = max(_HEIGHT, below + above + 2.5)
    with figure(path, 6.0, height, layout="none") as fig:
        names = ("Resolution (Å)", "FSC")
        axes = panel(fig, title, names, margins=(0.54, below, 0.1, above), title_above=0.53)
        for (label, curve), colour in zip(checked.items(), _cycle(len(checked)), strict=True):
            _draw_curve(axes, label, curve, () if label in without_resolution else thresholds, colour)
        _draw_thresholds(axes, thresholds)
        limit = max((float(frequency[-1]) for frequency, _ in checked.values()), default=0.1)
        _dress(axes, limit, 1 / (height - below - above))


def resolution_of_curve(frequency: ArrayLike, fsc: ArrayLike, threshold: float) -> float:
    """Resolution in A of the last shell before the curve falls below the threshold; NaN when none passes."""
    crossing = first_shell_below(np.asarray(fsc), threshold)
    last = (len(np.asarray(fsc)) if crossing < 0 else crossing) - 1
    highest = float(np.asarray(frequency)[last]) if last >= 0 else 0.0
    return 1.0 / highest if highest > 0 else float("nan")


def _check(label: str, curve: tuple[ArrayLike, ArrayLike]) -> Curve:
    frequency, fsc = (np.asarray(values, dtype=np.float64) for values in curve)
    if frequency.ndim != 1 or frequency.shape != fsc.shape or len(fsc) == 0:
        raise ValueError(f"curve {label!r}: {frequency.shape} frequencies against {fsc.shape} correlations")
    return frequency, fsc


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _draw_curve(axes: Axes, label: str, curve: Curve, thresholds: Sequence[float], colour: str) -> None:
    frequency, fsc = curve
    found = []
    for threshold in thresholds:
        resolution = resolution_of_curve(frequency, fsc, threshold)
        passes_all = first_shell_below(fsc, threshold) < 0
        if np.isnan(resolution):
            found.append(f"none at {threshold:g}")
            continue
        # A curve that never falls below ends at the Nyquist frequency: the data could tell more.
        found.append(f"{'≤ ' if passes_all else ''}{resolution:.2f} Å at {threshold:g}")
        if not passes_all:
            height = float(np.interp(1 / resolution, frequency, fsc))
            axes.plot([1 / resolution] * 2, [-1, height], color=colour, lw=0.8, ls=(0, (1, 1.5)))
            axes.plot(1 / resolution, height, "o", color=colour, mec="white", mew=0.9, ms=6.5, zorder=4)
    axes.plot(
        frequency, fsc, color=colour, label=":  ".join(filter(None, (label, ",  ".join(found)))), zorder=3
    )


def _draw_thresholds(axes: Axes, thresholds: Sequence[float]) -> None:
    axes.axhline(0, color=FAINT, lw=0.8)
    for threshold in thresholds:
        axes.axhline(threshold, color=FAINT, lw=0.9, ls="--", zorder=2)
        axes.annotate(
            f"{threshold:g}", (1, threshold), (-2, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", color=FAINT, fontsize=8.5,
        )  # fmt: skip


def _dress(axes: Axes, limit: float, inch: float) -> None:
    """Resolution in A below, spatial frequency above: both are what people say.

    Parameters
    ----------
    inch : as a fraction of the height of the axes
    """
    axes.set(xlim=(0, limit), ylim=(-0.08, 1.03))
    places, last = [], 0.0
    for resolution in _NICE_A:
        if last + 0.055 * limit <= 1 / resolution <= limit * 1.0001:
            places.append(resolution)
            last = 1 / resolution
    axes.set_xticks([1 / resolution for resolution in places], [f"{resolution:g}" for resolution in places])
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.grid(axis="both")
    above = axes.secondary_xaxis("top")
    above.spines["top"].set_visible(True)
    above.set_xlabel("Spatial frequency (1/Å)")
    above.xaxis.set_label_coords(0.5, 1 + 0.31 * inch, transform=axes.transAxes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.53 * inch),
            handlelength=1.6,
            borderpad=0,
            borderaxespad=0,
        )


def _write_numbers(path: str | Path, curves: Mapping[str, Curve]) -> None:
    """One row for every shell of every curve: curves of different maps need not share their shells."""
    columns: dict[str, Any] = {"curve": [], "frequency_1_over_A": [], "resolution_A": [], "fsc": []}
    for label, (frequency, fsc) in curves.items():
        with np.errstate(divide="ignore"):
            resolution = np.where(frequency > 0, 1 / frequency, np.nan)
        columns["curve"] += [label] * len(fsc)
        columns["frequency_1_over_A"] += list(frequency)
        columns["resolution_A"] += list(resolution)
        columns["fsc"] += list(fsc)
    write_csv(path, columns)
