"""Arrays that refuse to meet host arrays, as those of a device do, in host memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import fft

from mpiapp.model import arrays


class StrictArray(np.ndarray):
    """A host array is refused as operand and as index; `get` copies to the host."""

    def get(self) -> np.ndarray:
        return np.array(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        _refuse(*inputs, *kwargs.get("out", ()))
        if "out" in kwargs:
            kwargs["out"] = tuple(plain(o) for o in kwargs["out"])
        found = getattr(ufunc, method)(*map(plain, inputs), **kwargs)
        return strict(found)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _call(function)(*args, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        _refuse(*(index if isinstance(index, tuple) else (index,)))
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse(value, *(index if isinstance(index, tuple) else (index,)))
        super().__setitem__(index, value)


def _refuse(*values: Any) -> None:
    for value in values:
        if type(value) is np.ndarray and value.ndim:
            raise TypeError("an array in host memory meets one of a device")


def plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return value.view(np.ndarray) if isinstance(value, StrictArray) else value


def strict(value: Any) -> Any:
    return value.view(StrictArray) if isinstance(value, np.ndarray) else value


def _call(function: Callable[..., Any], check: bool = True) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        if check:
            _refuse(*args, *kwargs.values())
        return strict(function(*plain(args), **{k: plain(v) for k, v in kwargs.items()}))

    return called


class _Module:
    """Functions of a module on such arrays."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        makes = name in ("asarray", "array")
        return _call(found, check=not makes) if callable(found) and not isinstance(found, type) else found


XP = _Module(np)


def _bincount(index: Any, weights: Any, n: int) -> Any:
    _refuse(index, weights)
    return strict(np.bincount(plain(index).ravel(), plain(weights), n)[:n])


def register() -> None:
    """Make these arrays known to `model.arrays`."""
    name = StrictArray.__module__.partition(".")[0]
    arrays.register(name, arrays.ArrayModule(XP, _Module(fft), _bincount))
