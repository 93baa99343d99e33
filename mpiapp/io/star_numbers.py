"""Text of large numeric tables by array arithmetic: RELION's six decimals without a Python call for each number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH = 14  # sign, one to six digits, point, six digits; or d.dddddd, e, sign, two digits
_SPACE, _ZERO, _MINUS, _PLUS, _POINT, _E, _LINE_END = (ord(c) for c in " 0-+.e\n")
Text = npt.NDArray[np.uint8]


def table_text(columns: Sequence[npt.NDArray[Any]]) -> str | None:
    """Lines of a table of numbers: six decimals, exponent form below 0.001 and above 100000.

    Parameters
    ----------
    columns
        (n,) float each, of one length.

    Returns
    -------
    str or None
        None when a number can not be written so (not finite, or an exponent of three digits).
    """
    if not columns:
        return None
    lines = np.full((len(columns[0]), len(columns), WIDTH + 1), _SPACE, np.uint8)
    for k, column in enumerate(columns):
        part = number_text(np.asarray(column, np.float64))
        if part is None:
            return None
        lines[:, k, :WIDTH] = part
    lines[:, -1, WIDTH] = _LINE_END
    return lines.tobytes().decode("ascii")


def number_text(values: npt.NDArray[np.float64]) -> Text | None:
    """(n, WIDTH) characters, right-aligned; None as in `table_text`."""
    size = np.abs(values)
    plain = (size == 0) | ((size >= 1e-3) & (size <= 1e5))
    rest = size[~plain]
    if not np.isfinite(values).all() or (rest.size and (rest.min() < 1e-98 or rest.max() > 1e98)):
        return None
    out = np.full((values.size, WIDTH), _SPACE, np.uint8)
    out[plain] = _decimal(size[plain], values[plain] < 0)
    out[~plain] = _exponent(rest, values[~plain] < 0)
    return out


def _decimal(size: npt.NDArray[np.float64], negative: npt.NDArray[np.bool_]) -> Text:
    scaled = np.rint(size * 1e6).astype(np.int64)
    out = np.full((size.size, WIDTH), _SPACE, np.uint8)
    _put_digits(out, scaled, range(WIDTH - 1, WIDTH - 7, -1))
    out[:, WIDTH - 7] = _POINT
    whole = scaled // 10**6
    first = np.full(size.size, WIDTH - 8)
    for place in range(6):
        column = WIDTH - 8 - place
        shown = (whole >= 10**place) | (place == 0)
        out[shown, column] = _ZERO + whole[shown] // 10**place % 10
        first[shown] = column
    rows = np.flatnonzero(negative)
    out[rows, first[rows] - 1] = _MINUS
    return out


def _exponent(size: npt.NDArray[np.float64], negative: npt.NDArray[np.bool_]) -> Text:
    power = np.floor(np.log10(size)) if size.size else size
    mantissa = np.rint(size / 10.0**power * 1e6).astype(np.int64)
    over, under = mantissa >= 10**7, mantissa < 10**6
    power = power + over - under
    mantissa = np.rint(size / 10.0**power * 1e6).astype(np.int64)
    out = np.full((size.size, WIDTH), _SPACE, np.uint8)
    out[:, 1] = np.where(negative, _MINUS, _SPACE)
    out[:, 2] = _ZERO + mantissa // 10**6 % 10
    out[:, 3] = _POINT
    _put_digits(out, mantissa, range(9, 3, -1))
    out[:, 10] = _E
    out[:, 11] = np.where(power < 0, _MINUS, _PLUS)
    _put_digits(out, np.abs(power).astype(np.int64), (13, 12))
    return out


def _put_digits(out: Text, numbers: npt.NDArray[np.int64], columns: Sequence[int]) -> None:
    """Write the last digits of numbers, the last of them into the first column named."""
    for column in columns:
        numbers, digit = np.divmod(numbers, 10)
        out[:, column] = _ZERO + digit
