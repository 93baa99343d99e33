"""RELION 3.0 and older: one table with the optics in every row. Conversion to optics groups, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpiapp.errors import InputError
from mpiapp.io.columns import Columns
from mpiapp.io.labels import LEGACY_GROUP_LABELS, LEGACY_SHIFTS
from mpiapp.io.star_table import Table

_DROPPED = (*LEGACY_GROUP_LABELS, "rlnBeamTiltClass")
_MICROMETRE = 1e4  # in angstrom


def from_legacy(frame: Table, path: Path, name: str) -> tuple[Table, Table]:
    """Split a single table of RELION 3.0 into optics and particles as of 3.1.

    Rows with equal optics make one group (`opticsGroupN`, in order of appearance). The pixel size is
    10000 x detector pixel (um) / magnification; shifts in pixels become angstrom. The image size is not known
    from the table: column rlnImageSize is left to the caller.

    Parameters
    ----------
    frame
        The table of block `name` in the file `path`.

    Returns
    -------
    optics, particles
        Tables with the columns of RELION 3.1; old columns dropped.

    Raises
    ------
    InputError
        Voltage, spherical aberration or the pixel size is missing or no number.
    """
    table = Columns(frame, path, name)
    remedy = (
        "a table without data_optics (RELION 3.0) needs them in every row; add them, or a data_optics table"
    )
    table.require(
        ("rlnVoltage", "rlnSphericalAberration", "rlnDetectorPixelSize", "rlnMagnification"), remedy
    )
    _check_magnification(table)
    labels = [label for label in LEGACY_GROUP_LABELS if table.has(label)]
    values = np.stack([table.numbers(label) for label in labels], axis=1)
    unique, first, inverse = np.unique(values, axis=0, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    group = np.argsort(by_appearance)[inverse.ravel()]
    unique = unique[by_appearance]
    of = {label: unique[:, i] for i, label in enumerate(labels)}
    pixel = _MICROMETRE * of["rlnDetectorPixelSize"] / of["rlnMagnification"]
    n_groups = len(unique)
    optics = Table(
        {
            "rlnOpticsGroup": np.arange(1, n_groups + 1),
            "rlnOpticsGroupName": [f"opticsGroup{i + 1}" for i in range(n_groups)],
            **{
                label: of[label]
                for label in labels
                if label not in ("rlnDetectorPixelSize", "rlnMagnification")
            },
            "rlnImagePixelSize": pixel,
            "rlnImageDimensionality": np.full(n_groups, 2),
        }
    )
    particles = frame.without(_DROPPED)
    for old, new in LEGACY_SHIFTS.items():
        if table.has(old) and table.has(new):
            particles = particles.without([old])  # the newer one has the unit in its name
        elif table.has(old):
            particles = particles.renamed({old: new})
            particles = particles.with_columns({new: table.numbers(old) * pixel[group]})
    return optics, particles.with_columns({"rlnOpticsGroup": group + 1})


def _check_magnification(table: Columns) -> None:
    for label in ("rlnMagnification", "rlnDetectorPixelSize"):
        values = table.numbers(label)
        if (values <= 0).any():
            row = int(np.flatnonzero(values <= 0)[0])
            raise InputError(
                f"{table.where(row)}, column {label}: {values[row]:g} is not above 0, so the pixel size is "
                f"unknown; correct it (pixel size in A = 10000 x detector pixel in um / magnification)."
            )


def to_legacy(optics: Table, particles: Table, path: Path) -> Table:
    """The single table of RELION 3.0 (block `data_`), for tools that know no optics groups.

    Magnification is written as 10000, so that the detector pixel (um) has the number of the pixel size (A).
    """
    groups, table = Columns(optics, path, "optics"), Columns(particles, path, "particles")
    row = table.whole("rlnOpticsGroup") - 1
    pixel = groups.numbers("rlnImagePixelSize")[row]
    old = particles.without(["rlnOpticsGroup"])
    for legacy, modern in LEGACY_SHIFTS.items():
        if table.has(modern):
            old = old.renamed({modern: legacy}).with_columns({legacy: table.numbers(modern) / pixel})
    shared = {label: groups.numbers(label)[row] for label in LEGACY_GROUP_LABELS if groups.has(label)}
    magnification = np.full(len(pixel), 10000.0)
    return old.with_columns({**shared, "rlnMagnification": magnification, "rlnDetectorPixelSize": pixel})
