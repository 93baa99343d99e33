"""Distribution of viewing directions as cylinders on a sphere (.bild, read by ChimeraX and Chimera)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_ROWS = 10_000  # formatted at once
_LENGTH = 0.3  # of the radius, for the most probable direction


def write_angular_distribution(
    path: str | Path,
    rot_deg: np.ndarray,
    tilt_deg: np.ndarray,
    distribution: np.ndarray,
    box: int,
    pixel_size_A: float,
    healpix_order: int,
) -> None:
    """Write one cylinder for every direction with a probability above zero, as RELION's ``_angdist.bild``.

    The cylinders stand on the sphere that touches the sides of the map's box. The length is proportional to
    the probability. The colour goes from blue to red with the deviation from the mean: blue one standard
    deviation below, red five above.

    Parameters
    ----------
    rot_deg, tilt_deg : (n_directions,) float64
        Unperturbed directions of the coarse grid.
    distribution : (n_directions,) float64
        Their probabilities (any scale).
    box, pixel_size_A
        Of the map, whose centre is the centre of the sphere.
    healpix_order : int
        Of the grid: the cylinders are a quarter of its angular step wide.
    """
    from mpiapp.io.atomic import atomic_file

    probability = np.asarray(distribution, dtype=np.float64)
    rot, tilt = np.radians(rot_deg), np.radians(tilt_deg)
    direction = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=1)
    radius = box * pixel_size_A / 2
    width = radius * np.radians(60.0 / 2**healpix_order / 4)

    largest = max(float(probability.max(initial=0.0)), np.finfo(float).tiny)
    spread = max(float(probability.std()), 1e-9 * largest)  # an even distribution has only rounding errors
    deviation = (probability - probability.mean()) / spread
    red = (np.clip(deviation, -1.0, 5.0) + 1.0) / 6.0
    length = radius * (1.0 + _LENGTH * probability / largest)

    start, end = radius + radius * direction, radius + length[:, None] * direction
    table = np.column_stack([red, 1.0 - red, start, end, np.full(len(red), width)])
    table = table[probability > 0]  # Chimera refuses cylinders without length
    line = ".color %.6g 0 %.6g\n.cylinder" + " %.6g" * 7 + "\n"
    with atomic_file(path) as temporary, open(temporary, "w", encoding="ascii") as file:
        for part in np.array_split(table, 1 + len(table) // _ROWS):
            file.write(line * len(part) % tuple(part.ravel().tolist()))
