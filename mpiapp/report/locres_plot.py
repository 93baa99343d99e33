"""Central slices of a map, coloured by local resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpiapp.report.style import figure, write_csv

F32 = NDArray[np.float32]
# array axis to look along, names of the axes that are seen to the right and upwards
_VIEWS = ((0, "z", "x", "y"), (1, "y", "x", "z"), (2, "x", "y", "z"))


def plot_local_resolution(
    path: str | Path,
    resolution_A: F32,
    density: F32,
    inside: NDArray[np.bool_],
    pixel_size_A: float,
    limits_A: tuple[float, float],
) -> None:
    """Plot the three central slices: density in grey, and coloured by resolution where `inside`.

    The numbers beside it are smallest, mean and largest resolution of the coloured part of each slice.

    Parameters
    ----------
    resolution_A, density : (z, y, x)
    inside : (z, y, x) voxels whose resolution is shown
    limits_A : finest and coarsest resolution that colours tell apart
    """
    cuts = [
        tuple(volume.take(volume.shape[axis] // 2, axis=axis) for volume in (resolution_A, density, inside))
        for axis, *_ in _VIEWS
    ]
    _write_numbers(path, [resolution[shown] for resolution, _, shown in cuts])
    low, high = np.percentile([image for _, image, _ in cuts], (1, 99.7))
    finest, coarsest = limits_A
    with figure(path, 9.6, 3.5) as fig:
        panels = fig.subplots(1, 3)
        for axes, (_, name, right, up), (resolution, image, shown) in zip(panels, _VIEWS, cuts, strict=True):
            height, width = (n * pixel_size_A for n in image.shape)
            view = {"origin": "lower", "extent": (-width / 2, width / 2, -height / 2, height / 2)}
            axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **view)
            coloured = axes.imshow(
                np.where(shown, resolution, np.nan),
                cmap="viridis_r",
                vmin=finest,
                vmax=max(coarsest, finest + 0.01),
                alpha=0.6,
                interpolation="nearest",
                **view,
            )
            axes.set(title=f"{name} = 0", xlabel=f"{right} (Å)", ylabel=f"{up} (Å)")
        bar = fig.colorbar(coloured, ax=panels, shrink=0.85, pad=0.02, aspect=22, extend="both")
        bar.set_label("Local resolution (Å)")


def _write_numbers(path: str | Path, values: list[F32]) -> None:
    def each(of: str) -> list[float]:
        return [float(getattr(part, of)()) if part.size else float("nan") for part in values]

    write_csv(
        path,
        {
            "axis": [name for _, name, *_ in _VIEWS],
            "finest_A": each("min"),
            "mean_A": each("mean"),
            "coarsest_A": each("max"),
        },
    )
