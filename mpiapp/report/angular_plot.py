"""Distribution of viewing directions over the sphere, in an equal-area projection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.model.symmetry import directions, point_group
from mpiapp.report.style import FAINT, figure, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.patches import Ellipse

FloatArray = NDArray[np.float64]


def plot_angular_distribution(
    path: str | Path,
    rot_deg: ArrayLike,
    tilt_deg: ArrayLike,
    sym: str = "C1",
    title: str = "Viewing directions",
) -> None:
    """Plot how often each viewing direction occurs, as hexagons of equal area on a Mollweide map.

    Every direction is shown with all its symmetry mates, so that a gap is a view that the data do not have.
    The colour is the number of particles relative to an even distribution. The numbers beside it are those of
    the hexagons: centre (rot, tilt), particles (mates share one particle), ratio to the even distribution.

    Parameters
    ----------
    rot_deg, tilt_deg : (n_particles,) float64
        Euler angles of the particles; the direction is (sin tilt cos rot, sin tilt sin rot, cos tilt).
    sym : str
        Point group.
    """
    group = point_group(sym)
    seen = directions(np.atleast_1d(rot_deg), np.atleast_1d(tilt_deg))
    mates = np.einsum("ni,gij->gnj", seen, group.operators).reshape(-1, 3)
    x, y = mollweide(np.arctan2(mates[:, 1], mates[:, 0]), np.arcsin(np.clip(mates[:, 2], -1, 1)))
    # About ten directions in a hexagon, within what the eye can tell apart.
    across = int(np.clip(np.sqrt(len(mates) / 8), 14, 60))
    with figure(path, 6.8, 4.0) as fig:
        axes = fig.add_subplot()
        outline = _draw_sphere(axes)
        grid = (across, _rows(across))
        bins = axes.hexbin(x, y, gridsize=grid, extent=(-2, 2, -1, 1), mincnt=0, linewidths=0.15)
        centre, counts = np.asarray(bins.get_offsets()), np.asarray(bins.get_array(), dtype=np.float64)
        ratio = _relative(centre, counts, across)
        bins.set(array=ratio, cmap="viridis", norm=_norm(ratio))
        bins.set_clip_path(outline)
        bar = fig.colorbar(bins, ax=axes, shrink=0.8, pad=0.02, aspect=22)
        bar.set_label("Particles relative to an even distribution")
        bar.outline.set_visible(False)
        mated = f"; symmetry {group.name}, shown with all mates" if group.order > 1 else ""
        axes.set_title(f"{len(seen):,} particles{mated}", fontweight="normal", color=FAINT, pad=8)
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
    _write_numbers(path, centre, counts / group.order, ratio)


def mollweide(longitude: ArrayLike, latitude: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Mollweide's equal-area projection of radians, onto the ellipse of half axes 2 and 1.

    The auxiliary angle t solves 2t + sin 2t = pi sin(latitude), by Newton's method in a form that converges
    at the poles as well (t = pi/2 - u, with 2u - sin 2u small).
    """
    lat = np.asarray(latitude, dtype=np.float64)
    gap = np.pi * (1 - np.sin(np.abs(lat)))  # 2u - sin 2u = gap
    u = np.minimum(np.cbrt(0.75 * gap), np.pi / 2)
    for _ in range(8):
        slope = np.maximum(2 - 2 * np.cos(2 * u), 1e-30)
        u = np.clip(u - (2 * u - np.sin(2 * u) - gap) / slope, 0, np.pi / 2)
    t = np.copysign(np.pi / 2 - u, lat)
    return 2 / np.pi * np.asarray(longitude, dtype=np.float64) * np.cos(t), np.sin(t)


def _rows(across: int) -> int:
    """Rows of hexagons that make them regular on the 4 by 2 rectangle around the sphere."""
    return max(1, round(across / 2 / 3**0.5))


def _hexagon_area(across: int) -> float:
    """Area of one: matplotlib puts hexagons at the corners and at the centres of across x rows rectangles."""
    return 4.0 / across * 2.0 / _rows(across) / 2.0


def _relative(centre: FloatArray, counts: FloatArray, across: int) -> FloatArray:
    """Counts of the hexagons divided by what an even distribution puts into their part on the sphere.

    Hexagons of which less than half is on the sphere share the ratio of their surroundings: too few particles
    belong to them for a ratio of their own.
    """
    inside = _fraction_on_sphere(centre, across)
    even = counts.sum() * inside * _hexagon_area(across) / (2 * np.pi)  # the ellipse has the area 2 pi
    ratio: FloatArray = np.divide(counts, even, out=np.zeros_like(counts), where=even > 0)
    edge = np.flatnonzero((inside > 0) & (inside < 0.5))
    spacing = (_hexagon_area(across) * 2 / 3**0.5) ** 0.5
    near = np.linalg.norm(centre[edge, None] - centre[None], axis=2) < 1.2 * spacing
    around = near @ even
    ratio[edge] = np.divide(near @ counts, around, out=np.zeros(len(edge)), where=around > 0)
    return ratio


def _norm(ratio: FloatArray) -> Normalize:
    """Colours from 0 to the largest ratio; by the square root where few views hold most particles."""
    from matplotlib.colors import Normalize, PowerNorm

    largest = max(2.0, float(ratio.max(initial=0.0)))
    return PowerNorm(0.5, 0, largest) if largest > 5 else Normalize(0, largest)


def _fraction_on_sphere(centre: FloatArray, across: int) -> FloatArray:
    """Part of each hexagon that lies within the ellipse, from points spread over a disc of the same area."""
    k = np.arange(400) + 0.5
    radius = np.sqrt(_hexagon_area(across) / np.pi) * np.sqrt(k / 400)
    turn = k * np.pi * (3 - np.sqrt(5))  # Vogel's spiral: even over the disc
    x = centre[:, 0, None] + radius * np.cos(turn)
    y = centre[:, 1, None] + radius * np.sin(turn)
    return np.asarray(((x / 2) ** 2 + y**2 <= 1).mean(axis=1))


def _draw_sphere(axes: Axes) -> Ellipse:
    """Outline and graticule; rot runs along the equator, tilt from 0 at the top to 180 at the bottom."""
    from matplotlib import patheffects
    from matplotlib.patches import Ellipse

    outline = Ellipse((0, 0), 4, 2, facecolor="none", edgecolor=FAINT, lw=1.0, zorder=4)
    axes.add_patch(outline)
    line: dict[str, Any] = {"color": "white", "lw": 0.5, "alpha": 0.55, "zorder": 3}
    along = np.radians(np.linspace(-180, 180, 181))
    for tilt in (30, 60, 90, 120, 150):
        x, y = mollweide(along, np.full(181, np.radians(90 - tilt)))
        axes.plot(x, y, **line)
        axes.text(x[0] - 0.05, y[0], f"{tilt}°", ha="right", va="center", color=FAINT, fontsize=8.5)
    for rot in (-120, -60, 0, 60, 120):
        x, y = mollweide(np.full(181, np.radians(rot)), along / 2)
        axes.plot(x, y, **line)
        label = axes.text(x[90], -0.03, f"{rot}°", ha="center", va="top", color="white", fontsize=8.5)
        label.set(zorder=5, path_effects=[patheffects.withStroke(linewidth=1.8, foreground="#00000080")])
    axes.text(0, 1.02, "tilt 0°", ha="center", va="bottom", color=FAINT, fontsize=8.5)
    axes.text(0, -1.02, "tilt 180°", ha="center", va="top", color=FAINT, fontsize=8.5)
    axes.set(xlim=(-2.25, 2.05), ylim=(-1.12, 1.12), aspect="equal")
    axes.set_axis_off()
    return outline


def _write_numbers(path: str | Path, centre: FloatArray, particles: FloatArray, ratio: FloatArray) -> None:
    """Hexagons whose centre is beyond the edge are given the nearest direction on it."""
    beyond = np.hypot(centre[:, 0] / 2, centre[:, 1])
    x, y = (centre / np.maximum(1.0, beyond)[:, None]).T
    t = np.arcsin(y)
    width = np.maximum(np.cos(t), 1e-9)  # at the poles every rot is as good
    used = (ratio > 0) | (beyond < 1)
    columns = {
        "rot_deg": np.degrees(np.clip(np.pi * x / (2 * width), -np.pi, np.pi)),
        "tilt_deg": 90 - np.degrees(np.arcsin(np.clip((2 * t + np.sin(2 * t)) / np.pi, -1, 1))),
        "particles": particles,
        "relative_to_even": ratio,
    }
    write_csv(path, {name: values[used] for name, values in columns.items()})
