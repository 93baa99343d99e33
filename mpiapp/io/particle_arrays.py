"""Columns of a particle table as arrays, with RELION's values where a column is missing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.columns import Columns
from mpiapp.io.image_names import ImageNames
from mpiapp.io.labels import PARTICLE_COLUMNS, Kind
from mpiapp.io.star_table import numbered

_JOB_PREFIX = re.compile(r"^.*?\bjob\d{3,}/")


def particle_arrays(table: Columns) -> tuple[dict[str, Any], list[str]]:
    """Arrays of all columns of the label table by field name, missing ones filled, and what was filled.

    Raises InputError where a value is no number, no whole number, or too large.
    """
    values: dict[str, Any] = {}
    for column in PARTICLE_COLUMNS:
        if column.kind is Kind.INT:
            values[column.field] = table.whole(column.label, int(column.default))
        else:
            values[column.field] = table.numbers(column.label, column.default)
    notices = _fill_from_others(table, values)
    values["origin_A"] = np.stack([values.pop("origin_x_A"), values.pop("origin_y_A")], axis=1)
    values["half"] = _small(table, "rlnRandomSubset", values["half"], np.int8)
    values["class_number"] = _small(table, "rlnClassNumber", values["class_number"], np.int32)
    return values, notices


def _fill_from_others(table: Columns, values: dict[str, Any]) -> list[str]:
    """Angles from their priors, second defocus from the first, where only these are there."""
    notices = []
    for label, prior, name in (
        ("rlnAngleTilt", "rlnAngleTiltPrior", "tilt_deg"),
        ("rlnAnglePsi", "rlnAnglePsiPrior", "psi_deg"),
        ("rlnDefocusV", "rlnDefocusU", "defocus_v_A"),
    ):
        if not table.has(label) and table.has(prior):
            values[name] = table.numbers(prior)
            notices.append(f"{table.path}: no column {label}; the values of {prior} are taken.")
    return notices


def _small(table: Columns, label: str, values: npt.NDArray[np.int64], dtype: type) -> npt.NDArray[Any]:
    info = np.iinfo(dtype)
    wrong = np.flatnonzero((values < info.min) | (values > info.max))
    if wrong.size:
        raise InputError(
            f"{table.where(int(wrong[0]))}, column {label}: {values[wrong[0]]} is too large; correct it."
        )
    return values.astype(dtype)


def scale_groups(table: Columns, names: ImageNames) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Groups of the scale correction: rlnGroupName, else micrograph without job prefix, else stack."""
    if not table.has("rlnGroupName") and not table.has("rlnMicrographName"):
        return names.stack_index.copy(), [_JOB_PREFIX.sub("", stack) for stack in names.stacks]
    by_name = table.has("rlnGroupName")
    labels = table.text("rlnGroupName" if by_name else "rlnMicrographName")
    codes, found = numbered(labels)
    if by_name:
        return codes, found
    # One micrograph may stand under several jobs: the names without the jobs are joined once more.
    joined, found = numbered(_JOB_PREFIX.sub("", name) for name in found)
    return joined[codes], found
