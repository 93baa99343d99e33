"""Typed columns out of a STAR table, with messages that name file, row, column, value and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.star_table import Table


@dataclass(frozen=True)
class Columns:
    """Reads columns of one table; `name` is the block name ("particles")."""

    frame: Table
    path: Path
    name: str

    def __len__(self) -> int:
        return len(self.frame)

    def has(self, label: str) -> bool:
        """Whether the table has this column."""
        return label in self.frame

    def where(self, row: int) -> str:
        """File, table, row (1-based) and, where known, line of the file."""
        first = self.frame.first_line
        line = f" (line {first + row})" if first else ""
        return f"{self.path}, table data_{self.name}, row {row + 1}{line}"

    def require(self, labels: Iterable[str], remedy: str) -> None:
        """Raise InputError naming all of `labels` that are missing."""
        missing = [label for label in labels if not self.has(label)]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            names = ", ".join(missing)
            raise InputError(
                f"{self.path}, table data_{self.name}: column{plural} {names} missing; {remedy}."
            )

    def numbers(self, label: str, default: float | None = None) -> npt.NDArray[np.float64]:
        """A column as (n,) float64; `default` where the column is missing.

        Raises
        ------
        InputError
            A cell is no finite number.
        """
        if not self.has(label):
            if default is None:
                self.require([label], "add it")
            return np.full(len(self), default, dtype=np.float64)
        cells = np.asarray(self.frame[label])
        if cells.dtype.kind not in "iufb":
            self._refuse_text(label, cells)
        values: npt.NDArray[np.float64] = cells.astype(np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(
                f"{self.where(row)}, column {label}: '{values[row]}' is not a finite number; "
                f"correct it or remove the row."
            )
        return values

    def whole(self, label: str, default: int | None = None) -> npt.NDArray[np.int64]:
        """A column as (n,) int64; `1.000000` is taken for 1.

        Raises
        ------
        InputError
            A cell is no whole number.
        """
        values = self.numbers(label, default)
        rounded = np.rint(values)
        if (rounded != values).any():
            row = int(np.flatnonzero(rounded != values)[0])
            raise InputError(
                f"{self.where(row)}, column {label}: '{values[row]:g}' is not a whole number; correct it."
            )
        whole: npt.NDArray[np.int64] = rounded.astype(np.int64)
        return whole

    def text(self, label: str) -> list[str]:
        """A column as strings."""
        column = self.frame[label]
        return [str(cell) for cell in (column if isinstance(column, list) else column.tolist())]

    def vector(self, label: str, row: int) -> tuple[float, ...]:
        """One cell that holds a vector `[a,b,c]`; empty where the column is missing."""
        if not self.has(label):
            return ()
        cell = str(self.frame[label][row])
        try:
            return tuple(float(part) for part in cell.strip("[]() ").split(",") if part.strip())
        except ValueError:
            raise InputError(
                f"{self.where(row)}, column {label}: '{cell}' is not a vector of numbers; expected [a,b,c]."
            ) from None

    def _refuse_text(self, label: str, cells: npt.NDArray[Any]) -> None:
        """The column was left as text because at least one cell is no number: say which."""
        row = next((i for i, cell in enumerate(cells.tolist()) if not _is_number(cell)), 0)
        raise InputError(
            f"{self.where(row)}, column {label}: '{cells[row]}' is not a number; "
            f"correct the value (are the columns in the order of the labels?)."
        )


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return "_" not in str(cell)
