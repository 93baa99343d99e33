"""Checks of the image stacks behind a particle table: each header is read once, and a sample of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.mrc_header import MrcHeader, read_header
from mpiapp.io.particles import ParticleTable
from mpiapp.io.stacks import ImageReader, finite_images

BACKGROUND_MEAN = 0.5
BACKGROUND_SD = (0.5, 2.0)


@dataclass(frozen=True)
class Stacks:
    """Headers of all stacks of a table; a stack that is missing or unreadable has a message instead."""

    table: ParticleTable
    headers: list[MrcHeader | None]
    errors: list[str]

    @classmethod
    def read(cls, table: ParticleTable) -> Stacks:
        """Open each stack of the table once."""
        headers: list[MrcHeader | None] = []
        errors: list[str] = []
        for path in table.stack_paths:
            try:
                headers.append(read_header(path))
                errors.append("")
            except InputError as error:
                headers.append(None)
                errors.append(str(error))
        return cls(table, headers, errors)

    @cached_property
    def good(self) -> npt.NDArray[np.bool_]:
        """(stacks,) headers that could be read."""
        return np.array([header is not None for header in self.headers], dtype=bool)

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(stacks, 3) sections, rows, columns; zeros where unknown."""
        return np.array([h.shape if h is not None else (0, 0, 0) for h in self.headers], dtype=np.int64)

    @cached_property
    def users(self) -> npt.NDArray[np.int64]:
        """(pairs, 3) each stack with each optics group that its particles have: stack, group, first row."""
        key = self.table.stack_index.astype(np.int64) * len(self.table.optics) + self.table.optics_index
        pairs, first = np.unique(key, return_index=True)
        return np.stack([pairs // len(self.table.optics), pairs % len(self.table.optics), first], axis=1)

    def first_row(self, stack: int) -> int:
        """First particle of a stack."""
        return int(np.flatnonzero(self.table.stack_index == stack)[0])

    def where(self, stack: int) -> str:
        """First particle of a stack, for messages."""
        return f"{self.table.where(self.first_row(stack))}, column rlnImageName"


def missing(stacks: Stacks) -> Iterator[str]:
    """Stacks exist and are MRC files."""
    lost = [i for i, path in enumerate(stacks.table.stack_paths) if not path.exists()]
    if lost:
        particles = int(np.isin(stacks.table.stack_index, lost).sum())
        yield (
            f"{stacks.where(lost[0])}: the stack {stacks.table.stack_paths[lost[0]]} does not exist "
            f"({len(lost)} of {len(stacks.headers)} stacks are missing, {particles} particles); start from "
            f"the project folder or give it by --root (reconstruct: --img)."
        )
    unreadable = sorted(set(np.flatnonzero(~stacks.good).tolist()) - set(lost))
    if unreadable:
        more = f" ({len(unreadable)} stacks like this)" if len(unreadable) > 1 else ""
        yield f"{stacks.where(int(unreadable[0]))}: {stacks.errors[unreadable[0]]}{more}"


def truncated(stacks: Stacks) -> Iterator[str]:
    """Files hold what their headers promise, unpacked."""
    for stack, header in enumerate(stacks.headers):
        if header is None:
            continue
        if header.compressed:
            yield f"{header.path}: is compressed; unpack it, image stacks are read in place."
        elif header.n_complete_images < header.n_images:
            yield (
                f"{header.path}: is cut off: the header says {header.n_images} images, the file has "
                f"{header.n_complete_images} ({header.file_bytes} of "
                f"{header.data_offset + header.data_bytes} bytes); copy it again or extract anew (first "
                f"used in row {stacks.first_row(stack) + 1})."
            )


def past_end(stacks: Stacks) -> Iterator[str]:
    """Image numbers do not go beyond their stacks."""
    table = stacks.table
    count = stacks.sizes[table.stack_index, 0]
    wrong = np.flatnonzero((table.image_index >= count) & stacks.good[table.stack_index])
    if wrong.size:
        row = int(wrong[0])
        yield (
            f"{table.where(row)}, column rlnImageName: image {table.image_index[row] + 1} of "
            f"{table.stack_paths[table.stack_index[row]]}, which has {count[row]} images ({wrong.size} of "
            f"{len(table)} rows are like this); the table and the stack do not belong together."
        )


def boxes(stacks: Stacks) -> Iterator[str]:
    """Images are square, even, and as large as data_optics says."""
    table, users = stacks.table, stacks.users
    known = stacks.good[users[:, 0]]
    rows, columns = stacks.sizes[users[:, 0], 1], stacks.sizes[users[:, 0], 2]
    for i in np.flatnonzero(known & (rows != columns))[:1]:
        path = table.stack_paths[users[i, 0]]
        yield f"{path}: images of {columns[i]} x {rows[i]} px are not square; extract the particles again."
    box = np.array([group.box for group in table.optics])[users[:, 1]]
    square = known & (rows == columns)
    for i in np.flatnonzero(square & (rows % 2 == 1) & (box % 2 == 0))[:1]:
        path = table.stack_paths[users[i, 0]]
        yield f"{path}: box {rows[i]} is odd; extract the particles again with an even box."
    for i in np.flatnonzero(square & (box > 0) & (rows != box))[:1]:
        group = table.optics[users[i, 1]]
        yield (
            f"{table.where(int(users[i, 2]))}: {table.stack_paths[users[i, 0]]} has images of {rows[i]} px, "
            f"but rlnImageSize of optics group {group.name} is {box[i]}; correct data_optics or extract "
            f"again."
        )


def pixel_sizes(stacks: Stacks) -> Iterator[str]:
    """Warn where the headers say another pixel size than data_optics (many programs leave 0 or 1)."""
    users = stacks.users
    header = np.array([h.pixel_size_A if h is not None else 0.0 for h in stacks.headers])[users[:, 0]]
    data = np.array([group.pixel_size_A for group in stacks.table.optics])[users[:, 1]]
    wrong = np.flatnonzero((header > 0) & (header != 1.0) & (np.abs(header - data) > 0.01 * data))
    for i in wrong[:1]:
        yield (
            f"{stacks.table.stack_paths[users[i, 0]]}: the header says {header[i]:.4f} A per pixel, "
            f"data_optics {data[i]:.4f} A; data_optics is used ({wrong.size} stacks like this)."
        )


def remarks(stacks: Stacks) -> Iterator[str]:
    """Warn of header faults that are put up with, once for each kind."""
    kinds: dict[str, list[int]] = {}
    for stack, header in enumerate(stacks.headers):
        for remark in header.remarks if header is not None else ():
            kinds.setdefault(remark, []).append(stack)
    for remark, found in kinds.items():
        more = f" ({len(found)} stacks)" if len(found) > 1 else ""
        yield f"{stacks.table.stack_paths[found[0]]}: {remark}{more}."


def sampled_images(table: ParticleTable, diameter_A: float | None, n_sample: int) -> Iterator[str]:
    """Warn of NaN pixels and of backgrounds far from mean 0 and standard deviation 1, in a sample of images.

    The background is what lies outside the particle circle (of the box, where no diameter is given). RELION's
    limits: mean beyond 0.5 standard deviations, standard deviation outside 0.5 to 2.
    """
    chosen = np.unique(np.linspace(0, len(table) - 1, min(n_sample, len(table))).astype(np.int64))
    with ImageReader(table.stack_paths) as reader:
        for group in np.unique(table.optics_index[chosen]):
            rows = chosen[table.optics_index[chosen] == group]
            images = reader.read(table.stack_index[rows], table.image_index[rows])
            finite = finite_images(images)
            if not finite.all():
                row = int(rows[~finite][0])
                yield (
                    f"{table.where(row)}: {table.image_name(row)} has NaN or infinite pixels "
                    f"({int((~finite).sum())} of {rows.size} images looked at); such particles are set aside."
                )
            pixel = table.optics[group].pixel_size_A
            yield from _background(table, rows[finite], images[finite], diameter_A and diameter_A / pixel)


def _background(
    table: ParticleTable,
    rows: npt.NDArray[np.int64],
    images: npt.NDArray[np.float32],
    diameter_px: float | None,
) -> Iterator[str]:
    box = images.shape[-1]
    radius = min(diameter_px or box, box) / 2
    grid = np.arange(box) - box // 2
    outside = grid[:, None] ** 2 + grid[None, :] ** 2 > radius**2
    if not rows.size or outside.sum() < 10:
        return
    pixels = images[:, outside].astype(np.float64)
    mean, sd = pixels.mean(axis=1), pixels.std(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        wrong = (sd < BACKGROUND_SD[0]) | (sd > BACKGROUND_SD[1]) | ~(np.abs(mean / sd) <= BACKGROUND_MEAN)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        yield (
            f"{table.where(int(rows[i]))}: the background of {table.image_name(int(rows[i]))} has mean "
            f"{mean[i]:.3g} and standard deviation {sd[i]:.3g} ({int(wrong.sum())} of {rows.size} images "
            f"looked at); expected 0 and 1: normalise the particles (relion_preprocess --operate_on ... "
            f"--norm --bg_radius R)."
        )
