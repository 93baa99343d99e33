"""The CPU backend: batches of particles on threads, products by BLAS, inner loops by numba (engine.md 10)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mpiapp.backend.base import HalfModel, ImageOptions, ImagingSetup, ReadImages
from mpiapp.backend.batches import batches_of, neighbourhoods
from mpiapp.backend.insertion import back_project
from mpiapp.backend.task import Task
from mpiapp.kernels.slicing import slice_directions
from mpiapp.kernels.symmetrise import symmetrise_planes
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.model.symmetry import PointGroup
from mpiapp.parallel.base import Team

F32 = NDArray[np.float32]
T = TypeVar("T")
BATCH = 32


class CpuBackend:
    """Expectation on the cores of one process."""

    def __init__(self, threads: int, table_bytes: int = 1 << 30) -> None:
        self.threads = max(1, threads)
        self.table_bytes = table_bytes
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="expectation")

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
        with threadpool_limits(1):
            lanes = min(self.threads, max(1, -(-len(data) // BATCH)))
            task = Task(setup, model, search, len(data), lanes, self.slices, self.table_bytes)
            near = neighbourhoods(setup, search, poses)
            out = Poses.zeros(len(data))
            bad = np.zeros(len(data), bool)

            def run(rows: NDArray[np.int64]) -> None:
                if task.stopped:
                    return
                lane = task.lanes.get()
                try:
                    part, bad[rows] = task.run(lane, data.take(rows), poses.take(rows), read, near, rows)
                    out.put(rows, part)
                finally:
                    task.lanes.put(lane)
                task.stopped = step(rows.size) or task.stopped

            jobs = [self.pool.submit(run, rows) for rows in batches_of(setup, data, task.order(near), BATCH)]
            try:
                for job in jobs:
                    job.result()
            finally:  # after a fault nothing more is begun
                for job in jobs:
                    job.cancel()
            return task.total(), out, bad

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
    ) -> tuple[NDArray[np.float64], int]:
        """See :class:`mpiapp.backend.base.Backend`."""
        return back_project(
            setup, r_max, data, poses, read, options, weights=weights, threads=self.threads, step=step
        )

    def slices(
        self, volume: F32, radius: int, padding: float, matrices: NDArray[np.float64], kx: F32, ky: F32
    ) -> F32:
        """Slices at psi = 0 of many directions on all threads: (n, 2, n_pix) float32."""
        out = np.empty((len(matrices), 2, kx.size), np.float32)
        m = np.ascontiguousarray(matrices, np.float32)
        bounds = np.linspace(0, len(m), min(4 * self.threads, max(1, len(m))) + 1).astype(int)
        jobs = [
            self.pool.submit(slice_directions, volume, radius, np.float32(padding), m[a:b], kx, ky, out[a:b])
            for a, b in pairwise(bounds)
        ]
        for job in jobs:
            job.result()
        return out

    def to_device(self, array: NDArray[Any]) -> NDArray[Any]:
        """See :class:`mpiapp.backend.base.Backend`."""
        return array

    def stays(self, size: int) -> bool:
        """See :class:`mpiapp.backend.base.Backend`."""
        return True

    def within_memory(self, what: str, work: Callable[[], T], needs: int = 0) -> T:
        """See :class:`mpiapp.backend.base.Backend`."""
        return work()

    def take_busy(self) -> float | None:
        """See :class:`mpiapp.backend.base.Backend`."""
        return None

    def take_score_error(self) -> float | None:
        """See :class:`mpiapp.backend.base.Backend`."""
        return None

    def judge_precision(self, error: float) -> list[str]:
        """See :class:`mpiapp.backend.base.Backend`."""
        return []

    def reduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        reduced = team.reduce_set(s, [] if grid is None else [grid])
        return reduced[0] if reduced and team.is_root(s) else None

    def allreduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        reduced = team.allreduce_set(s, [] if grid is None else [grid])
        return reduced[0] if reduced else None

    def symmetrise(self, sums: NDArray[np.float64], group: PointGroup, padding: float) -> NDArray[np.float64]:
        """See :class:`mpiapp.backend.base.Backend`."""
        operators = np.ascontiguousarray(group.operators[1:])
        if not len(operators):
            return sums
        out = sums.copy()
        radius = sums.shape[2] - 1
        planes = np.linspace(0, sums.shape[0], 8 * self.threads + 1).astype(int)
        jobs = [
            self.pool.submit(symmetrise_planes, sums, radius, operators, a, b, out)
            for a, b in pairwise(planes)
        ]
        for job in jobs:
            job.result()
        return out
