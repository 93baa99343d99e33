"""STAR files: tolerant reading, writing as RELION writes.

A file is a sequence of blocks `data_NAME`; a block is a list of `_label value` lines or a loop. Loops become
pandas tables, or plain columns for the jobs, lists become dictionaries. Why a parser of
our own: the package `starfile` changes `'` to `"`, cuts words at `#`, fills short rows with NaN, reads on after the
blank line where RELION stops, turns the name "007" into 7 and knows no line numbers for messages.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.atomic import atomic_file
from mpiapp.io.star_numbers import table_text
from mpiapp.io.star_parser import CHUNK_ROWS, Block, Parsed, StarFile, StarParser
from mpiapp.io.star_table import Table
from mpiapp.io.star_text import format_cell, format_cells

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)
NEWEST_VERSION = 50001


def read_star(path: Path | str, without: tuple[str, ...] = ()) -> dict[str, Block]:
    """Blocks of a STAR file by name (`data_particles` -> "particles", `data_` -> ""); remarks go to the log.

    Loops are DataFrames (labels without underscore; `attrs["first_line"]` is the line of the first row, 0 if
    comments stand among the rows), lists are dictionaries. Numbers are int64 or float64, names stay text.

    Parameters
    ----------
    without
        Beginnings of the names of blocks that are not wanted: those that end the file are not read, which is where
        the long tables of directions stand.

    Raises
    ------
    InputError
        The file is missing, is no STAR file, or a row has too few or too many values (line named).
    """
    return {name: _in_pandas(block) for name, block in read_tables(path, without).items()}


def read_tables(path: Path | str, without: tuple[str, ...] = ()) -> dict[str, Parsed]:
    """Like `read_star`, with loops as plain columns, which needs no pandas."""
    star, tables = _parse(path, without)
    for notice in star.notices:
        LOG.warning("%s", notice)
    return tables


def parse_star(path: Path | str, without: tuple[str, ...] = ()) -> StarFile:
    """Like `read_tables`, with version and remarks returned instead of logged."""
    star, tables = _parse(path, without)
    star.blocks = tables
    return star


def _in_pandas(block: Parsed) -> Block:
    return block.frame() if isinstance(block, Table) else block


def _parse(path: Path | str, without: tuple[str, ...]) -> tuple[StarFile, dict[str, Parsed]]:
    star = StarFile(Path(path))
    tables = StarParser(star, _without_end(_read_text(star), without).split("\n")).run()
    if star.version > NEWEST_VERSION:
        star.notices.append(
            f"{path}: written by a newer RELION (version {star.version}) than is known here "
            f"({NEWEST_VERSION}); columns may have changed their meaning."
        )
    return star, tables


def _without_end(text: str, unwanted: tuple[str, ...]) -> str:
    """The text up to the blocks at its end whose names begin with one of the given words."""
    starts = tuple(f"\ndata_{name}" for name in unwanted)
    while starts and (begin := text.rfind("\ndata_")) >= 0 and text.startswith(starts, begin):
        text = text[: begin + 1]
    return text


def _read_text(star: StarFile) -> str:
    path = star.path
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a STAR file; give the file name.")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file (working directory {Path.cwd()}); correct the name."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: could not be read ({error.strerror}); check its permissions.") from error
    if not raw.strip():
        raise InputError(f"{path}: the file is empty; write it again (was the disk full?).")
    if b"\0" in raw[:65536]:
        raise InputError(
            f"{path}: is a binary file, not STAR text; is it an image stack in place of a table?"
        )
    # Undecodable bytes in file names survive the round trip this way.
    text = raw.decode("utf-8-sig", errors="surrogateescape")
    if "\r" in text:
        star.notices.append(
            f"{path}: has Windows line ends (CR LF), which RELION refuses; read all the same."
        )
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def write_star(
    path: Path | str,
    blocks: Mapping[str, Block | Table],
    comment: str = "",
    exact: bool | Container[str] = True,
) -> None:
    """Write blocks so that RELION 3.1 and newer read them; atomic.

    Parameters
    ----------
    blocks
        Name -> DataFrame or Table (loop) or mapping (list). Labels with or without the leading underscore.
        Values: text, numbers, switches (written 0/1), vectors (written [a,b,c]).
    comment
        Lines for the head of the file.
    exact
        True: numbers read back as the same doubles. False: RELION's six decimals, for tables of computed
        values. Or the labels of the columns to write exactly.

    Raises
    ------
    InputError
        The file can not be written, or a text can not be held by STAR.
    """
    with (
        atomic_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as out,
    ):
        out.writelines(f"# {line}\n" for line in comment.splitlines())
        for name, block in blocks.items():
            out.write(f"\n# version 30001\n\ndata_{name}\n\n")
            try:
                out.writelines(
                    _list_text(block, exact) if isinstance(block, Mapping) else _loop_text(block, exact)
                )
            except InputError as error:
                raise InputError(f"{path}, table data_{name}: {error}") from error
            out.write("\n")


def _list_text(block: Mapping[str, Any], exact: bool | Container[str]) -> Iterator[str]:
    for label, value in block.items():
        yield f"_{_bare(label):<45} {format_cell(value, _is_exact(label, exact))}\n"


def _loop_text(table: pd.DataFrame | Table, exact: bool | Container[str]) -> Iterator[str]:
    yield "loop_\n"
    for number, label in enumerate(table.columns, 1):
        yield f"_{_bare(label)} #{number}\n"
    all_digits = [_is_exact(label, exact) for label in table.columns]
    for start in range(0, len(table), CHUNK_ROWS):
        columns = _piece(table, slice(start, start + CHUNK_ROWS))
        if all(
            column.dtype.kind == "f" and not full for column, full in zip(columns, all_digits, strict=True)
        ):
            text = table_text(columns)
            if text is not None:
                yield text
                continue
        cells = [format_cells(column, full) for column, full in zip(columns, all_digits, strict=True)]
        rows = zip(*cells, strict=True)
        while batch := list(islice(rows, 1000)):
            yield "\n".join(map(" ".join, batch)) + "\n"


def _piece(table: pd.DataFrame | Table, rows: slice) -> list[npt.NDArray[Any]]:
    """Some rows of all columns."""
    if isinstance(table, Table):
        parts = [column[rows] for column in table.columns.values()]
        return [np.array(part, dtype=object) if isinstance(part, list) else part for part in parts]
    piece = table.iloc[rows]
    return [piece.iloc[:, i].to_numpy() for i in range(piece.shape[1])]


def _is_exact(label: str, exact: bool | Container[str]) -> bool:
    return exact if isinstance(exact, bool) else label in exact


def _bare(label: str) -> str:
    name = label.removeprefix("_")
    if not name or re.search(r"[\s#]", name):
        raise InputError(
            f"'{label}' can not be a label: it is empty or has blanks or '#'; rename the column."
        )
    return name
