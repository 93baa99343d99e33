"""The CPU backend: batches of particles on threads, products by BLAS, inner loops by numba (engine.md 10)."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mpiapp.backend.arguments import (
    log_direction_prior,
    log_shift_prior,
    make_map_side,
    make_optics,
    make_phases,
    make_pixels,
    make_turns,
)
from mpiapp.backend.base import HalfModel, ImagingSetup, ReadImages
from mpiapp.backend.batches import batches_of, neighbourhoods, rows_of
from mpiapp.backend.prepare import PreparedBatch, prepare_batch
from mpiapp.backend.results import batch_results
from mpiapp.kernels.arguments import MapSide, Pixels, Scratch, scratch
from mpiapp.kernels.coarse import global_search, local_search
from mpiapp.kernels.fine import Family, Grid, fine_pass
from mpiapp.kernels.slicing import CHUNK, slice_directions
from mpiapp.kernels.symmetrise import symmetrise_planes
from mpiapp.model.local_search import LocalNeighbourhoods
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.model.symmetry import PointGroup
from mpiapp.parallel.base import Team

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
BATCH = 32
PHASE_BYTES = 128 << 20
# A table of all slices pays when it has at most this many directions for every particle
TABLE_DIRECTIONS_PER_PARTICLE = 8


@dataclass
class Lane:
    """What one thread owns during an expectation step."""

    grid: Grid
    coarse: Scratch
    fine: Scratch
    sums: WeightedSums


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
            task = _Task(self, setup, model, search, len(data))
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

            for done in [
                self.pool.submit(run, rows) for rows in batches_of(setup, data, task.order(near), BATCH)
            ]:
                done.result()
            return task.total(), out, bad

    def slices(
        self, volume: F32, radius: int, padding: float, matrices: NDArray[np.float64], kx: F32, ky: F32
    ) -> F32:
        """Slices at psi = 0 of many directions on all threads: (n, 2, n_pix) float32."""
        out = np.empty((len(matrices), 2, kx.size), np.float32)
        m = np.ascontiguousarray(matrices, np.float32)
        parts = np.array_split(np.arange(len(m)), min(4 * self.threads, max(1, len(m))))
        jobs = [
            self.pool.submit(
                slice_directions,
                volume,
                radius,
                np.float32(padding),
                m[p[0] : p[-1] + 1],
                kx,
                ky,
                out[p[0] : p[-1] + 1],
            )
            for p in parts
            if p.size
        ]
        for job in jobs:
            job.result()
        return out

    def to_device(self, array: NDArray[Any]) -> NDArray[Any]:
        """See :class:`mpiapp.backend.base.Backend`."""
        return array

    def reduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """See :class:`mpiapp.backend.base.Backend`."""
        reduced = team.reduce_set(s, [] if grid is None else [grid])
        return reduced[0] if reduced and team.is_root(s) else None

    def symmetrise(self, sums: NDArray[np.float64], group: PointGroup, padding: float) -> NDArray[np.float64]:
        """See :class:`mpiapp.backend.base.Backend`."""
        out = sums.copy()
        operators = np.ascontiguousarray(group.operators[1:])
        if len(operators):
            radius = sums.shape[2] - 1
            planes = np.linspace(0, sums.shape[0], 8 * self.threads + 1).astype(int)
            jobs = [
                self.pool.submit(symmetrise_planes, sums, radius, operators, a, b, out)
                for a, b in pairwise(planes)
            ]
            for job in jobs:
                job.result()
        return out


def _set_aside(
    bad: NDArray[np.bool_], offsets: NDArray[np.int64], states: I32, priors: F32
) -> tuple[NDArray[np.int64], I32, F32]:
    """States of a batch without those of bad images: an image without states adds nothing to any sum."""
    count = np.diff(offsets)
    kept = np.repeat(~bad, count)
    starts = np.concatenate([[0], np.cumsum(np.where(bad, 0, count))]).astype(np.int64)
    return starts, states[kept], priors[kept]


class _Task:
    """One expectation step of one half: tables, lanes, and the work on a batch."""

    def __init__(
        self, backend: CpuBackend, setup: ImagingSetup, model: HalfModel, search: Search, n_particles: int
    ) -> None:
        self.backend, self.setup, self.model, self.search = backend, setup, model, search
        self.stopped = False
        self.n_particles = n_particles
        self.padding = np.float32(setup.padding)
        self.radius = model.transform.shape[2] - 1
        self.volume = np.ascontiguousarray(model.transform).view(np.float32).ravel()
        self.coarse_pixels = make_pixels(setup, search.r_coarse)
        self.fine_pixels = make_pixels(setup, search.r_max)
        correlate = search.correlate
        psi = search.grid.psi_deg
        if search.sigma_deg is None:
            psi = psi[: psi.size // 2]
        self.coarse_turns = make_turns(psi, search.coarse_shifts_A)
        self.coarse_psi_deg = psi.astype(np.float32)
        self.fine_turns = make_turns(search.fine_psi_deg, search.fine_shifts_A)
        self.coarse_optics = make_optics(setup, model, self.coarse_pixels, psi, correlate)
        self.fine_optics = make_optics(setup, model, self.fine_pixels, search.fine_psi_deg, correlate)
        none = np.zeros((1, 2))
        self.coarse_phases = make_phases(
            self.coarse_optics,
            self.coarse_pixels,
            self.coarse_turns,
            search.coarse_shifts_A,
            none,
            PHASE_BYTES,
        )
        offsets = search.fine_shifts_A[: search.children] - search.coarse_shifts_A[0]
        self.fine_phases = make_phases(
            self.fine_optics, self.fine_pixels, self.fine_turns, search.coarse_shifts_A, offsets, PHASE_BYTES
        )
        self.log_direction = log_direction_prior(model.direction_prior)
        self.family = Family(search.children, 2**search.oversampling, search.children)
        self.fine_matrices = np.ascontiguousarray(search.fine_matrices, np.float32)
        kinds = {(o.box, o.pixel_size_A) for o in setup.optics}
        self.map_sides = {kind: make_map_side(setup, model, search, *kind) for kind in kinds}
        self._make_tables(n_particles)
        self.lanes: queue.Queue[Lane] = queue.Queue()
        self.all_lanes = [self._lane() for _ in range(min(backend.threads, max(1, -(-n_particles // BATCH))))]
        for lane in self.all_lanes:
            self.lanes.put(lane)

    def _pays(self, n_rows: int, n_pix: int, n_particles: int) -> bool:
        """Whether to slice all directions once rather than those that a batch needs."""
        small = 8 * n_rows * n_pix <= self.backend.table_bytes
        return small and n_rows <= TABLE_DIRECTIONS_PER_PARTICLE * max(n_particles, 64)

    def _make_tables(self, n_particles: int) -> None:
        search = self.search
        self.coarse_table: F32 | None = None
        self.fine_table: F32 | None = None
        n = search.n_directions
        if search.sigma_deg is None or self._pays(n, self.coarse_pixels.qx.size, n_particles):
            table = self.slices(search.coarse_matrices, self.coarse_pixels)
            if search.sigma_deg is None:
                self.global_table = np.ascontiguousarray(table.transpose(1, 0, 2))
                self.global_power = table[:, 0] ** 2 + table[:, 1] ** 2
            self.coarse_table = table
        if self._pays(n * search.children, self.fine_pixels.qx.size, n_particles):
            self.fine_table = self.slices(self.fine_matrices, self.fine_pixels)

    def order(self, near: LocalNeighbourhoods | None) -> NDArray[np.int64]:
        """Order of the particles: as they come, or by direction where a batch slices what it needs itself.

        Neighbours on the sphere need the same slices; grid directions are numbered so that near ones are near.
        """
        n = self.n_particles
        if near is None or self.fine_table is not None:
            return np.arange(n)
        return np.argsort(near.direction[near.offsets[:-1]], kind="stable")

    def slices(self, matrices: NDArray[np.floating], pixels: Pixels) -> F32:
        """Slices of the half's reference on all threads."""
        return self.backend.slices(
            self.volume,
            self.radius,
            float(self.padding),
            matrices @ self.model.frame,
            pixels.qx,
            pixels.qy,  # type: ignore[attr-defined]
        )

    def _lane(self) -> Lane:
        n_pix = self.fine_pixels.qx.size
        size = (2 * self.radius + 1) ** 2 * (self.radius + 1)
        n_still = max(side.kx.shape[1] for side in self.map_sides.values())
        grid = Grid(
            np.zeros((size, 4), np.float32),
            self.radius,
            self.padding,
            np.empty(n_still, np.float32),
            np.empty(CHUNK, np.int32),
            np.empty((4, CHUNK), np.float32),
        )
        sums = WeightedSums.zeros(
            0, len(self.setup.optics), self.setup.n_shells, self.setup.n_groups, self.search.n_directions
        )
        return Lane(grid, scratch(self.coarse_pixels.qx.size), scratch(n_pix), sums)

    def run(
        self,
        lane: Lane,
        data: ParticleData,
        poses: Poses,
        read: ReadImages,
        near: LocalNeighbourhoods | None,
        rows: NDArray[np.int64],
    ) -> tuple[Poses, NDArray[np.bool_]]:
        """Both passes and the sums of one batch."""
        batch = prepare_batch(self.setup, self.model, self.search.r_max, data, poses, read)
        log_shift, shift_square = log_shift_prior(self.search, batch.old_A, self.model.sigma_offset_A)
        offsets, states, priors = self._coarse(lane, batch, log_shift, near, rows)
        if batch.bad.any():
            offsets, states, priors = _set_aside(batch.bad, offsets, states, priors)
        table, row_of, matrices = self._fine_slices(states)
        still = self._map_side(data)._replace(rows=batch.rows)
        posterior = fine_pass(
            batch.images,
            self.fine_optics,
            self.fine_pixels,
            self.fine_turns,
            self.fine_phases,
            self.family,
            offsets,
            states,
            self.search.n_directions,
            table,
            row_of,
            matrices,
            priors,
            log_shift,
            shift_square,
            self.search.correlate,
            self.search.fraction,
            still,
            lane.grid._replace(ctf=lane.grid.ctf[: still.kx.shape[1]]),
            lane.fine,
            self.search.r_max + 1,
        )
        n_significant = np.diff(offsets)
        return batch_results(
            self.setup, self.model, self.search, data, poses, batch, posterior, n_significant, lane.sums
        ), batch.bad

    def _map_side(self, data: ParticleData) -> MapSide:
        optics = self.setup.optics[int(data.optics[0])]
        return self.map_sides[optics.box, optics.pixel_size_A]

    def _coarse(
        self,
        lane: Lane,
        batch: PreparedBatch,
        log_shift: F32,
        near: LocalNeighbourhoods | None,
        rows: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], I32, F32]:
        s = self.search
        if near is None:
            found = global_search(
                batch.images,
                self.coarse_optics,
                self.coarse_pixels,
                self.coarse_turns,
                self.coarse_phases,
                self.global_table,
                self.global_power,
                self.log_direction,
                log_shift,
                s.correlate,
                s.fraction,
                s.max_significant,
                lane.coarse,
            )
        else:
            assert s.sigma_deg is not None
            part = rows_of(near, rows)
            table, row_of = self._coarse_slices(part.direction)
            cutoff = max(3 * s.sigma_deg, 0.501 * s.grid.psi_step_deg)
            found = local_search(
                batch.images,
                self.coarse_optics,
                self.coarse_pixels,
                self.coarse_turns,
                self.coarse_phases,
                self.coarse_psi_deg,
                table,
                row_of,
                part.offsets,
                part.direction,
                part.log_prior,
                part.psi_center_deg,
                np.float32(s.sigma_deg),
                np.float32(cutoff),
                log_shift,
                s.correlate,
                s.fraction,
                s.max_significant,
                lane.coarse,
            )
        offsets, states, priors = found
        return offsets, states, priors

    def _coarse_slices(self, direction: I32) -> tuple[F32, I32]:
        """Slices of the neighbourhoods of a batch and the row of each direction."""
        row_of = np.arange(self.search.n_directions, dtype=np.int32)
        if self.coarse_table is not None:
            return self.coarse_table, row_of
        used = np.unique(direction)
        row_of[used] = np.arange(used.size, dtype=np.int32)
        return self._slice_here(
            self.search.coarse_matrices[used].astype(np.float32), self.coarse_pixels
        ), row_of

    def _fine_slices(self, states: I32) -> tuple[F32, I32, F32]:
        """Slices of the children of a batch's states, the first row of each coarse direction, their matrices."""
        children = self.search.children
        row_of = np.arange(self.search.n_directions, dtype=np.int32) * children
        if self.fine_table is not None:
            return self.fine_table, row_of.astype(np.int32), self.fine_matrices
        used = np.unique(states[:, 0])
        row_of[used] = np.arange(used.size, dtype=np.int32) * children
        rows = (used[:, None].astype(np.int64) * children + np.arange(children)).ravel()
        matrices = self.fine_matrices[rows]
        return self._slice_here(matrices, self.fine_pixels), row_of.astype(np.int32), matrices

    def _slice_here(self, matrices: F32, pixels: Pixels) -> F32:
        """Slices on the calling thread."""
        out = np.empty((len(matrices), 2, pixels.qx.size), np.float32)  # type: ignore[attr-defined]
        slice_directions(
            self.volume,
            self.radius,
            self.padding,
            self._framed(matrices),
            pixels.qx,
            pixels.qy,
            out,  # type: ignore[attr-defined]
        )
        return out

    def _framed(self, matrices: F32) -> F32:
        return np.ascontiguousarray(matrices @ self.model.frame, np.float32)

    def total(self) -> WeightedSums:
        """Sums of all lanes, grids included, in float64."""
        r = self.radius
        shape = (2 * r + 1, 2 * r + 1, r + 1)
        total = self.all_lanes[0].sums
        for lane in self.all_lanes[1:]:
            total += lane.sums
        grid = np.zeros((*shape, 3))
        for lane in self.all_lanes:
            grid += lane.grid.values[:, :3].reshape(*shape, 3)
        total.grid = grid
        return total
