"""Raw images on the device: read by threads through pinned memory, and kept from iteration to iteration (engine.md 6)."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ReadImages
from mpiapp.backend.gpu_kernels import Kernels, blocks
from mpiapp.backend.memory import images_held
from mpiapp.model.particles import ParticleData

# threads that read, each with a pinned buffer of this size (or of one image) and as much device memory
READERS = 8
BUFFER_BYTES = 16 << 20
# C++ types of what MRC files hold
STORED = {"i1": "signed char", "i2": "short", "u2": "unsigned short", "f2": "half", "f4": "float"}


def place_images(kernels: Kernels, images: Any, from_slot: Any, to_slot: Any, store: Any) -> None:
    """Images of any stored type to slots of a float32 store.

    Parameters
    ----------
    images : (any, box, box);  from_slot : (n,) int64 which of them, None for all in turn.
    to_slot : (n,) int64;  store : (any, box, box).
    """
    size = int(np.prod(store.shape[1:]))
    n, kind = size * int(to_slot.size), STORED[np.dtype(images.dtype).str[1:]]
    arguments = (images, from_slot, to_slot, size, np.int64(n), store)
    kernels.launch("images.cu", f"place_images<{kind}>", (blocks(n),), arguments)


class ImageCache:
    """Raw images kept on the device from iteration to iteration, as many as its share of memory holds.

    Parameters
    ----------
    limit
        Bytes that the images may take.
    readers
        Threads that read files.
    """

    def __init__(self, kernels: Kernels, limit: int, readers: int = READERS) -> None:
        self.kernels, self.limit, self.readers = kernels, limit, readers
        self.device = kernels.cupy.cuda.Device()
        self._slots: dict[int, int] = {}  # particle id: slot
        self._stores: dict[int, Any] = {}  # box: (n_slot, box, box) float32
        self._there: set[int] = set()  # particle ids whose images are in their slots
        self._jobs: dict[int, Future[None]] = {}  # particle id: what brings its image
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="images")
        self._own = threading.local()  # pinned buffer and stream of a reading thread

    @property
    def used(self) -> int:
        """Bytes that the images take."""
        return sum(store.nbytes for store in self._stores.values())

    def reserve(self, box: int, ids: NDArray[np.int64]) -> None:
        """Make room for particles that are not there yet; those that do not fit are read each time."""
        new = [int(i) for i in ids if int(i) not in self._slots]
        used = self.used
        store = self._stores.get(box)
        have = 0 if store is None else len(store)
        n = images_held(len(new), box, self.limit - used)
        if not n:
            return
        cupy = self.kernels.cupy
        bigger = cupy.empty((have + n, box, box), np.float32)
        if store is not None:
            bigger[:have] = store
        self._stores[box] = bigger
        self._slots.update({i: have + k for k, i in enumerate(new[:n])})

    def give_up(self) -> None:
        """Keep no images any more; those of coming batches are read for the batch alone."""
        self.settle()
        self.limit = 0
        self._slots, self._stores, self._there = {}, {}, set()

    def fetch(self, data: ParticleData, box: int, read: ReadImages) -> set[Future[None]]:
        """Begin to read the images of one box that have room and are not there yet, in the order of the particles.

        Returns
        -------
        What brings these images, those that were asked for before included; it may have failed already.
        """
        with self._lock:
            if len(self._there) == len(self._slots):
                return set()
            coming = [i in self._slots and i not in self._there for i in data.particle_id.tolist()]
            data = data.take(np.flatnonzero(coming))
            ids = data.particle_id.tolist()
            jobs = {self._jobs[i] for i in ids if i in self._jobs}
            new = data.take(np.flatnonzero([i not in self._jobs for i in ids]))
            slots = np.array([self._slots[i] for i in new.particle_id.tolist()], np.int64)
            for part in self._parts(len(new), box):
                some = new.take(part)
                job = self._pool.submit(self._keep, some, slots[part], self._stores[box], read)
                self._jobs.update(dict.fromkeys(some.particle_id.tolist(), job))
                jobs.add(job)
            return jobs

    def settle(self) -> None:
        """Give up what nobody has begun to read, and let the rest come to its end."""
        with self._lock:
            jobs = set(self._jobs.values())
        for job in jobs:
            job.cancel()
        wait(jobs)
        with self._lock:
            self._jobs.clear()

    def get(self, data: ParticleData, box: int, read: ReadImages) -> tuple[Any, Any]:
        """Images of some particles of one box: a store (n_slot, box, box) and their slots in it, (n,) int64.

        Raises
        ------
        InputError
            A stack can not be read.
        """
        cupy = self.kernels.cupy
        slots = np.array([self._slots.get(i, -1) for i in data.particle_id.tolist()])
        kept, others = np.flatnonzero(slots >= 0), np.flatnonzero(slots < 0)
        coming = self.fetch(data.take(kept), box, read)
        if not others.size:
            _finish(coming)
            return self._stores[box], cupy.asarray(slots)
        images = cupy.empty((len(data), box, box), np.float32)
        # the memory may still be in use by what this stream did before
        free = cupy.cuda.Event(disable_timing=True)
        free.record()
        rest = data.take(others)
        jobs = [
            self._pool.submit(self._load, rest.take(part), others[part], images, read, free)
            for part in self._parts(len(rest), box)
        ]
        _finish(coming)
        if kept.size:
            place_images(
                self.kernels, self._stores[box], cupy.asarray(slots[kept]), cupy.asarray(kept), images
            )
        _finish(jobs)
        return images, cupy.arange(len(data))

    def _parts(self, n: int, box: int) -> list[NDArray[np.int64]]:
        """Rows of n images for the readers: a buffer full each, but some for every one of them."""
        size = max(1, min(BUFFER_BYTES // (4 * box * box), -(-n // self.readers)))
        return [np.arange(first, min(first + size, n)) for first in range(0, n, size)]

    def _keep(self, data: ParticleData, slots: NDArray[np.int64], store: Any, read: ReadImages) -> None:
        """Bring images to their slots; those that fail can be asked for again."""
        ids = data.particle_id.tolist()
        try:
            self._load(data, slots, store, read, None)
        except BaseException:
            with self._lock:
                for i in ids:
                    self._jobs.pop(i, None)
            raise
        with self._lock:
            self._there.update(ids)

    def _load(
        self, data: ParticleData, slots: NDArray[np.int64], store: Any, read: ReadImages, free: Any
    ) -> None:
        """Read images into this thread's pinned memory, as stored, and widen them on the device; ends with that done."""
        cupy, shape = self.kernels.cupy, (len(data), *store.shape[1:])
        kind = read.stored_type(data.stack_index)
        images = self._pinned(int(np.prod(shape)) * kind.itemsize).view(kind).reshape(shape)
        read.read_into(images, data.stack_index, data.image_index)
        with self.device, self._stream() as stream:
            if free is not None:
                stream.wait_event(free)
            stored = cupy.empty(shape, kind)
            stored.set(images, stream=stream)
            place_images(self.kernels, stored, None, cupy.asarray(slots), store)
            stream.synchronize()

    def _pinned(self, size: int) -> NDArray[np.uint8]:
        """Bytes of this thread's buffer, which the device reads by itself where the system has such memory left."""
        held = getattr(self._own, "buffer", None)
        if held is None or held.size < size:
            from cupyx import empty_pinned

            try:
                with self.device:
                    held = empty_pinned((size,), np.uint8)
            except (MemoryError, RuntimeError):
                held = np.empty(size, np.uint8)
            self._own.buffer = held
        return held[:size]

    def _stream(self) -> Any:
        if not hasattr(self._own, "stream"):
            self._own.stream = self.kernels.cupy.cuda.Stream(non_blocking=True)
        return self._own.stream


def _finish(jobs: Collection[Future[None]]) -> None:
    """Wait for all, then raise what one of them raised: another try must not meet jobs that are bound to fail."""
    wait(jobs)
    for job in jobs:
        job.result()
