"""Arrays that behave as those on a device: no way to host memory but one, no mixing with host arrays.

They find, without a device, what CuPy refuses: NumPy functions on device arrays and host arrays in their arithmetic.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from mpiapp.model.arrays import ArrayModule, register


class StrictArray:
    """An array of which nothing but arithmetic, indexing and methods is known; `get` is the way to the host."""

    __array_ufunc__ = None

    def __init__(self, values: Any) -> None:
        object.__setattr__(self, "_values", values)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion of a device array to a host array")

    def get(self) -> Any:
        """A copy in host memory."""
        return np.array(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: Any) -> Any:
        return wrap(self._values[_index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._values[_index(key)] = unwrap(value)

    def __float__(self) -> float:
        return float(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._values, name, unwrap(value))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._values, name)
        return _method(found) if callable(found) else wrap(found)


def wrap(value: Any) -> Any:
    """Arrays and NumPy scalars become strict, as CuPy's functions return arrays without axes; others stay."""
    if isinstance(value, np.ndarray | np.generic):
        return StrictArray(value if isinstance(value, np.ndarray) else np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(map(wrap, value))
    return value


def unwrap(value: Any) -> Any:
    """What is in a strict array; host arrays with axes are refused."""
    if isinstance(value, StrictArray):
        return value._values
    if isinstance(value, tuple | list):
        return type(value)(map(unwrap, value))
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"host array of shape {value.shape} where a device array is needed")
    return value


def _index(key: Any) -> Any:
    """CuPy takes index arrays from the host."""
    parts = key if isinstance(key, tuple) else (key,)
    out = tuple(part._values if isinstance(part, StrictArray) else part for part in parts)
    return out if isinstance(key, tuple) else out[0]


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return wrap(function(*map(unwrap, arguments), **{k: unwrap(v) for k, v in named.items()}))

    return call


def _binary(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(operator, name)

    def forward(self: Any, other: Any) -> Any:
        return wrap(plain(self._values, unwrap(other)))

    return forward


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(operator, name)

    def backward(self: Any, other: Any) -> Any:
        return wrap(plain(unwrap(other), self._values))

    return backward


def _unary(name: str) -> Callable[[Any], Any]:
    plain = getattr(operator, name)
    return lambda self: wrap(plain(self._values))


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(operator, name)

    def change(self: Any, other: Any) -> Any:
        object.__setattr__(self, "_values", plain(self._values, unwrap(other)))
        return self

    return change


for _name in (
    "add",
    "matmul",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "and_",
    "or_",
    "xor",
    "rshift",
    "lshift",
):
    _bare = _name.rstrip("_")
    setattr(StrictArray, f"__{_bare}__", _binary(_name))
    setattr(StrictArray, f"__r{_bare}__", _reflected(_name))
    setattr(StrictArray, f"__i{_bare}__", _in_place(f"i{_bare}"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(StrictArray, f"__{_name}__", _binary(_name))
for _name in ("neg", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", _unary(_name))


class _Module:
    """NumPy's or SciPy's functions on strict arrays."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._source, name)
        return _method(found) if callable(found) and not isinstance(found, type) else found

    def asarray(self, values: Any, dtype: Any = None) -> StrictArray:
        """Copy from the host, or the same array."""
        return StrictArray(np.array(values.get() if isinstance(values, StrictArray) else values, dtype=dtype))


def _bincount(index: Any, weights: Any, n: int) -> Any:
    index, weights = unwrap(index), unwrap(weights)
    return wrap(np.bincount(index, weights, n)[:n])


def strict_module() -> ArrayModule:
    """The module of strict arrays, made known to `module_of`."""
    module = ArrayModule(_Module(np), _Module(scipy.fft), _bincount, lambda array: array.get())
    register(StrictArray.__module__.partition(".")[0], module)
    return module
