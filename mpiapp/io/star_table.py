"""The loop of a STAR file as plain columns: what small tables need, at no cost of loading pandas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    def frame(self) -> pd.DataFrame:
        """The same for tables of particles; `attrs` has `first_line`."""
        import pandas as pd

        made = pd.DataFrame(dict(self.columns), columns=list(self.columns))
        made.attrs["first_line"] = self.first_line
        return made
