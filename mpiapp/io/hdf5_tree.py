"""A nested dict as an HDF5 file, and back, with every type exactly as it was.

HDF5 does not survive a full disk (h5py then ends the process with a segmentation fault), so it never sees
one: it builds the file's structure in memory (`_SparseImage`), with the place of every array reserved but not
filled, and plain writes put structure and arrays on the disk. The arrays are not copied on the way.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py

_PAGE = 1 << 16
_LARGE = 1 << 20  # bytes of arrays that threads look after
_THREADS = 4
_NUMBERS = "biufc"  # kinds of NumPy types whose bytes are the same in HDF5


class _SparseImage(io.RawIOBase):
    """A file in memory of which only the pages that were written exist."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.size = 0
        self._position = 0

    def seekable(self) -> bool:
        return True

    readable = writable = seekable

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        )
        return self._position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for page, inside, piece in self._pieces(len(view)):
            self.pages.setdefault(page, bytearray(_PAGE))[inside] = view[piece]
        self._position += len(view)
        self.size = max(self.size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        for page, inside, piece in self._pieces(len(view)):
            view[piece] = self.pages[page][inside] if page in self.pages else bytes(piece.stop - piece.start)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def _pieces(self, length: int) -> list[tuple[int, slice, slice]]:
        """Pages that a span from the present position covers: page, part of the page, part of the span."""
        begin, end = self._position, self._position + length
        pieces = []
        for page in range(begin // _PAGE, -(-end // _PAGE)):
            low, high = max(begin, page * _PAGE), min(end, (page + 1) * _PAGE)
            pieces.append(
                (page, slice(low - page * _PAGE, high - page * _PAGE), slice(low - begin, high - begin))
            )
        return pieces


def write_tree(path: str | Path, tree: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Write a nested dict as HDF5. Not atomic, not synced: that is `atomic_file`.

    Parameters
    ----------
    tree : nested mapping
        Keys are str without ``/``. Values: mappings, arrays of numbers, bool or str of any shape, NumPy
        scalars, str, bool, int (of any size), float, None.
    attributes : mapping
        str and int attributes of the file.

    Raises
    ------
    OSError
        When the disk does not take it.
    TypeError, ValueError
        When something can not be stored exactly; the message names the key.
    """
    import h5py

    image = _SparseImage()
    arrays: list[tuple[int, np.ndarray]] = []
    with ThreadPoolExecutor(_THREADS) as pool, open(path, "wb") as target:
        # checksums of maps take about as long as writing them
        sums = {id(item): pool.submit(_checksum, item) for item in _large_arrays(tree)}
        # Since version 1.10 the format has checksums of its own structure.
        with h5py.File(image, "w", libver=("v110", "v110")) as file:
            file.attrs.update(attributes)
            _write_group(file, tree, arrays, sums, "")
        target.truncate(image.size)
        for page, content in image.pages.items():
            target.seek(page * _PAGE)
            target.write(memoryview(content)[: max(0, image.size - page * _PAGE)])
        target.flush()
        for _ in pool.map(lambda item: _write_at(target.fileno(), *item), arrays):
            pass


def read_tree(group: h5py.Group) -> dict[str, Any]:
    """Read a group that `write_tree` wrote, keys in the order in which they were written.

    Raises
    ------
    ValueError
        When a value is not what was written (CRC-32); the message names it.
    OSError, KeyError
        When the structure of the file is damaged.
    """
    import h5py

    found: dict[str, Any] = {}
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            found[str(key)] = read_tree(item)
        else:
            found[str(key)] = value = _decode(item)
            if _checksum(value) != item.attrs["crc32"]:
                raise ValueError(f"the checksum of {item.name} is wrong")
    return found


def tree_bytes(tree: Mapping[str, Any]) -> int:
    """Number of bytes of all arrays in a nested dict."""
    return sum(
        tree_bytes(item) if isinstance(item, Mapping) else int(getattr(item, "nbytes", 0))
        for item in tree.values()
    )


def _large_arrays(tree: Mapping[str, Any]) -> Iterator[np.ndarray]:
    for item in tree.values():
        if isinstance(item, Mapping):
            yield from _large_arrays(item)
        elif isinstance(item, np.ndarray) and item.nbytes >= _LARGE:
            yield item


def _write_at(file: int, offset: int, array: np.ndarray) -> None:
    content = _bytes_of(array)
    while len(content):
        done = os.pwrite(file, content, offset)
        content, offset = content[done:], offset + done


def _write_group(
    group: h5py.Group, tree: Mapping[str, Any], arrays: list[Any], sums: Mapping[int, Future[int]], where: str
) -> None:
    for key, item in tree.items():
        name = f"{where}/{key}"
        if not isinstance(key, str) or not key or "/" in key or key == ".":
            raise ValueError(f"{name}: a key of a checkpoint has to be a string without '/', not {key!r}")
        if isinstance(item, Mapping):
            _write_group(group.create_group(key, track_order=True), item, arrays, sums, name)
            continue
        if isinstance(item, np.ndarray) and item.dtype.kind in _NUMBERS and item.size:
            dataset = _reserve(group, key, item, arrays, name)
        else:
            dataset = _write_small(group, key, item, name)
        crc32 = sums[id(item)].result() if id(item) in sums else _checksum(item)
        _set_attribute(dataset, b"crc32", np.int64(crc32))


def _set_attribute(dataset: h5py.h5d.DatasetID, name: bytes, value: np.int64 | str) -> None:
    """As ``Dataset.attrs`` does; by the lower interface a checkpoint of small arrays takes 35 ms in place of 50."""
    import h5py

    content = np.array(value, h5py.string_dtype("utf-8") if isinstance(value, str) else np.int64)
    kind = h5py.h5t.py_create(content.dtype, logical=True)
    h5py.h5a.create(dataset, name, kind, h5py.h5s.create(h5py.h5s.SCALAR)).write(content)


def _reserve(
    group: h5py.Group, key: str, array: np.ndarray, arrays: list[Any], name: str
) -> h5py.h5d.DatasetID:
    """Make a dataset with a place in the file but no content; the array is put there afterwards."""
    import h5py

    if array.dtype.char in "gG":
        raise TypeError(f"{name}: arrays of {array.dtype} differ between machines; use float64 or complex128")
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dtype = h5py.h5t.py_create(array.dtype, logical=True)
    space = h5py.h5s.create_simple(array.shape) if array.ndim else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(group.id, key.encode(), dtype, space, plan)
    _set_attribute(dataset, b"kind", "array")
    arrays.append((dataset.get_offset(), np.ascontiguousarray(array)))
    return dataset


def _write_small(group: h5py.Group, key: str, item: Any, name: str) -> h5py.h5d.DatasetID:
    import h5py

    try:
        kind, content, dtype = _encode(item)
        array = np.asarray(content, dtype)
        stored = h5py.h5t.py_create(array.dtype, logical=True)
        space = h5py.h5s.create_simple(array.shape) if array.ndim else h5py.h5s.create(h5py.h5s.SCALAR)
        dataset = h5py.h5d.create(group.id, key.encode(), stored, space)
        if array.size:
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {item!r:.60} ({type(item).__name__}) can not be stored: {error}") from error
    _set_attribute(dataset, b"kind", kind)
    if kind == "str array":
        _set_attribute(dataset, b"dtype", item.dtype.str)
    return dataset


def _encode(item: Any) -> tuple[str, Any, Any]:
    """How a small value is stored: its kind, the content and type of the dataset."""
    import h5py

    text = h5py.string_dtype("utf-8")
    match item:
        case np.ndarray() if item.dtype.kind in _NUMBERS:
            return "array", item, item.dtype
        case np.ndarray() if item.dtype.kind == "U":
            return "str array", item.astype(object), text
        case np.generic() if item.dtype.kind in _NUMBERS:
            return "numpy scalar", item, item.dtype
        case bool():
            return "bool", item, np.dtype(bool)
        case int() if -(2**63) <= item < 2**63:
            return "int", item, np.dtype(np.int64)
        case int():  # longer, as in the state of a random generator
            return "int", str(item), text
        case float():
            return "float", item, np.dtype(np.float64)
        case str():
            return "str", item, text
        case None:
            return "none", 0, np.dtype(np.int8)
    raise TypeError("only numbers, strings, None, and arrays and dicts of them have a place in a checkpoint")


def _decode(dataset: h5py.Dataset) -> Any:
    """The value that `_encode` or `_reserve` stored, with its type."""
    content = dataset[()]
    match str(dataset.attrs["kind"]):
        case "array":
            return np.asarray(content, dtype=dataset.dtype)
        case "numpy scalar":
            return dataset.dtype.type(content)
        case "str array":
            strings = [item.decode("utf-8") for item in np.ravel(content)]
            return np.array(strings, dtype=dataset.attrs["dtype"]).reshape(dataset.shape)
        case "str":
            return content.decode("utf-8")
        case "bool":
            return bool(content)
        case "int":
            return int(content)
        case "float":
            return float(content)
        case "none":
            return None
    raise ValueError(f"{dataset.name} is of the unknown kind {dataset.attrs['kind']}")


def _checksum(item: Any) -> int:
    if isinstance(item, np.ndarray):
        return zlib.crc32(_bytes_of(np.ascontiguousarray(item)))
    return zlib.crc32(item.tobytes() if isinstance(item, np.generic) else repr(item).encode())


def _bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
