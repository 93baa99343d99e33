"""Resolution by direction, from the FSC within cones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpiapp.report.style import COLOURS, FAINT, figure, panel, write_csv

if TYPE_CHECKING:
    from mpiapp.model.orientation_quality import ConicalFsc

_HEIGHT = 6.2  # inches


def plot_cones(path: str | Path, cones: ConicalFsc, pixel_size_A: float) -> None:
    """Plot the FSC of all directions as a band with its extremes, and a histogram of their resolutions.

    The numbers beside it are the directions (rot, tilt) with their resolution at 0.143.
    """
    n = cones.curves.shape[1]
    frequency = np.arange(n) / (2 * (n - 1) * pixel_size_A)
    x, y, z = cones.direction.T
    write_csv(
        path,
        {
            "rot_deg": np.degrees(np.arctan2(y, x)),
            "tilt_deg": np.degrees(np.arccos(np.clip(z, -1, 1))),
            "resolution_A": cones.resolution_A,
        },
    )
    with figure(path, 6.0, _HEIGHT, layout="none") as fig:
        above, below = (0.68, 2.9, 0.1, 0.29), (0.68, 0.52, 0.1, _HEIGHT - 2.05)
        axes = panel(fig, "FSC within cones of 20°", ("Spatial frequency (1/Å)", "FSC"), margins=above)
        title = f"Resolution by direction, sphericity {cones.sphericity:.3f}"
        bars = panel(fig, title, ("Resolution (Å)", "Directions"), margins=below)
        low, middle, high = np.percentile(cones.curves, (2.5, 50, 97.5), axis=0)
        axes.fill_between(
            frequency, low, high, color=COLOURS[0], alpha=0.2, lw=0, label="95 % of the directions"
        )
        axes.plot(frequency, middle, color=COLOURS[0], label="median")
        worst, best = cones.resolution_A.argmax(), cones.resolution_A.argmin()
        for index, name, colour in ((best, "best", COLOURS[2]), (worst, "worst", COLOURS[1])):
            label = f"{name}, {cones.resolution_A[index]:.2f} Å"
            axes.plot(frequency, cones.curves[index], color=colour, lw=1.1, label=label)
        axes.axhline(0.143, color=FAINT, lw=0.9, ls="--")
        axes.set(xlim=(0, frequency[-1]), ylim=(-0.2, 1.03))
        axes.grid(axis="both")
        axes.legend(loc="upper right")
        counts, edges = np.histogram(cones.resolution_A, bins=20)
        bars.stairs(counts, edges, fill=True, color=COLOURS[0])
        bars.set_ylim(0, 1.05 * counts.max())
