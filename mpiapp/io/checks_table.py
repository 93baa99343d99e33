"""Checks of a particle table by itself, without opening an image. Each yields messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.io.particles import OpticsGroup, ParticleTable

SMALL_GROUP = 10
MAX_VOLTAGE_KV = 2000.0
MICROMETRE_DEFOCUS = 50.0
MAX_DEFOCUS_A = 1e5


@dataclass(frozen=True)
class CheckOptions:
    """What the job is going to do, as far as the checks depend on it."""

    reference_shape: tuple[int, ...] | None = None
    reference_pixel_A: float | None = None
    reference_path: str = "the reference"
    trust_reference: bool = False
    diameter_A: float | None = None
    ctf: bool = True
    split_halves: bool = True


Check = Callable[[ParticleTable, CheckOptions], Iterator[str]]


def _rows(
    table: ParticleTable, wrong: npt.NDArray[np.bool_], label: str, values: npt.NDArray[Any], text: str
) -> Iterator[str]:
    """One message for all rows that are wrong: the first one by name, and how many more."""
    rows = np.flatnonzero(wrong)
    if rows.size:
        more = f" ({rows.size} rows like this)" if rows.size > 1 else ""
        yield f"{table.where(int(rows[0]))}, column {label}: {values[rows[0]]:g} {text}{more}."


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _group(table: ParticleTable, group: OpticsGroup, label: str) -> str:
    return f"{table.path}, table data_optics, row {group.number} ({group.name}), column {label}"


def optics_values(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Voltage, aberration, contrast and pixel size have values that a microscope can have."""
    for group in table.optics:
        if group.voltage_kV <= 0:
            yield f"{_group(table, group, 'rlnVoltage')}: {group.voltage_kV:g} kV; expected e.g. 200 or 300."
        if group.voltage_kV > MAX_VOLTAGE_KV:
            where = _group(table, group, "rlnVoltage")
            yield f"{where}: {group.voltage_kV:g} is too high; give kilovolts, not volts."
        if group.cs_mm < 0:
            where = _group(table, group, "rlnSphericalAberration")
            yield f"{where}: {group.cs_mm:g} mm is negative; expected e.g. 2.7, or about 0 with a corrector."
        if not 0 <= group.amplitude_contrast <= 1:
            where = _group(table, group, "rlnAmplitudeContrast")
            yield f"{where}: {group.amplitude_contrast:g} is not between 0 and 1; expected e.g. 0.1."
        if group.pixel_size_A <= 0:
            where = _group(table, group, "rlnImagePixelSize")
            yield f"{where}: {group.pixel_size_A:g} A is not above 0; give the pixel size of the images."
        a, b, c, d = group.mag_matrix
        if abs(a * d - b * c) < 1e-3:
            yield f"{_group(table, group, 'rlnMagMat00')}: the magnification matrix is singular; remove it."


def optics_box(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Boxes are even and not empty. (0 stands for a size that neither table nor images told.)"""
    for group in table.optics:
        where = _group(table, group, "rlnImageSize")
        if group.box < 0 or 0 < group.box < 4:
            yield f"{where}: a box of {group.box} px is too small; correct it."
        elif group.box % 2:
            yield f"{where}: box {group.box} is odd; extract the particles again with an even box."


def image_numbers(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Image numbers count from 1."""
    wrong = table.image_index < 0
    text = "is no image number: images count from 1, so the first one of a stack is 000001@"
    yield from _rows(table, wrong, "rlnImageName", table.image_index + 1, text)


def halves(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """rlnRandomSubset is absent, or 1 and 2 throughout with both halves occupied."""
    half = table.half
    if not options.split_halves or not half.any():
        return
    label = "rlnRandomSubset"
    wrong, unset = (half < 0) | (half > 2), half == 0
    yield from _rows(table, wrong, label, half, "is not a half set; expected 1 or 2")
    text = "among rows that are 1 or 2; assign all particles, or remove the column to split anew"
    yield from _rows(table, unset, label, half, text)
    if not (wrong | unset).any() and half.min() == half.max():
        yield (
            f"{table.path}, table data_{table.block}, column {label}: all particles are in half {half[0]} "
            f"(as cryoSPARC exports have it); remove the column, and the halves are drawn at random."
        )


def enough_particles(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Gold standard needs at least one particle in each half."""
    if options.split_halves and len(table) < 2:
        yield f"{table.path}: {len(table)} particle; two halves need at least 2, a useful map some hundreds."


def duplicates(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """No image twice, unless its copies are sure to stay in one half (symmetry expansion)."""
    later, first = duplicate_rows(table)
    apart = (table.half[later] != table.half[first]) | (table.half[later] == 0)
    if not options.split_halves or not apart.any():
        return
    row, other = int(later[apart][0]), int(first[apart][0])
    copies = _count(int(apart.sum()), "copy", "copies")
    yield (
        f"{table.where(row)}, column rlnImageName: {table.image_name(row)} is there already in row "
        f"{other + 1} ({copies}); the same image in both halves would make the FSC false: remove copies "
        f"(relion_star_handler --remove_duplicates) or give all copies the same rlnRandomSubset."
    )


def duplicate_rows(table: ParticleTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows whose image stands in an earlier row, and the first row with that image."""
    n_images = int(table.image_index.max(initial=0)) + 2
    key = table.stack_index.astype(np.int64) * n_images + table.image_index
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    first_of = first[inverse.ravel()]
    rows = np.flatnonzero(first_of != np.arange(len(table)))
    return rows, first_of[rows]


def defocus(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """With CTF correction there is a defocus, in angstrom."""
    if not options.ctf:
        return
    where = f"{table.path}, table data_{table.block}, column rlnDefocusU"
    if "rlnDefocusU" not in table.frame:
        yield f"{where}: is missing; estimate the CTF first (CtfFind), or work without CTF."
        return
    largest = max(np.abs(table.defocus_u_A).max(), np.abs(table.defocus_v_A).max())
    if largest == 0:
        yield f"{where}: is 0 in all rows; estimate the CTF first (CtfFind), or work without CTF."
    elif largest < MICROMETRE_DEFOCUS:
        yield f"{where}: {largest:g} at most; give angstrom (1 um = 10000 A)."


def norm_correction(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Per-particle amplitudes are positive."""
    text = "is not above 0; remove the column to begin with 1"
    yield from _rows(table, table.norm_correction <= 0, "rlnNormCorrection", table.norm_correction, text)


def odd_defocus(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of overfocus, of single zeros and of values that no microscope is set to."""
    if not options.ctf or "rlnDefocusU" not in table.frame:
        return
    for label, values in (("rlnDefocusU", table.defocus_u_A), ("rlnDefocusV", table.defocus_v_A)):
        yield from _rows(table, values < 0, label, values, "A is overfocus (underfocus is positive)")
        yield from _rows(table, values == 0, label, values, "A: was the CTF not estimated here?")
        yield from _rows(table, values > MAX_DEFOCUS_A, label, values, "A is more than 10 um")


def odd_ctf_scale(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of particles whose CTF is nothing."""
    text = "leaves the particle without signal"
    yield from _rows(table, table.ctf_scale == 0, "rlnCtfScalefactor", table.ctf_scale, text)


def large_offsets(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of shifts beyond the box."""
    limit = np.array([0.5 * g.box * g.pixel_size_A if g.box else np.inf for g in table.optics])
    shift = np.abs(table.origin_A).max(axis=1)
    text = "A is beyond half the box (are the shifts in pixels, or of a larger box?)"
    yield from _rows(table, shift > limit[table.optics_index], "rlnOriginXAngst or Y", shift, text)


def same_half_copies(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of copies of an image that the other check lets pass."""
    later, first = duplicate_rows(table)
    if later.size and not next(duplicates(table, options), None):
        row, copies = int(later[0]), _count(later.size, "copy", "copies")
        yield (
            f"{table.where(row)}, column rlnImageName: {table.image_name(row)} is there already in row "
            f"{first[0] + 1} ({copies}): counted as particles of their own."
        )


def uneven_halves(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of halves that differ much in size."""
    one, two = int((table.half == 1).sum()), int((table.half == 2).sum())
    if options.split_halves and min(one, two) and max(one, two) > 1.5 * min(one, two):
        yield f"{table.path}, column rlnRandomSubset: halves of {one} and {two} particles are uneven."


def small_groups(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of groups too small for an intensity scale of their own."""
    counts = np.bincount(table.group_index, minlength=len(table.group_names))
    small = np.flatnonzero(counts < SMALL_GROUP)
    if small.size:
        smallest = int(np.argmin(counts))
        yield (
            f"{table.path}: {small.size} of {counts.size} groups (micrographs) have fewer than {SMALL_GROUP} "
            f"particles, e.g. {table.group_names[smallest]} with {counts[smallest]}; their intensity scale "
            f"is uncertain: join micrographs by a column rlnGroupName."
        )


def unused_optics(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of optics groups without particles."""
    counts = np.bincount(table.optics_index, minlength=len(table.optics))
    names = [table.optics[i].name for i in np.flatnonzero(counts == 0)]
    if names:
        yield f"{table.path}: no particle is in these optics groups: {', '.join(names)}."


def particle_diameter(table: ParticleTable, options: CheckOptions) -> Iterator[str]:
    """Warn of a mask larger than the box."""
    if options.diameter_A is None:
        return
    for group in table.optics:
        edge = group.box * group.pixel_size_A
        if 0 < edge < options.diameter_A:
            yield (
                f"the particle diameter of {options.diameter_A:g} A is larger than the box of optics group "
                f"{group.name} ({group.box} px x {group.pixel_size_A:g} A = {edge:g} A); is the diameter in "
                f"A?"
            )


PROBLEMS: tuple[Check, ...] = (
    optics_values,
    optics_box,
    image_numbers,
    enough_particles,
    halves,
    duplicates,
    defocus,
    norm_correction,
)
WARNINGS: tuple[Check, ...] = (
    odd_defocus,
    odd_ctf_scale,
    large_offsets,
    same_half_copies,
    uneven_halves,
    small_groups,
    unused_optics,
    particle_diameter,
)
