"""Arrays as flat buffers of bounded size, in host memory or on a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .base import Array


def as_buffer(array: Array) -> Array:
    """The array C-contiguous, without a copy where it is so already."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise TypeError(f"arrays of {array.dtype} can not be sent as a buffer")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def byte_pieces(array: Array, piece_bytes: int) -> Iterator[Array]:
    """Views of a contiguous array as consecutive runs of at most `piece_bytes` bytes."""
    flat = array.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, piece_bytes):
        yield flat[start : start + piece_bytes]


def as_numbers(array: Any) -> Any:
    """A flat view of a contiguous array (NumPy or CuPy); complex numbers as pairs of reals."""
    flat = array.reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def number_pieces(array: Any, piece_bytes: int) -> Iterator[Any]:
    """Views of a contiguous array as consecutive runs of whole numbers; complex ones as pairs of reals."""
    flat = as_numbers(array)
    step = max(piece_bytes // flat.itemsize, 1)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]
