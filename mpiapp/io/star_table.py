"""The loop of a STAR file as plain columns: all that jobs need, at no cost of loading pandas (0.3 to 2 s)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Columns of one length by label.

    Attributes
    ----------
    columns : label without underscore -> (rows,) array, or list of str
    first_line : line of the first row in the file that it was read from; 0 if comments stand among the rows
    """

    columns: Mapping[str, Any]
    first_line: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, label: object) -> bool:
        return label in self.columns

    def __getitem__(self, label: str) -> Any:
        return self.columns[label]

    def row(self, number: int) -> dict[str, Any]:
        """One row, label -> Python value."""
        cells = {label: column[number] for label, column in self.columns.items()}
        return {label: cell.item() if hasattr(cell, "item") else cell for label, cell in cells.items()}

    def with_columns(self, columns: Mapping[str, Any]) -> Table:
        """The table with columns replaced where they stand, or added at the end; all others are shared."""
        return Table({**self.columns, **columns}, self.first_line)

    def without(self, labels: Iterable[str]) -> Table:
        """The table without some columns."""
        gone = set(labels)
        kept = {label: column for label, column in self.columns.items() if label not in gone}
        return Table(kept, self.first_line)

    def renamed(self, names: Mapping[str, str]) -> Table:
        """The table with new labels for some columns, which stay where they are."""
        return Table({names.get(label, label): c for label, c in self.columns.items()}, self.first_line)

    def take(self, rows: Iterable[int]) -> Table:
        """Some rows, whose lines in a file are not known."""
        chosen = np.asarray(rows)
        return Table({label: _taken(column, chosen) for label, column in self.columns.items()})

    def frame(self) -> pd.DataFrame:
        """The same for who works with pandas; `attrs` has `first_line`."""
        import pandas as pd

        made = pd.DataFrame(dict(self.columns), columns=list(self.columns))
        made.attrs["first_line"] = self.first_line
        return made


def _taken(column: Any, rows: npt.NDArray[np.integer]) -> Any:
    return [column[row] for row in rows.tolist()] if isinstance(column, list) else column[rows]


def numbered(labels: Iterable[str]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Number of each label among the different ones, and these, in order of appearance."""
    found: dict[str, int] = {}
    codes = [found.setdefault(label, len(found)) for label in labels]
    return np.array(codes, np.int32), list(found)
