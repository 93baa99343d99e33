"""Optics groups: what the particles of one session share. Table data_optics of RELION 3.1 and newer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.columns import Columns
from mpiapp.io.labels import PIXEL_SIZE_LABELS
from mpiapp.io.star_table import Table

DEFAULT_AMPLITUDE_CONTRAST = 0.1


@dataclass(frozen=True)
class OpticsGroup:
    """One optics group; `number` is 1-based, in the order of the table.

    `box` (px) is 0 until known; Zernike coefficients and the magnification matrix (m00, m01, m10, m11) as in
    RELION; `beam_tilt_mrad` is (x, y).
    """

    name: str
    number: int
    voltage_kV: float
    cs_mm: float
    amplitude_contrast: float
    pixel_size_A: float
    box: int
    even_zernike: tuple[float, ...] = ()
    odd_zernike: tuple[float, ...] = ()
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    mag_matrix: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    ctf_premultiplied: bool = False
    mtf_file: str = ""


def read_optics(frame: Table, path: Path) -> tuple[list[OpticsGroup], list[str]]:
    """Groups of a data_optics table in the order of its rows, numbered 1..n, and remarks for the user.

    Raises
    ------
    InputError
        A mandatory column is missing, a value is no number, or a group number occurs twice.
    """
    table = Columns(frame, path, "optics")
    if not len(table):
        raise InputError(f"{path}: table data_optics has no rows; add one for each optics group.")
    remedy = "copy data_optics from the job that extracted the particles"
    table.require(("rlnOpticsGroup", "rlnVoltage", "rlnSphericalAberration"), remedy)
    pixel_label = next((label for label in PIXEL_SIZE_LABELS if table.has(label)), None)
    if pixel_label is None:
        raise InputError(
            f"{path}, table data_optics: no pixel size; add the column rlnImagePixelSize (A), "
            f"the pixel size of the particle images."
        )
    if table.whole("rlnImageDimensionality", 2).max() > 2:
        raise InputError(
            f"{path}, table data_optics: rlnImageDimensionality is 3 (subtomograms); "
            f"only 2D particles can be refined."
        )
    notices = []
    if pixel_label != PIXEL_SIZE_LABELS[0]:
        notices.append(f"{path}: no rlnImagePixelSize; the pixel size is taken from {pixel_label}.")
    if not table.has("rlnAmplitudeContrast"):
        notices.append(f"{path}: no rlnAmplitudeContrast; {DEFAULT_AMPLITUDE_CONTRAST} is assumed.")
    return _groups(table, pixel_label), notices


def _groups(table: Columns, pixel_label: str) -> list[OpticsGroup]:
    voltage = table.numbers("rlnVoltage")
    cs = table.numbers("rlnSphericalAberration")
    contrast = table.numbers("rlnAmplitudeContrast", DEFAULT_AMPLITUDE_CONTRAST)
    pixel = table.numbers(pixel_label)
    box = table.whole("rlnImageSize", 0)
    tilt_x, tilt_y = table.numbers("rlnBeamTiltX", 0.0), table.numbers("rlnBeamTiltY", 0.0)
    m00, m01 = table.numbers("rlnMagMat00", 1.0), table.numbers("rlnMagMat01", 0.0)
    m10, m11 = table.numbers("rlnMagMat10", 0.0), table.numbers("rlnMagMat11", 1.0)
    premultiplied = table.whole("rlnCtfDataAreCtfPremultiplied", 0)
    count = range(len(table))
    names = table.text("rlnOpticsGroupName") if table.has("rlnOpticsGroupName") else []
    mtf = table.text("rlnMtfFileName") if table.has("rlnMtfFileName") else [""] * len(table)
    return [
        OpticsGroup(
            name=names[i] if names else f"opticsGroup{i + 1}",
            number=i + 1,
            voltage_kV=float(voltage[i]),
            cs_mm=float(cs[i]),
            amplitude_contrast=float(contrast[i]),
            pixel_size_A=float(pixel[i]),
            box=int(box[i]),
            even_zernike=table.vector("rlnEvenZernike", i),
            odd_zernike=table.vector("rlnOddZernike", i),
            beam_tilt_mrad=(float(tilt_x[i]), float(tilt_y[i])),
            mag_matrix=(float(m00[i]), float(m01[i]), float(m10[i]), float(m11[i])),
            ctf_premultiplied=bool(premultiplied[i]),
            mtf_file=mtf[i],
        )
        for i in count
    ]


def renumber_groups(
    optics: Table, particles: Table, path: Path
) -> tuple[Table, Table, npt.NDArray[np.int32], list[str]]:
    """Number the optics groups 1..n in the order of their table, in both tables.

    Returns
    -------
    optics, particles
        The tables with new numbers (copies where anything changes).
    index
        (n_particles,) int32, 0-based row of data_optics of each particle.
    notices
        Remarks for the user.

    Raises
    ------
    InputError
        A number occurs twice in data_optics, or a particle's number does not occur there.
    """
    numbers = Columns(optics, path, "optics").whole("rlnOpticsGroup")
    unique, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{path}, table data_optics: rlnOpticsGroup {unique[counts > 1][0]} stands in {counts.max()} "
            f"rows; give each group a number of its own."
        )
    table = Columns(particles, path, "particles")
    if not table.has("rlnOpticsGroup"):
        if len(numbers) > 1:
            table.require(["rlnOpticsGroup"], f"data_optics has {len(numbers)} groups: say which is whose")
        particles = particles.with_columns({"rlnOpticsGroup": np.ones(len(particles), np.int64)})
        notice = f"{path}: particles without rlnOpticsGroup were put into the only optics group."
        optics = optics.with_columns({"rlnOpticsGroup": np.ones(1, np.int64)})
        return optics, particles, np.zeros(len(particles), np.int32), [notice]
    index = _index_of(numbers, table)
    wanted = np.arange(1, len(numbers) + 1)
    if np.array_equal(numbers, wanted):
        return optics, particles, index, []
    notice = f"{path}: optics groups {', '.join(map(str, numbers))} are renumbered 1 to {len(numbers)}."
    optics = optics.with_columns({"rlnOpticsGroup": wanted})
    return optics, particles.with_columns({"rlnOpticsGroup": index.astype(np.int64) + 1}), index, [notice]


def _index_of(numbers: npt.NDArray[np.int64], table: Columns) -> npt.NDArray[np.int32]:
    mine = table.whole("rlnOpticsGroup")
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers[order], mine), len(numbers) - 1)
    index = order[at]
    unknown = np.flatnonzero(numbers[index] != mine)
    if unknown.size:
        row = int(unknown[0])
        known = ", ".join(map(str, numbers))
        raise InputError(
            f"{table.where(row)}, column rlnOpticsGroup: group {mine[row]} is not in data_optics (it has "
            f"{known}); add the group there or correct the number ({unknown.size} of {len(table)} particles)."
        )
    return index.astype(np.int32)
