"""Particle images from many stacks: a bounded number of open files, sorted reading, any thread, into any memory."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.mrc_header import check_complete, open_data, read_header

# buffers that one call of the system takes (IOV_MAX)
MOST_BUFFERS = 1024
# images that are converted at a time, bytes as stored
CONVERTED_BYTES = 4 << 20


class ImageReader:
    """Reads particle images, by default as float32, whatever their type in the file.

    Parameters
    ----------
    stack_paths
        Paths of the stacks; `stack_index` of `read` counts in this list.
    max_open
        Files kept open, least recently used are closed first. None: 256, fewer where the system
        allows fewer open files.

    Notes
    -----
    Any number of threads may read by one reader. A file that is closed while another thread reads from it
    lives on until that is done. Files are read, not mapped: a page fault for every 4 KiB costs more than the copy.
    """

    def __init__(self, stack_paths: Sequence[Path | str], max_open: int | None = None) -> None:
        self.stack_paths = [Path(path) for path in stack_paths]
        self.max_open = _open_limit() if max_open is None else max(1, max_open)
        self._open: OrderedDict[int, _Stack] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_open(self) -> int:
        """Number of files open now."""
        return len(self._open)

    def close(self) -> None:
        """Close all files; the reader can be used again afterwards."""
        with self._lock:
            self._open.clear()

    def read(self, stack_index: npt.ArrayLike, image_index: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Images in the order asked for.

        Parameters
        ----------
        stack_index
            (m,) index into `stack_paths`.
        image_index
            (m,) 0-based number of the image in its stack.

        Returns
        -------
        images
            (m, box, box) float32, a copy in native byte order.

        Raises
        ------
        InputError
            A stack is missing or truncated, has not that many images, or boxes differ within the call.
        """
        stacks = np.asarray(stack_index, dtype=np.int64).ravel()
        if not stacks.size:
            return np.empty((0, 0, 0), np.float32)
        out = np.empty((stacks.size, *self._stack(int(stacks[0])).box), np.float32)
        self.read_into(out, stacks, image_index)
        return out

    def __call__(self, stack_index: npt.ArrayLike, image_index: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """As `read`."""
        return self.read(stack_index, image_index)

    def stored_type(self, stack_index: npt.ArrayLike) -> np.dtype[Any]:
        """Type of the images of some stacks in native byte order, float32 where these differ.

        Raises
        ------
        InputError
            A stack is missing or truncated.
        """
        types = {self._stack(int(s)).dtype for s in np.unique(np.asarray(stack_index, np.int64))}
        return types.pop() if len(types) == 1 else np.dtype(np.float32)

    def read_into(
        self, out: npt.NDArray[Any], stack_index: npt.ArrayLike, image_index: npt.ArrayLike
    ) -> None:
        """Images in the order asked for, into memory of the caller.

        Parameters
        ----------
        out
            (m, box, box) contiguous, native byte order: float32, or `stored_type`, which takes no conversion.
        stack_index, image_index
            (m,), as for `read`.

        Raises
        ------
        InputError
            As `read`; also boxes other than that of `out`.
        """
        stacks = np.asarray(stack_index, dtype=np.int64).ravel()
        images = np.asarray(image_index, dtype=np.int64).ravel()
        if not stacks.shape == images.shape == out.shape[:1]:
            raise ValueError(
                f"{stacks.size} stack numbers for {images.size} image numbers and {len(out)} images"
            )
        if not out.flags.c_contiguous:
            raise ValueError("images are read into contiguous memory only")
        # Files one after the other, and forwards within each: disks and read-ahead reward it.
        order = np.lexsort((images, stacks))
        starts = np.flatnonzero(np.diff(stacks[order], prepend=-1) != 0)
        for rows in np.split(order, starts[1:]) if order.size else []:
            stack = self._stack(int(stacks[rows[0]]))
            stack.check(images[rows])
            if stack.box != out.shape[1:]:
                raise InputError(
                    f"{stack.header.path}: box {stack.box} differs from {out.shape[1:]} of another stack read "
                    f"with it; particles of one optics group must have one box size."
                )
            stack.read(out, rows, images[rows])

    def _stack(self, number: int) -> _Stack:
        with self._lock:
            stack = self._open.get(number)
            if stack is None:
                stack = _Stack(self.stack_paths[number])
                self._open[number] = stack
                while len(self._open) > self.max_open:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return stack


class _Stack:
    """A stack that is open; it is closed when nobody refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.header = read_header(path)
        self.box: tuple[int, ...] = self.header.shape[1:]
        self.dtype = self.header.dtype.newbyteorder("=")
        self._unpacked = open_data(self.header) if self.header.compressed else None
        check_complete(self.header)
        self._file = -1
        if self._unpacked is None:
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    def check(self, images: npt.NDArray[np.int64]) -> None:
        """Refuse image numbers (ascending) that the stack does not have."""
        if images[0] < 0 or images[-1] >= self.header.n_images:
            wrong = images[-1] if images[0] >= 0 else images[0]
            raise InputError(
                f"{self.header.path}: image {wrong + 1} was asked for, the stack has "
                f"{self.header.n_images}; the particle table and the stack do not belong together."
            )

    def read(self, out: npt.NDArray[Any], rows: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> None:
        """Images of ascending numbers into rows of an array."""
        if self._unpacked is not None:
            for row, image in zip(rows, images, strict=True):
                out[row] = self._unpacked[image]  # one copy; a list of numbers would make two
        elif out.dtype == self.dtype:
            self._fill(out, rows, images)
            if not self.header.dtype.isnative:
                for row in rows:
                    out[row].byteswap(inplace=True)
        else:
            count = max(1, CONVERTED_BYTES // (self.dtype.itemsize * self.box[0] * self.box[1]))
            for first in range(0, rows.size, count):
                some = images[first : first + count]
                stored = np.empty((some.size, *self.box), self.header.dtype)
                self._fill(stored, np.arange(some.size), some)
                out[rows[first : first + count]] = stored

    def _fill(
        self, out: npt.NDArray[Any], rows: npt.NDArray[np.int64], images: npt.NDArray[np.int64]
    ) -> None:
        """Bytes of images as they are in the file; runs of them at once."""
        of_row = out.view(np.uint8).reshape(len(out), -1)
        edges = np.flatnonzero(np.diff(images, prepend=-2, append=-2) != 1)
        for first, last in pairwise(edges):
            for a in range(int(first), int(last), MOST_BUFFERS):
                b = min(a + MOST_BUFFERS, int(last))
                self._read_bytes(
                    [memoryview(of_row[row]) for row in rows[a:b]], int(images[a]) * of_row.shape[1]
                )

    def _read_bytes(self, buffers: list[memoryview], offset: int) -> None:
        offset += self.header.data_offset
        while buffers:
            try:
                n = os.preadv(self._file, buffers, offset)
            except OSError as fault:
                raise InputError(
                    f"{self.header.path}: could not be read ({fault}); check the disk."
                ) from fault
            if n == 0:
                raise InputError(
                    f"{self.header.path}: was cut off while it was read; copy or write it again."
                )
            offset += n
            while buffers and n >= buffers[0].nbytes:
                n -= buffers.pop(0).nbytes
            if n:
                buffers[0] = buffers[0][n:]


def finite_images(images: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which images (n, y, x) hold no NaN and no infinity: (n,) bool."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = images.reshape(len(images), -1).sum(axis=1, dtype=np.float32)
    good: npt.NDArray[np.bool_] = np.isfinite(sums)
    # A sum may overflow though each value is fine: look closely, but only at those.
    for row in np.flatnonzero(~good):
        good[row] = bool(np.isfinite(images[row]).all())
    return good


def _open_limit() -> int:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 256
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if soft == resource.RLIM_INFINITY else max(8, min(256, soft // 4))
