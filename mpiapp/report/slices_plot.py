"""Slices and projections of a map along its three axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.model.arrays import module_of, to_host
from mpiapp.report.style import figure, write_csv

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float32]
Placed = tuple[NDArray[np.uint8], tuple[float, float]]  # a picture and its lower left corner, inches
# Array axis to look along, name of the direction, names of the picture's horizontal and vertical directions.
_VIEWS = ((0, "z", "x", "y"), (1, "y", "x", "z"), (2, "x", "y", "z"))
_SIZE, _SIDE = (12.4, 6.75), 1.85  # of the figure and of a picture on it, inches
ENOUGH = 128  # so many values along an edge tell the contrast
_LEVELS = (-0.25, -0.125, 0.0, 0.125, 0.25)  # of the particle's diameter, from the centre of the box


@dataclass(frozen=True)
class Slices:
    """What a picture shows of a map.

    Attributes
    ----------
    levels : for each array axis, slices across it with their index along it
    projections : for each array axis, the sum along it
    shape : of the map
    half_px : what is shown of a slice, to each side of its centre
    """

    levels: list[list[tuple[FloatArray, int]]]
    projections: list[FloatArray]
    shape: tuple[int, ...]
    pixel_size_A: float
    half_px: int


def plot_slices(
    path: str | Path,
    density: ArrayLike,
    pixel_size_A: float,
    title: str,
    diameter_A: float | None = None,
) -> None:
    """`take_slices`, then `draw_slices`."""
    draw_slices(path, take_slices(density, pixel_size_A, diameter_A), title)


def take_slices(density: ArrayLike, pixel_size_A: float, diameter_A: float | None = None) -> Slices:
    """Slices through a map at five levels and its projection, along z, y and x.

    Parameters
    ----------
    density : (z, y, x) float32, in host memory or on a device, where it stays
    diameter_A : float, optional
        Of the particle, as given for the refinement; the levels are spread over it and the pictures are cut
        to a little more. Without it the box is shown, and the levels are spread over two thirds of it.
    """
    volume = module_of(density).xp.asarray(density, dtype=np.float32)
    if volume.ndim != 3:
        raise ValueError(f"a map has three axes, not {volume.ndim}")
    extent_A = diameter_A or 2 / 3 * min(volume.shape) * pixel_size_A
    half = int(np.ceil(0.575 * diameter_A / pixel_size_A)) if diameter_A else max(volume.shape)
    offsets_px = [level * extent_A / pixel_size_A for level in _LEVELS]
    levels = [[_slice(volume, axis, offset) for offset in offsets_px] for axis in range(3)]
    flat = [to_host(volume.sum(axis=axis)) for axis in range(3)]
    return Slices(levels, flat, volume.shape, pixel_size_A, half)


def draw_slices(path: str | Path, slices: Slices, title: str) -> None:
    """Plot slices and projections with a scale bar.

    All slices share one grey scale (density white), all projections another. The numbers beside it are the
    levels with mean, standard deviation, smallest and largest density of each slice.
    """
    pixel_size_A, half, flat = slices.pixel_size_A, slices.half_px, slices.projections
    _write_numbers(path, slices.levels, pixel_size_A)
    of_slices = _contrast([image for row in slices.levels for image, _ in row])
    of_projections = _contrast(flat)
    with figure(path, *_SIZE, layout="none") as fig:
        # one panel in inches: eighteen of them would take most of the time
        axes = fig.add_axes((0, 0, 1, 1), xlim=(0, _SIZE[0]), ylim=(0, _SIZE[1]), autoscale_on=False)
        axes.set_axis_off()
        pictures: list[Placed] = []
        for row, (axis, name, right, up) in enumerate(_VIEWS):
            for column, (image, index) in enumerate(slices.levels[axis]):
                offset_A = (index - slices.shape[axis] // 2) * pixel_size_A
                level = f"{offset_A:+.0f} Å".replace("-", "\N{MINUS SIGN}") if offset_A else "0"
                corner = _corner(row, column)
                pictures.append((_picture(_cut(image, half), of_slices, fig.dpi), corner))
                _name(axes, f"{name} = {level}", corner)
            corner = _corner(row, len(_LEVELS))
            pictures.append((_picture(_cut(flat[axis], half), of_projections, fig.dpi), corner))
            _name(axes, f"projection along {name}", corner)
            _directions(axes, right, up, _corner(row, 0))
        fig.add_artist(_all_of(pictures))
        width_A = _cut(slices.levels[0][0][0], half).shape[1] * pixel_size_A
        _scale_bar(axes, width_A, _corner(0, 0))
        # the title may be a file's name
        axes.text(0.12, _SIZE[1] - 0.1, title, va="top", fontweight="bold", fontsize=12, parse_math=False)


def _corner(row: int, column: int) -> tuple[float, float]:
    """Lower left corner of a picture, inches."""
    return 0.12 + column * (_SIDE + 0.19), _SIZE[1] - 0.42 - (row + 1) * (_SIDE + 0.25)


def _slice(volume: FloatArray, axis: int, offset_px: float) -> tuple[FloatArray, int]:
    """The slice nearest to an offset from the centre, with its index."""
    size = volume.shape[axis]
    index = int(np.clip(round(size // 2 + offset_px), 0, size - 1))
    return to_host(volume.take(index, axis=axis)), index


def _cut(image: FloatArray, half: int) -> FloatArray:
    """The middle of an image, `half` pixels to each side."""
    y, x = image.shape[0] // 2, image.shape[1] // 2
    return image[max(0, y - half) : y + half, max(0, x - half) : x + half]


def _contrast(images: list[FloatArray]) -> tuple[float, float]:
    """Grey scale that neither noise nor a few bright voxels decide; solvent (about 0) comes out dark."""
    step = max(1, min(images[0].shape) // ENOUGH)
    values = np.concatenate([image[::step, ::step].ravel() for image in images])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    high = float(np.percentile(values, 99.7))
    low = max(float(np.percentile(values, 1.0)), -0.25 * abs(high))
    return (low, high) if high > low else (low, low + 1.0)


def _picture(image: FloatArray, contrast: tuple[float, float], dpi: float) -> NDArray[np.uint8]:
    """Grey pixels (y, x) as they stand on the figure, the lowest row first; white where there is no number."""
    from PIL import Image

    height, width = (round(_SIDE * dpi * n / max(image.shape)) for n in image.shape)
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BICUBIC)
    low, high = contrast
    grey = np.clip(np.asarray(resized), low, high) - np.float32(low)
    return np.nan_to_num(grey * np.float32(255 / (high - low)) + np.float32(0.5), nan=255).astype(np.uint8)


def _all_of(pictures: list[Placed]) -> Artist:
    """All pictures of the figure, as pixels that are copied.

    Images of matplotlib's own, of which each is resampled twice and coloured, take three times as long as all else.
    """
    from matplotlib.artist import Artist

    class Pictures(Artist):
        def draw(self, renderer: Any) -> None:
            pen = renderer.new_gc()
            for grey, (x, y) in pictures:
                rgba = np.full((*grey.shape, 4), 255, np.uint8)
                rgba[..., :3] = grey[..., None]
                # The second axis of the map goes up, as in a right-handed drawing of x and y.
                renderer.draw_image(pen, round(x * renderer.dpi), round(y * renderer.dpi), rgba)
            pen.restore()

    return Pictures()


def _name(axes: Axes, title: str, corner: tuple[float, float]) -> None:
    axes.text(corner[0], corner[1] + _SIDE + 0.04, title, va="bottom", fontsize=9.5)


def _directions(axes: Axes, right: str, up: str, corner: tuple[float, float]) -> None:
    """Two small arrows in the upper left corner of a picture that name its directions."""
    x, y, length = corner[0] + 0.07 * _SIDE, corner[1] + 0.76 * _SIDE, 0.13 * _SIDE
    arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": "white", "shrinkA": 0, "shrinkB": 0}
    for tip in ((x + length, y), (x, y + length)):
        axes.annotate("", tip, (x, y), arrowprops=arrow | {"mutation_scale": 7})
    text: dict[str, Any] = {"color": "white", "fontsize": 9}
    axes.text(x + length + 0.04, y, right, ha="left", va="center", **text)
    axes.text(x, y + length + 0.02, up, ha="center", va="bottom", **text)


def _scale_bar(axes: Axes, width_A: float, corner: tuple[float, float]) -> None:
    """A bar of a round length, about a quarter of a picture, in its lower left corner.

    Parameters
    ----------
    width_A : of what the picture shows
    """
    from matplotlib import patheffects

    lengths = (5, 10, 20, 25, 50, 100, 200, 250, 500, 1000)
    length_A = max((length for length in lengths if length <= 0.36 * width_A), default=5)
    begin, y = corner[0] + 0.06 * _SIDE, corner[1] + 0.07 * _SIDE
    end = begin + _SIDE * length_A / width_A
    axes.plot([begin, end], [y, y], color="black", lw=5, solid_capstyle="butt")
    axes.plot([begin, end], [y, y], color="white", lw=3, solid_capstyle="butt")
    label = axes.text((begin + end) / 2, y + 0.03 * _SIDE, f"{length_A} Å")
    label.set(color="white", ha="center", va="bottom", fontsize=9.5)
    label.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])


def _write_numbers(path: str | Path, levels: list[list[tuple[FloatArray, int]]], pixel_size_A: float) -> None:
    rows = [
        (name, index, (index - image.shape[0] // 2) * pixel_size_A, image)
        for axis, name, _, _ in _VIEWS
        for image, index in levels[axis]
    ]
    images = [image for *_, image in rows]
    write_csv(
        path,
        {
            "axis": [row[0] for row in rows],
            "slice": [row[1] for row in rows],
            "offset_A": [row[2] for row in rows],
            "mean": [image.mean() for image in images],
            "standard_deviation": [image.std() for image in images],
            "smallest": [image.min() for image in images],
            "largest": [image.max() for image in images],
        },
    )
