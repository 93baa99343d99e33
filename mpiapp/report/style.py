"""What all plots share: figure, colours, type sizes, saving, the table of numbers beside the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpiapp.io.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct for colour-blind readers as well (Okabe and Ito's palette, darkened where lines are thin).
COLOURS = ("#0067a5", "#d55e00", "#008856", "#b24a8f", "#8a6d00", "#56a0d3", "#555555")
INK, FAINT, GRID = "#222222", "#707070", "#dddddd"
_DPI = 150
_RUN_LENGTHS = 3  # of zlib: half the time of its level 4, and no larger
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


def load() -> None:
    """Load what draws."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import PIL.PngImagePlugin  # noqa: F401


@contextmanager
def figure(path: str | Path, width: float, height: float, layout: str = "constrained") -> Iterator[Figure]:
    """A figure of the given size in inches, saved as PNG when the block is left without an error (atomic).

    Layout "none" leaves the places of the panels to the caller: it saves half the time of a figure of many panels.

    No window system and no global state of pyplot is touched, so plots can be made in any thread of any job.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    with matplotlib.rc_context(_STYLE):
        made = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor="white")  # type: ignore[arg-type]
        canvas = FigureCanvasAgg(made)
        yield made
        canvas.draw()  # once, where savefig draws and places everything twice
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        grey = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(
            pixels[..., 0], pixels[..., 2]
        )
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
        with atomic_file(path) as temporary:
            picture.save(temporary, format="png", compress_type=_RUN_LENGTHS, dpi=(_DPI, _DPI))


def panel(
    fig: Figure,
    title: str,
    names: tuple[str, str],
    margins: tuple[float, float, float, float] = (0.68, 0.52, 0.1, 0.29),
    part: tuple[float, float] = (0.0, 1.0),
    title_above: float = 0.08,
) -> Axes:
    """Axes with title and names on a figure of layout "none".

    All have fixed places: to find them by measuring the tick labels takes as long as drawing does.

    Parameters
    ----------
    names : of the horizontal and the vertical axis
    margins : left, bottom, right and top of the axes, inches
    part : where the panel with its margins begins and ends, as fractions of the figure's width
    title_above : distance of the title from the axes, inches
    """
    across, down = fig.get_size_inches()
    left, bottom, right, top = margins
    width, height = across * (part[1] - part[0]) - left - right, down - bottom - top
    axes = fig.add_axes((part[0] + left / across, bottom / down, width / across, height / down))
    axes.set_title(title, y=1 + title_above / height, pad=0)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.xaxis.set_label_coords(0.5, -0.28 / height)
    axes.yaxis.set_label_coords((0.19 - left) / width, 0.5)
    return axes


def write_csv(plot_path: str | Path, columns: Mapping[str, Any]) -> Path:
    """Write the numbers of a plot beside it, under the same name with ``.csv`` (atomic).

    Parameters
    ----------
    columns : mapping of str to (n,) array of numbers or str
        NaN becomes an empty field.

    Returns
    -------
    Path of the table.
    """
    import csv

    path = Path(plot_path).with_suffix(".csv")
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*([_field(item) for item in column] for column in columns.values()), strict=True))
    return path


def _field(item: Any) -> str:
    if isinstance(item, float | np.floating):
        return "" if np.isnan(item) else f"{item:.9g}"
    return str(item)
