"""What the readers of RELION's run files share: blocks and values with messages that name file and label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpiapp.errors import InputError
from mpiapp.io.star_table import Table

MISSING = object()
# directions from which on tables of them have six decimals, as RELION's: a million numbers, which nobody needs to the
# last bit
FINE_GRID = 20_000


def load_tables(path: str | Path, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Blocks of a STAR file by name without ``data_``: list blocks as dict, loop blocks as Table.

    Parameters
    ----------
    without : beginnings of names of blocks that need not be read (`mpiapp.io.star.read_star`)
    """
    from mpiapp.io.star import read_tables

    return dict(read_tables(path, without))


def list_block(blocks: Mapping[str, Any], name: str, path: str | Path) -> dict[str, Any]:
    """A list block as dict of labels without underscore; a loop of one row is taken as well."""
    if name not in blocks:
        raise InputError(f"{path}: table data_{name} is missing; found {_names(blocks)}")
    block = blocks[name]
    if not isinstance(block, Mapping):
        if len(block) != 1:
            raise InputError(f"{path}: table data_{name} has {len(block)} rows; expected a list of values")
        block = block.row(0)
    return {str(label).removeprefix("_"): value for label, value in block.items()}


def loop_block(blocks: Mapping[str, Any], name: str, path: str | Path) -> Table:
    """A loop block; a list block (a loop of one row to some writers) is taken as well."""
    if name not in blocks:
        raise InputError(f"{path}: table data_{name} is missing; found {_names(blocks)}")
    block = blocks[name]
    return Table({label: [value] for label, value in block.items()}) if isinstance(block, Mapping) else block


def column(rows: Table, label: str, table: str, path: str | Path, default: float | None = None) -> np.ndarray:
    """A column as (rows,) float64; without it the default, or an error when there is none."""
    if label not in rows:
        if default is None:
            raise InputError(f"{path}: column _{label} is missing in table data_{table}")
        return np.full(len(rows), default)
    try:
        return np.asarray(rows[label], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: column _{label} of table data_{table} is not numeric: {error}") from error


def value(
    block: Mapping[str, Any], label: str, kind: type, table: str, path: str | Path, default: Any = MISSING
) -> Any:
    """One value of a list block as int, float, bool or str (``None`` and an empty name read as None)."""
    if label not in block:
        if default is MISSING:
            raise InputError(f"{path}: _{label} is missing in table data_{table}")
        return default
    raw = block[label]
    if kind is str:
        return None if str(raw) in ("None", "") else str(raw)
    try:
        number = float(raw)
        return number if kind is float else kind(number)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: _{label} is {raw!r} in table data_{table}; expected a number") from error


def locate_beside(name: str | Path, star_path: str | Path) -> Path:
    """Find a file that a run's STAR file names.

    RELION writes names relative to the project folder. So the name is taken from the working folder first,
    then the file of the same name is looked for beside the STAR file (a job folder that was moved or copied).

    Raises
    ------
    InputError
        When neither exists; both places are named.
    """
    given = Path(name)
    beside = Path(star_path).parent / given.name
    for candidate in (given, beside):
        if candidate.is_file():
            return candidate
    raise InputError(
        f"{star_path}: names {given}, which is neither there (seen from {Path.cwd()}) nor at {beside}; "
        "start from the project folder, or put the file back"
    )


def _names(blocks: Mapping[str, Any]) -> str:
    return ", ".join(f"data_{name}" for name in blocks) or "no table at all"
