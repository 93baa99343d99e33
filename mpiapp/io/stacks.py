"""Particle images from many stacks: a bounded number of memory maps, sorted reading, any thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.mrc_header import open_data, read_header


class ImageReader:
    """Reads particle images as float32, whatever their type in the file.

    Parameters
    ----------
    stack_paths
        Paths of the stacks; `stack_index` of `read` counts in this list.
    max_open
        Memory maps kept open, least recently used are closed first. None: 256, fewer where the system
        allows fewer open files.

    Notes
    -----
    Any number of threads may call `read` on one reader. A map that is closed while another thread copies from
    it lives on until that copy is done.
    """

    def __init__(self, stack_paths: Sequence[Path | str], max_open: int | None = None) -> None:
        self.stack_paths = [Path(path) for path in stack_paths]
        self.max_open = _open_limit() if max_open is None else max(1, max_open)
        self._maps: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_open(self) -> int:
        """Number of maps open now."""
        return len(self._maps)

    def close(self) -> None:
        """Close all maps; the reader can be used again afterwards."""
        with self._lock:
            self._maps.clear()

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
        images = np.asarray(image_index, dtype=np.int64).ravel()
        if stacks.shape != images.shape:
            raise ValueError(f"{stacks.size} stack numbers for {images.size} image numbers")
        if not stacks.size:
            return np.empty((0, 0, 0), np.float32)
        # Files one after the other, and forwards within each: disks and read-ahead reward it.
        order = np.lexsort((images, stacks))
        starts = np.flatnonzero(np.r_[True, np.diff(stacks[order]) != 0])
        out: npt.NDArray[np.float32] | None = None
        for rows in np.split(order, starts[1:]):
            number = int(stacks[rows[0]])
            data = self._map(number)
            self._check(number, data, images[rows])
            if out is None:
                out = np.empty((stacks.size, *data.shape[1:]), np.float32)
            if out.shape[1:] != data.shape[1:]:
                raise InputError(
                    f"{self.stack_paths[number]}: box {data.shape[1:]} differs from {out.shape[1:]} of "
                    f"another stack read with it; particles of one optics group must have one box size."
                )
            for row, image in zip(rows, images[rows], strict=True):
                out[row] = data[image]  # one copy; a list of numbers would make two
        assert out is not None
        return out

    def _check(self, number: int, data: npt.NDArray[Any], images: npt.NDArray[np.int64]) -> None:
        if images[0] < 0 or images[-1] >= data.shape[0]:
            wrong = images[-1] if images[0] >= 0 else images[0]
            raise InputError(
                f"{self.stack_paths[number]}: image {wrong + 1} was asked for, the stack has "
                f"{data.shape[0]}; the particle table and the stack do not belong together."
            )

    def _map(self, number: int) -> npt.NDArray[Any]:
        with self._lock:
            data = self._maps.get(number)
            if data is None:
                data = open_data(read_header(self.stack_paths[number]))
                self._maps[number] = data
                while len(self._maps) > self.max_open:
                    self._maps.popitem(last=False)
            self._maps.move_to_end(number)
            return data


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
