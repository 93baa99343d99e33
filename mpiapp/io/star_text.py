"""Cells of STAR tables: splitting lines, text to values, values to text. No files here.

Numbers are written so that reading gives the same double (`exact`), or with RELION's six decimals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.labels import Kind, label_kind

Cells = npt.NDArray[Any] | list[str]

_TOKEN = re.compile(r"""[ \t]*(?:"(.*?)"(?=[ \t]|$)|'(.*?)'(?=[ \t]|$)|(\#.*)|([^ \t]+))""")
_NEEDS_QUOTES = re.compile(r"""\s|^[#_"']|^(?:data_|loop_)""")
_INT_LIMIT = 2**53


def split_line(line: str) -> list[str]:
    """Tokens of one line: split at blanks and tabs, quotes removed, a comment left out."""
    if '"' not in line and "'" not in line and "#" not in line and line.isascii():
        return line.split()
    tokens = []
    for double, single, comment, plain in _TOKEN.findall(line):
        if comment:
            break
        tokens.append(plain or double or single)
    return tokens


def convert_cells(label: str, cells: Sequence[str]) -> Cells:
    """Values of a column: int64 or float64 where the label allows and every cell is a number, else the text.

    A column without known type becomes whole numbers only when writing these gives the same text: "007"
    stays text. Text that is no number leaves the column as text; the reader of the column says which row.
    """
    kind = label_kind(label)
    if kind is Kind.TEXT or "_" in "".join(cells):  # Python reads "1_0" as 10, RELION does not
        return list(cells)
    objects = np.array(cells, dtype=object)
    if kind is not Kind.FLOAT:
        try:
            whole = objects.astype(np.int64)
        except (ValueError, OverflowError):
            pass
        else:
            same = kind is Kind.INT or list(map(str, whole.tolist())) == list(cells)
            return whole if same else list(cells)
    try:
        numbers: npt.NDArray[np.float64] = objects.astype(np.float64)
    except ValueError:
        return list(cells)
    # A whole number beyond 2^53 among the rest would lose digits as a double.
    big = np.flatnonzero(np.abs(numbers) > _INT_LIMIT).tolist()
    if kind is Kind.AUTO and any(cells[i].lstrip("+-").isdigit() for i in big):
        return list(cells)
    return numbers


def join_parts(parts: Sequence[Cells]) -> Cells | None:
    """One column from pieces converted apart; None where some are text and some are numbers."""
    if all(isinstance(part, list) for part in parts):
        return [cell for part in parts for cell in part]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) < len(parts):
        return None
    kinds = {part.dtype.kind for part in arrays}
    if kinds == {"i", "f"} and any(
        p.size and np.abs(p).max() > _INT_LIMIT for p in arrays if p.dtype.kind == "i"
    ):
        return None
    joined: npt.NDArray[Any] = np.concatenate(arrays)
    return joined


def format_floats(values: npt.NDArray[np.floating[Any]], exact: bool = True) -> list[str]:
    """Text of numbers, twelve wide.

    Parameters
    ----------
    values
        (n,) float32 or float64.
    exact
        Add digits where six decimals would not read back as the same number. Otherwise RELION's format:
        six decimals, exponent form below 0.001 and above 100000.
    """
    numbers = values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if exact:
            # k / 10^6 is the correctly rounded value of the text with six decimals, so this test is exact.
            plain = (np.rint(numbers * 1e6) / 1e6).astype(values.dtype) == values
            plain &= np.abs(numbers) < 1e9
        else:
            size = np.abs(numbers)
            plain = (size == 0) | ((size >= 1e-3) & (size <= 1e5))
    if not exact:
        shown = zip(numbers.tolist(), plain.tolist(), strict=True)
        return [f"{x:12.6f}" if simple else f"{x:12.6e}" for x, simple in shown]
    form = _single_exponent_form if values.dtype == np.float32 else _exponent_form
    shown = zip(numbers.tolist(), plain.tolist(), strict=True)
    return [f"{x:12.6f}" if simple else form(x).rjust(12) for x, simple in shown]


def _exponent_form(value: float) -> str:
    """Exponent form with six decimals, or with as many digits as needed to read back the same number."""
    text = f"{value:.6e}"
    return text if float(text) == value or not isfinite(value) else repr(value)


def _single_exponent_form(value: float) -> str:
    """As :func:`_exponent_form` for a number in single precision."""
    text = f"{value:.6e}"
    return text if np.float32(text) == value or not isfinite(value) else f"{value:.9g}"


def format_cells(values: npt.NDArray[Any], exact: bool = True) -> list[str]:
    """Text of one column, whatever its type; strings are quoted where RELION needs it."""
    kind = values.dtype.kind
    if kind in "biu":
        return [f"{int(x):12d}" for x in values.tolist()]
    if kind == "f":
        return format_floats(values, exact)
    return [format_cell(x, exact) for x in values.tolist()]


def format_cell(value: Any, exact: bool = True) -> str:
    """Text of one cell: string, number, switch or vector.

    Raises
    ------
    InputError
        A string that STAR can not hold (line break, or blanks with both kinds of quotes), or no value.
    """
    if isinstance(value, str):
        return _quote(value) if not value or _NEEDS_QUOTES.search(value) else value
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return f"{int(value):12d}"
    if isinstance(value, (float, np.floating)):
        return format_floats(np.atleast_1d(np.asarray(value)), exact)[0]
    if isinstance(value, (list, tuple, np.ndarray)):
        return "[" + ",".join(f"{float(x):.12g}" for x in value) + "]"
    raise InputError(
        f"a STAR table can not hold the value {value!r} ({type(value).__name__}); give text or a number."
    )


def _quote(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise InputError(f"a STAR table can not hold the text {text!r}: it has a line break; remove it.")
    for mark in ('"', "'"):
        # A quote closes only before a blank, so the same mark inside a word does no harm.
        if not re.search(mark + r"(?=\s|$)", text):
            return f"{mark}{text}{mark}"
    raise InputError(
        f"a STAR table can not hold the text {text!r}: it has blanks and both kinds of quotes; rename it."
    )
