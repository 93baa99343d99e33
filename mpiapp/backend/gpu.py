"""The GPU backend: batches of particles on streams of one device (engine.md)."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import HalfModel, ImageOptions, ImagingSetup, ReadImages
from mpiapp.backend.batches import PARTICLES_OF_A_SUM, batches_of, neighbourhoods, runs_of
from mpiapp.backend.gpu_arrays import device_module, to_device
from mpiapp.backend.gpu_busy import BusyTime
from mpiapp.backend.gpu_cache import ImageCache
from mpiapp.backend.gpu_insertion import insert_particles
from mpiapp.backend.gpu_kernels import PRECISIONS, KernelClock, Kernels, Precision, blocks
from mpiapp.backend.gpu_memory import first_that_fits, free_unused, is_out_of_memory, too_small
from mpiapp.backend.gpu_task import Task
from mpiapp.backend.memory import CACHE_SHARE, required, slab_elements, stays_beside
from mpiapp.backend.score_precision import ScorePrecision
from mpiapp.backend.step_plan import LANES, load_of
from mpiapp.errors import DeviceError
from mpiapp.model.arrays import register
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.model.symmetry import PointGroup
from mpiapp.parallel.base import Team

T = TypeVar("T")


class GpuBackend:
    """Expectation and the loops of the maximization on one device.

    Parameters
    ----------
    device : index of the device among those visible.
    precision : auto, half, tf32, single or double: of the score products.
    memory : bytes of device memory to use at most, 0 for what is free.
    batch : images in work together, 0 for as many as fit;  clock : log the device's time by kernel.
    """

    lanes = LANES

    def __init__(
        self, device: int = 0, precision: str = "auto", memory: int = 0, batch: int = 0, clock: bool = False
    ) -> None:
        from mpiapp.backend.device_query import load_cupy

        self.cupy = load_cupy()
        self.device = self.cupy.cuda.Device(device)
        self.batch = batch
        with self.device:
            self.kernels = Kernels(self.cupy)
            self.kernels.clock = KernelClock(self.cupy) if clock else None
            free = int(self.cupy.cuda.runtime.memGetInfo()[0])
            self.memory = min(memory, free) if memory > 0 else free
            self.cupy.get_default_memory_pool().set_limit(size=int(0.95 * self.memory))
            self.cache = ImageCache(self.kernels, int(CACHE_SHARE * self.memory))
        self.busy = BusyTime(self.cupy)
        self.score_precision = ScorePrecision(precision)
        self.pool = ThreadPoolExecutor(LANES, thread_name_prefix="expectation")
        register("cupy", device_module(self.kernels, slab_elements(self.memory)))
        self.sums: list[Any] | None = None  # DeviceSums of each set, when there are several workers

    def expectation(
        self,
        setup: ImagingSetup,
        model: HalfModel,
        search: Search,
        data: ParticleData,
        poses: Poses,
        read: ReadImages,
        step: Callable[[int], bool],
    ) -> tuple[WeightedSums, Poses, NDArray[np.bool_]]:
        """See :class:`mpiapp.backend.base.Backend`."""
        begun = time.monotonic()
        with self.device:
            near_work = self.pool.submit(neighbourhoods, setup, search, poses)  # on processors
            task = self._make_task(setup, model, search, data, poses)
            near = near_work.result()
            out, bad = Poses.zeros(len(data)), np.zeros(len(data), bool)

            def work(rows: NDArray[np.int64]) -> None:
                if task.stopped:
                    return
                mine = data.take(rows)
                raw = self.cache.get(mine, setup.optics[int(mine.optics[0])].box, read)
                with self.busy.work():
                    part, bad[rows] = task.run(mine, poses.take(rows), raw, near, rows)
                out.put(rows, part)
                task.stopped = step(rows.size) or task.stopped

            batches = list(batches_of(setup, data, task.order(near), self.batch or task.plan.batch))
            try:
                for rows in batches:
                    self.cache.fetch(data.take(rows), setup.optics[int(data.optics[rows[0]])].box, read)
                for run in runs_of(batches, PARTICLES_OF_A_SUM):
                    self.in_batches(run, work)
                    task.settle()
            finally:
                self.cache.settle()
            sums = task.total()
            if task.errors is not None:
                self.score_precision.add(task.errors)
            self._report_kernels(time.monotonic() - begun)
            return sums, out, bad

    def back_project(
        self,
        setup: ImagingSetup,
        r_max: int,
        data: ParticleData,
        poses: Poses,
        read: ReadImages,
        options: ImageOptions,
        *,
        weights: NDArray[np.float64] | None = None,
        step: Callable[[int], object] = lambda n: None,
    ) -> tuple[Any, int]:
        """See :class:`mpiapp.backend.base.Backend`; a device array with a fourth, unused number a voxel."""
        with self.device:
            return insert_particles(
                self, setup, r_max, data, poses, read, options, weights=weights, step=step
            )

    def in_batches(
        self, batches: Sequence[NDArray[np.int64]], work: Callable[[NDArray[np.int64]], None]
    ) -> None:
        """Work on batches of particles on several streams; one for which memory does not suffice, again in halves.

        Parameters
        ----------
        work : called with rows; where it runs out of memory it must not have changed anything.

        Raises
        ------
        DeviceError
            Memory does not suffice for one particle.
        """
        streams: queue.Queue[Any] = queue.Queue()
        for _ in range(LANES):
            streams.put(self.cupy.cuda.Stream(non_blocking=True))
        self.cupy.cuda.get_current_stream().synchronize()

        def run(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            """Rows that are left, because memory did not suffice."""
            stream = streams.get()
            try:
                with self.device, stream:
                    work(rows)
                return rows[:0]
            except Exception as fault:
                if not is_out_of_memory(fault):
                    raise
            finally:
                streams.put(stream)
            # out of the handler, or the traceback would keep the arrays of what was tried
            free_unused(self.cupy)
            return rows

        jobs = [self.pool.submit(run, rows) for rows in batches]
        try:
            too_large = [job.result() for job in jobs]
        finally:  # after a fault nothing more is begun
            for job in jobs:
                job.cancel()
        for left in too_large:
            self._in_halves(run, left)

    def _in_halves(
        self, run: Callable[[NDArray[np.int64]], NDArray[np.int64]], rows: NDArray[np.int64]
    ) -> None:
        """A batch that did not fit, half of it at a time, and alone on the device."""
        if not rows.size:
            return
        free_unused(self.cupy)
        left = run(rows)
        if left.size == 1:
            used = self.cupy.get_default_memory_pool().used_bytes()
            what = "a batch of one particle at this image size and sampling"
            raise DeviceError(too_small(what, 0, self.memory, used, ""))
        for part in np.array_split(left, 2):
            self._in_halves(run, part)

    def _make_task(
        self, setup: ImagingSetup, model: HalfModel, search: Search, data: ParticleData, poses: Poses
    ) -> Task:
        """Tables and accumulators of a step; where memory is short without the tables that can be left out."""

        def task(tables: bool) -> Task:
            return Task(self, setup, model, search, data, poses, tables)

        def alone(tables: bool) -> Task:
            self.give_up_images()
            return task(tables)

        what = f"tables and sums of an expectation step at {2 * search.r_max} of {setup.box} px"
        ways = [lambda: task(True), lambda: task(True), lambda: task(False), lambda: alone(False)]
        needs = required(load_of(setup, search, len(model.transforms), len(data), self.precision.bytes))
        return first_that_fits(self.cupy, what, needs, self.memory, ways)

    def give_up_images(self) -> None:
        """Keep no more images on the device; they are read anew for each batch."""
        if self.cache.limit:
            logging.getLogger("mpiapp").warning(
                "images are no longer kept on the device, their memory is needed; they are read in each iteration"
            )
        self.cache.give_up()

    def within_memory(self, what: str, work: Callable[[], T], needs: int = 0) -> T:
        """See :class:`mpiapp.backend.base.Backend`."""

        def counted() -> T:
            with self.busy.work():
                return work()

        def with_idle_threads_ended() -> T:
            # transforms keep their work areas as long as the thread that made them
            self.pool.shutdown()
            self.pool = ThreadPoolExecutor(LANES, thread_name_prefix="expectation")
            free_unused(self.cupy)
            return counted()

        def alone() -> T:
            self.give_up_images()
            free_unused(self.cupy)
            return counted()

        with self.device:
            return first_that_fits(
                self.cupy, what, needs, self.memory, [counted, counted, with_idle_threads_ended, alone]
            )

    def take_busy(self) -> float | None:
        """See :class:`mpiapp.backend.base.Backend`."""
        with self.device:
            return self.busy.take()

    def take_score_error(self) -> float | None:
        """See :class:`mpiapp.backend.base.Backend`."""
        return self.score_precision.take()

    def judge_precision(self, error: float) -> list[str]:
        """See :class:`mpiapp.backend.base.Backend`."""
        return self.score_precision.judge(error)

    @property
    def precision(self) -> Precision:
        """How score products are made."""
        return PRECISIONS[self.score_precision.name]

    def _report_kernels(self, seconds: float) -> None:
        """Log device time by kernel, where it is counted."""
        log = logging.getLogger("mpiapp")
        if self.kernels.clock is not None:
            times = self.kernels.clock.take()
            busy = sum(ms for ms, _ in times.values())
            log.info(f" Device busy with kernels {busy / 1e3:.2f} of {seconds:.2f} s (streams overlap):")
            for name, (ms, launches) in list(times.items())[:12]:
                log.info(f"   {name:<28} {ms:9.1f} ms  {launches:5d} launches")

    def slices(
        self, volume: Any, radius: int, padding: float, matrices: NDArray[np.float64], kx: Any, ky: Any
    ) -> Any:
        """See :class:`mpiapp.backend.base.Backend`; a device array."""

        def work() -> Any:
            put, n, n_pix = self.cupy.asarray, len(matrices), int(kx.size)
            out = self.cupy.empty((2, n, n_pix), np.float32)
            side = 2 * radius + 1
            cube = put(volume).view(np.complex64).reshape(side, side, radius + 1)
            one = self.cupy.ones(n_pix, np.float32)
            flat = put(np.ascontiguousarray(matrices, np.float32).reshape(n, 9))
            arguments = (
                cube,
                None,
                radius,
                float(padding),
                flat,
                put(kx),
                put(ky),
                one,
                n_pix,
                n_pix,
                np.int64(n),
                out,
            )
            self.kernels.launch("slicing.cu", "slice_directions<float>", (blocks(n_pix), n), arguments)
            return out.transpose(1, 0, 2)

        return self.within_memory(f"{len(matrices)} slices of a map", work)

    def to_device(self, array: Any) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        what = f"an array of {array.shape}"
        return self.within_memory(what, lambda: to_device(self.cupy, array), array.nbytes)

    def stays(self, size: int) -> bool:
        """See :class:`mpiapp.backend.base.Backend`."""
        return stays_beside(size, self.memory)

    def reduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        if self.sums is None:
            return grid
        reduced = self.sums[s].reduce([] if grid is None else [grid])
        return reduced[0] if reduced else None

    def allreduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        if self.sums is None:
            return grid
        reduced = self.sums[s].allreduce([] if grid is None else [grid])
        return reduced[0] if reduced else None

    def symmetrise(self, sums: Any, group: PointGroup, padding: float) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        operators = np.ascontiguousarray(group.operators[1:]).reshape(-1, 9)
        if not len(operators):
            return sums

        def work() -> Any:
            out = sums.copy()
            arguments = (sums, sums.shape[2] - 1, self.cupy.asarray(operators), len(operators), out)
            self.kernels.launch("maps.cu", "symmetrise", (blocks(out.size // 4),), arguments)
            return out

        return self.within_memory("symmetrised sums", work, sums.nbytes)
