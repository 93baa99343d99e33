"""What a local-resolution job leaves: two maps, the curves, a histogram, a script for ChimeraX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.io.chimerax import write_local_script
from mpiapp.io.mrc import write_map
from mpiapp.io.outputs import PostprocessNames
from mpiapp.io.star_table import Table
from mpiapp.model.mask_creation import automatic_threshold
from mpiapp.report import log
from mpiapp.report.versions import provenance

if TYPE_CHECKING:
    from mpiapp.engine.locres import LocalSums

F32 = NDArray[np.float32]


def write_local(
    config: PostprocessConfig,
    names: PostprocessNames,
    pixel_size_A: float,
    points: NDArray[np.int64],
    sums: LocalSums,
    mask: F32 | None,
) -> None:
    """Write all files of the job; resolution is the harmonic mean over the spheres, 0 where none reaches."""
    from mpiapp.io.star import write_star
    from mpiapp.report.plots import plot_histogram, plot_local_resolution

    seen = sums.weight > 0
    resolution = np.divide(sums.weight, sums.inverse_resolution, out=np.zeros_like(sums.weight), where=seen)
    filtered = np.divide(sums.filtered, sums.weight, out=np.zeros_like(sums.weight), where=seen)
    write_map(names.local_resolution, resolution, pixel_size_A)
    write_map(names.locally_filtered, filtered, pixel_size_A)
    blocks = _curves(points, sums, pixel_size_A, box=resolution.shape[0])
    comment = provenance("postprocess", config.command_line(), f"random seed {config.random_seed}")
    write_star(names.local_fscs, blocks, comment, exact=False)
    values = resolution[mask > 0.5] if mask is not None else sums.resolution_A
    where = "voxels in the mask" if mask is not None else "points"
    plot_histogram(names.histogram, values, "Local resolution (Å)", f"Local resolution: {where}")
    middle = np.percentile(values[values > 0], (5, 50, 95)) if (values > 0).any() else np.zeros(3)
    if not (values > 0).any():
        log.warn(
            f"{config.mask}: no voxel of the mask is in any sphere; sample more finely (--locres_sampling)."
        )
    level = automatic_threshold(filtered)
    inside = mask > 0.5 if mask is not None else filtered > level
    limits = (float(middle[0]), float(middle[2]))
    plot_local_resolution(names.local_slices, resolution, filtered, inside, pixel_size_A, limits)
    write_local_script(
        names.local_script, names.locally_filtered, level, names.local_resolution, middle[0], middle[2]
    )
    log.emit(
        [
            f"  + Local resolution map:          {names.local_resolution}",
            f"  + Locally filtered map:          {names.locally_filtered}",
            f"  + 5 / 50 / 95 % of the {where}: {middle[0]:.2f} / {middle[1]:.2f} / {middle[2]:.2f} A",
        ]
    )


def _curves(points: NDArray[np.int64], sums: LocalSums, pixel_size_A: float, box: int) -> dict[str, Table]:
    """One table a point, named by its z, y, x from the centre of the box, as in RELION's file."""
    n = sums.curves.shape[1]
    frequency = np.arange(n) / (2 * (n - 1) * pixel_size_A)
    frequency[0] = 1 / 999.0
    blocks = {}
    for point, curve in zip(points - box // 2, sums.curves, strict=True):
        blocks["fsc_" + "_".join(f"{int(c):05d}" for c in point)] = Table(
            {
                "rlnSpectralIndex": np.arange(n),
                "rlnResolution": frequency,
                "rlnAngstromResolution": 1 / frequency,
                "rlnFourierShellCorrelationCorrected": curve,
            }
        )
    return blocks
