"""Which module an array belongs to, so that the science is written once for host and device arrays.

NumPy is known here; a backend on a device registers its own module when it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np


def _bincount(index: Any, weights: Any, n: int) -> Any:
    return np.bincount(index, weights, n)[:n]


class _HostFft:
    """scipy.fft, which is slow to load, from the first transform on: a job on a device has none on processors."""

    def __getattr__(self, name: str) -> Any:
        from scipy import fft

        return getattr(fft, name)


def _itself(array: Any) -> Any:
    return array


@dataclass(frozen=True)
class ArrayModule:
    """Array functions, one-dimensional transforms, and sums by bin of one kind of array.

    Attributes
    ----------
    xp : module with NumPy's functions.
    fft : object with rfft, irfft, fft, ifft and rfftn, irfftn, as scipy.fft has them.
    bincount : (index, weights or None, n) to (n,) sums; indices of n and more are left out.
    to_host : the array in host memory.
    slab : elements that are worked on at a time, where there is memory for what is made of them; 0 for few planes.
    """

    xp: Any
    fft: Any
    bincount: Callable[[Any, Any, int], Any]
    to_host: Callable[[Any], Any] = _itself
    slab: int = 0


SLAB = 16  # planes worked on at a time: the memory for what is made of them stays far below that of a map
_known = {"numpy": ArrayModule(np, _HostFft(), _bincount)}


def register(name: str, module: ArrayModule) -> None:
    """Make a kind of array known by the name of the package that defines it."""
    _known[name] = module


def module_of(array: Any) -> ArrayModule:
    """The module of an array; NumPy's for anything else."""
    return _known.get(type(array).__module__.partition(".")[0], _known["numpy"])


def to_host(array: Any) -> Any:
    """The array in host memory."""
    return module_of(array).to_host(array)


def slabs_of(array: Any) -> list[slice]:
    """Slices of the first axis, a slab each."""
    planes = max(SLAB, module_of(array).slab // max(array[0].size, 1))
    return [slice(start, start + planes) for start in range(0, len(array), planes)]


def in_slabs(work: Callable[[slice], Any], array: Any, workers: int = 1) -> list[Any]:
    """Results of working on some planes of an array after the other.

    Arrays in host memory are worked on by several threads, those on a device one after the other on the stream in use.

    Parameters
    ----------
    work : function of a slice of the first axis
    array : (planes, ...)
    workers : threads
    """
    parts = slabs_of(array)
    if workers == 1 or module_of(array) is not _known["numpy"]:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, parts))


def binned(arrays: ArrayModule, slabs: Iterable[tuple[Any, Any]], n: int) -> Any:
    """Sums by bin over slabs of (index, values or None)."""
    return sum(arrays.bincount(index, values, n) for index, values in slabs)
