"""The grammar of STAR files, as RELION reads them and a little more tolerant. Lines in, tables out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mpiapp.errors import InputError
from mpiapp.io.star_table import Table
from mpiapp.io.star_text import Cells, convert_cells, join_parts, split_line

if TYPE_CHECKING:
    import pandas as pd

Block: TypeAlias = "pd.DataFrame | dict[str, Any]"
Parsed: TypeAlias = Table | dict[str, Any]

CHUNK_ROWS = 50_000
_VERSION = re.compile(r"#\s*version\s+(\d+)")


@dataclass
class StarFile:
    """A STAR file as read: blocks by name, version (30000 where none is written), remarks for the user."""

    path: Path
    blocks: dict[str, Parsed] = field(default_factory=dict)
    version: int = 30000
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Loop:
    """Labels and row lines of one loop; `first_line` (1-based) is 0 where comments break the count."""

    place: str
    labels: list[str]
    lines: list[str]
    first_line: int


class StarParser:
    """Walks over the lines once; `at` is the index of the line in hand."""

    def __init__(self, star: StarFile, lines: list[str]) -> None:
        self.star, self.lines, self.at = star, lines, 0
        self.tables: dict[str, Parsed] = {}

    def run(self) -> dict[str, Parsed]:
        """Blocks by name; version and remarks go to `star`. InputError names the line where this is no STAR file."""
        stray = 0
        while not self._at_end():
            line = self._line()
            if line.startswith("data_"):
                self._report_stray(stray)
                stray = 0
                self._block(line.split()[0][5:])
                continue
            self._see_version()
            stray += bool(line) and not line.startswith("#")
            self.at += 1
        if not self.tables:
            raise InputError(
                f"{self.star.path}: has no 'data_' block, so it is no STAR file; check the name."
            )
        self._report_stray(stray)
        return self.tables

    def _at_end(self) -> bool:
        return self.at >= len(self.lines)

    def _line(self) -> str:
        return "" if self._at_end() else self.lines[self.at].strip()

    def _place(self, line: int) -> str:
        return f"{self.star.path}, line {line + 1}"

    def _see_version(self) -> None:
        if found := _VERSION.match(self._line()):
            self.star.version = int(found[1])

    def _skip_blank(self) -> None:
        while not self._at_end() and (not self._line() or self._line().startswith("#")):
            self._see_version()
            self.at += 1

    def _report_stray(self, count: int) -> None:
        if count:
            self.star.notices.append(
                f"{self._place(self.at)}: {count} lines before this one belong to no table and are left out "
                f"(a blank line ends a table, also in RELION); remove the blank line if they are wanted."
            )

    def _block(self, name: str) -> None:
        start = self.at
        self.at += 1
        self._skip_blank()
        block: Parsed = {}
        if self._line().startswith("loop_"):
            self.at += 1
            block = self._loop(name)
        elif self._line().startswith("_"):
            block = self._list(name)
        if name in self.tables:
            self.star.notices.append(
                f"{self._place(start)}: a second block data_{name}; only the first one is used."
            )
        else:
            self.tables[name] = block

    def _list(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not self._at_end():
            line = self._line()
            if line.startswith("loop_"):
                raise InputError(
                    f"{self._place(self.at)}: data_{name} has both a list and a loop_; "
                    f"put the loop into a block of its own."
                )
            if line.startswith("_"):
                label, value = self._list_item(line, name)
                values[label] = value
            elif line and not line.startswith("#"):
                break
            self._see_version()
            self.at += 1
        return values

    def _list_item(self, line: str, name: str) -> tuple[str, Any]:
        label, _, rest = line[1:].replace("\t", " ").partition(" ")
        tokens = split_line(rest)
        if len(tokens) > 1:
            raise InputError(
                f"{self._place(self.at)}: _{label} of data_{name} has {len(tokens)} values "
                f"({rest.strip()}); give one, in quotes if it has blanks."
            )
        cell = convert_cells(label, tokens or [""])[0]
        return label, cell.item() if isinstance(cell, np.generic) else cell

    def _loop(self, name: str) -> Table:
        labels = self._labels(name)
        first = self.at
        lines = self._rows(len(labels))
        comments = any(line.lstrip().startswith("#") for line in lines)
        if comments:
            self.star.notices.append(
                f"{self._place(first)}: comments among the rows from here on are left out."
            )
            lines = [line for line in lines if not line.lstrip().startswith("#")]
        loop = _Loop(f"{self.star.path}, table data_{name}", labels, lines, 0 if comments else first + 1)
        return Table(dict(zip(labels, _columns(loop), strict=True)), loop.first_line)

    def _labels(self, name: str) -> list[str]:
        labels: list[str] = []
        self._skip_blank()
        while self._line().startswith(("_", "#")):
            if self._line().startswith("_"):
                labels.append(re.split(r"[\s#]", self._line()[1:], maxsplit=1)[0])
            self.at += 1
        double = sorted({label for label in labels if labels.count(label) > 1})
        if double:
            raise InputError(
                f"{self._place(self.at - 1)}: table data_{name} has the column {double[0]} twice; "
                f"remove one of them."
            )
        if not labels:
            raise InputError(
                f"{self._place(self.at)}: loop_ of data_{name} names no columns; expected _label lines."
            )
        self._accept_gap(name)
        return labels

    def _accept_gap(self, name: str) -> None:
        """Rows that follow a blank line after the labels are rows, if no other block begins there."""
        gap = self.at
        if self._line() or self._at_end():
            return
        self._skip_blank()
        if self._at_end() or self._line().startswith(("data_", "loop_", "_")):
            self.at = gap
            return
        self.star.notices.append(
            f"{self._place(gap)}: a blank line stands between labels and rows of data_{name}: "
            f"read all the same, RELION would take the table for empty."
        )

    def _rows(self, n_labels: int) -> list[str]:
        """Lines to the blank line (or the next block) that ends the loop."""
        first = self.at
        while line := self._line():
            if line.startswith("data_") and n_labels > 1 and len(line.split()) == 1:
                break
            self.at += 1
        return self.lines[first : self.at]


def _columns(loop: _Loop) -> list[Cells]:
    """Columns of a loop. In pieces, so that a million rows never exist as separate strings all at once."""
    parts: list[list[Cells]] = [[] for _ in loop.labels]
    for start in range(0, len(loop.lines), CHUNK_ROWS):
        rows = [split_line(line) for line in loop.lines[start : start + CHUNK_ROWS]]
        if len(loop.labels) == 2:
            rows = [_two_columns(row) for row in rows]
        _check_lengths(loop, rows, start)
        for part, label, cells in zip(parts, loop.labels, zip(*rows, strict=True), strict=True):
            part.append(convert_cells(label, cells))
    joined = [join_parts(part) for part in parts]
    return [_text_column(loop, i) if column is None else column for i, column in enumerate(joined)]


def _text_column(loop: _Loop, index: int) -> list[str]:
    """One column once more, as text: numbers in some pieces, words in others."""
    return [split_line(line)[index] for line in loop.lines]


def _two_columns(row: list[str]) -> list[str]:
    """Job options of old RELION versions have unquoted blanks in the second column, or nothing."""
    return row if len(row) == 2 else [row[0], " ".join(row[1:])]


def _check_lengths(loop: _Loop, rows: Sequence[list[str]], start: int) -> None:
    width = len(loop.labels)
    wrong = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if wrong is None:
        return
    row, index = rows[wrong], start + wrong
    line = f" (line {loop.first_line + index})" if loop.first_line else ""
    if len(row) < width:
        hint = f"nothing is left for {loop.labels[len(row)]}; if the file is cut off here, write it again"
    else:
        hint = f"the first one too many is '{row[width]}'; put names with blanks in quotes"
    raise InputError(f"{loop.place}, row {index + 1}{line}: {len(row)} values for {width} columns; {hint}.")
