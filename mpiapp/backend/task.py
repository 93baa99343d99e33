"""One expectation step of one set of particles on the CPU: what is prepared once, and the work on a batch."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.arguments import (
    log_row_prior,
    log_shift_prior,
    make_map_side,
    make_optics,
    make_phases,
    make_pixels,
    make_turns,
    still_phases,
)
from mpiapp.backend.base import HalfModel, ImagingSetup, ReadImages
from mpiapp.backend.candidates import fixed_candidates, row_range, rows_near, without_bad
from mpiapp.backend.prepare import PreparedBatch, prepare_batch
from mpiapp.backend.reach import map_pixels
from mpiapp.backend.references import References, RowTables, Slicer
from mpiapp.backend.results import Outcome, batch_results
from mpiapp.kernels.arguments import (
    Candidates,
    Family,
    FineRows,
    Grid,
    MapSide,
    Optics,
    Phases,
    Rule,
    Scratch,
    Shifts,
    Turns,
    scratch,
)
from mpiapp.kernels.coarse import global_search, local_search
from mpiapp.kernels.fine import fine_pass
from mpiapp.kernels.insertion import add_sums
from mpiapp.kernels.slicing import CHUNK
from mpiapp.model.local_search import LocalNeighbourhoods
from mpiapp.model.own_share import own_log_weight
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.search import Free, Search
from mpiapp.model.sums import WeightedSums

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
PHASE_BYTES = 128 << 20


class Sampling(NamedTuple):
    """In-plane angles and shifts of a pass, and what follows from them."""

    turns: Turns
    optics: Optics
    phases: Phases


@dataclass
class Lane:
    """What one thread owns during an expectation step."""

    grid: Grid
    coarse: Scratch
    fine: Scratch
    sums: WeightedSums


class Task:
    """Tables, lanes, and the work on a batch.

    Parameters
    ----------
    threads : lanes that are made;  slicer : slices a volume on all threads
    """

    def __init__(
        self,
        setup: ImagingSetup,
        model: HalfModel,
        search: Search,
        n_particles: int,
        threads: int,
        slicer: Slicer,
        table_bytes: int,
    ) -> None:
        self.setup, self.model, self.search = setup, model, search
        self.n_particles = n_particles
        self.stopped = False
        self.references = References(model, setup.padding, slicer)
        self.fine_pixels = make_pixels(setup, search.r_max)
        self.coarse_pixels = make_pixels(setup, search.r_coarse)
        if search.free is Free.ALL:
            pixels = (self.coarse_pixels, self.fine_pixels)
            self.tables = RowTables(self.references, search, pixels, n_particles, table_bytes)
            self._make_samplings()
        prior = model.direction_prior
        # orientations that are not searched for have no prior but that of their class
        self.log_row = log_row_prior(prior if search.free is Free.ALL else prior.sum(axis=1, keepdims=True))
        self.rule = Rule(search.correlate, search.fraction, self._n_score())
        kinds = {(o.box, o.pixel_size_A) for o in setup.optics}
        self.map_sides = {
            kind: make_map_side(setup, model.sigma2, search.r_max, *kind, search) for kind in kinds
        }
        self.lanes: queue.Queue[Lane] = queue.Queue()
        self.all_lanes = [self._lane() for _ in range(threads)]
        for lane in self.all_lanes:
            self.lanes.put(lane)

    def _n_score(self) -> int:
        limit = self.search.r_score
        return self.fine_pixels.qx.size if limit is None else pixel_list(self.search.r_max).prefix(limit)

    def _make_samplings(self) -> None:
        s, setup, model = self.search, self.setup, self.model
        psi = s.coarse_psi_deg
        if s.sigma_deg is None:
            psi = psi[: psi.size // 2]  # half a turn on follows from the same products
        self.coarse_psi_deg = psi.astype(np.float32)
        turns = make_turns(psi, s.coarse_shifts_A)
        optics = make_optics(setup, model, self.coarse_pixels, psi, s.correlate)
        parents = s.coarse_shifts_A
        none = np.zeros((1, 2))
        phases = make_phases(optics, self.coarse_pixels, turns, parents, none, PHASE_BYTES)
        self.coarse = Sampling(turns, optics, phases)
        turns = make_turns(s.fine_psi_deg, s.fine_shifts_A)
        optics = make_optics(setup, model, self.fine_pixels, s.fine_psi_deg, s.correlate)
        offsets = s.fine_shifts_A[: s.shift_children] - parents[0]
        phases = make_phases(optics, self.fine_pixels, turns, parents, offsets, PHASE_BYTES)
        self.fine = Sampling(turns, optics, phases)

    def order(self, near: LocalNeighbourhoods | None) -> I64:
        """Order of the particles: as they come, or by direction where a batch slices what it needs itself.

        Neighbours on the sphere need the same slices; grid directions are numbered so that near ones are near.
        """
        if near is None or self.tables.fine is not None:
            return np.arange(self.n_particles)
        return np.argsort(near.direction[near.offsets[:-1]], kind="stable")

    @property
    def _radius(self) -> int:
        """R of the accumulators."""
        return grid_radius(self.search.r_max, self.setup.padding)

    @property
    def _grid_shape(self) -> tuple[int, ...]:
        r = self._radius
        return (2 * r + 1, r + 1) if self.search.planar else (2 * r + 1, 2 * r + 1, r + 1)

    def _lane(self) -> Lane:
        n_still = max(side.kx.shape[1] for side in self.map_sides.values())
        size, n_class = int(np.prod(self._grid_shape)), self.references.n_class
        grid = Grid(
            np.zeros((n_class * size, 4), np.float32),
            size,
            self.search.planar,
            self._radius,
            np.float32(self.setup.padding),
            np.empty(n_still, np.float32),
            np.empty(CHUNK, np.int32),
            np.empty(CHUNK, np.uint64),
            np.empty((4, CHUNK), np.float32),
        )
        setup = self.setup
        n_optics, n_dir = len(setup.optics), self.search.n_directions
        sums = WeightedSums.zeros((0,), n_optics, setup.n_shells, setup.n_groups, n_class, n_dir)
        return Lane(grid, scratch(self.coarse_pixels.qx.size), scratch(self.fine_pixels.qx.size), sums)

    def run(
        self,
        lane: Lane,
        data: ParticleData,
        poses: Poses,
        read: ReadImages,
        near: LocalNeighbourhoods | None,
        particles: I64,
    ) -> tuple[Poses, NDArray[np.bool_]]:
        """Both passes and the sums of one batch; ``particles`` are its numbers among those of the step."""
        batch = prepare_batch(self.setup, self.model, self.search.r_max, data, poses, read)
        only = poses.class_number.astype(np.int32) - 1 if self.search.keep_class else None
        own = own_log_weight(self.model.own_gain, poses.class_number, poses.p_max)
        if self.search.free is Free.ALL:
            shifts = self._shifts(batch, self.search.coarse_shifts_A, self.search.fine_shifts_A)
            found = self._coarse(lane, batch, shifts, near, particles, only, own)
            candidates = without_bad(found, batch.bad)
            rows = self.tables.fine_rows(candidates.states[:, 0])
            s = self.search
            family = Family(s.children, 2**s.oversampling, s.shift_children)
            outcome = self._fine(lane, batch, self.fine, family, candidates, rows, shifts, self._still(data))
        else:
            outcome = self._fixed(lane, batch, data, poses, only, own)
        new = batch_results(self.setup, self.model, self.search, data, poses, batch, outcome, lane.sums)
        return new, batch.bad

    def _shifts(self, batch: PreparedBatch, coarse_A: F64, fine_A: F64) -> Shifts:
        model = self.model
        return log_shift_prior((coarse_A, fine_A), batch.old_A, model.offset_centre_A, model.sigma_offset_A)

    def _still(self, data: ParticleData) -> MapSide:
        optics = self.setup.optics[int(data.optics[0])]
        return self.map_sides[optics.box, optics.pixel_size_A]

    def _coarse(
        self,
        lane: Lane,
        batch: PreparedBatch,
        shifts: Shifts,
        near: LocalNeighbourhoods | None,
        particles: I64,
        only: I32 | None,
        own: F32 | None,
    ) -> Candidates:
        s, tables, c = self.search, self.tables, self.coarse
        shared = (batch.images, c.optics, self.coarse_pixels, c.turns, c.phases)
        limits = (s.correlate, s.passed_on, s.max_significant, lane.coarse)
        if near is None:
            bounds = row_range(len(particles), tables.n_rows, s.n_directions, only)
            found = global_search(
                *shared, tables.whole, tables.whole_power, self.log_row, shifts.log_prior, bounds, *limits
            )
            return Candidates(*found)
        assert s.sigma_deg is not None
        part = rows_near(near, particles, self.references.n_class, s.n_directions, only, own)
        table, place = tables.coarse_rows(part.direction)
        cutoff = max(3 * s.sigma_deg, 0.501 * s.grid.psi_step_deg)
        found = local_search(
            *shared,
            self.coarse_psi_deg,
            table,
            place,
            part.offsets,
            part.direction,
            part.log_prior,
            part.psi_center_deg,
            np.float32(s.sigma_deg),
            np.float32(cutoff),
            shifts.log_prior,
            *limits,
        )
        return Candidates(*found)

    def _fine(
        self,
        lane: Lane,
        batch: PreparedBatch,
        sampling: Sampling,
        family: Family,
        candidates: Candidates,
        rows: FineRows,
        shifts: Shifts,
        still: MapSide,
    ) -> Outcome:
        posterior = fine_pass(
            batch.images,
            sampling.optics,
            self.fine_pixels,
            sampling.turns,
            sampling.phases,
            family,
            candidates,
            rows,
            shifts,
            self.rule,
            still._replace(rows=batch.rows),
            lane.grid._replace(ctf=lane.grid.ctf[: still.kx.shape[1]]),
            lane.fine,
            self.search.r_max + 1,
        )
        return Outcome(posterior, np.diff(candidates.offsets), rows.per_class)

    def _fixed(
        self,
        lane: Lane,
        batch: PreparedBatch,
        data: ParticleData,
        poses: Poses,
        only: I32 | None,
        own: F32 | None,
    ) -> Outcome:
        """Classes, and shifts unless they are fixed too, at the particles' own orientations (refinement.md 4.10)."""
        s, n, still = self.search, len(data), self._still(data)
        tried = s.free is Free.SHIFTS
        rest = poses.origin_A - batch.old_A
        turns = make_turns(poses.psi_deg, s.fine_shifts_A if tried else rest)
        optics = make_optics(self.setup, self.model, self.fine_pixels, poses.psi_deg, s.correlate)
        no_phases = Phases(*np.zeros((2, 1, 1, 1, 2, 0), np.float32))
        if tried:
            shifts = self._shifts(batch, s.coarse_shifts_A, s.fine_shifts_A)
        else:
            shifts = self._shifts(batch, rest, rest)
            shifts.log_prior[:] = 0
            optics_0 = self.setup.optics[int(data.optics[0])]
            pixels = map_pixels(self.setup, optics_0.box, optics_0.pixel_size_A, s.r_max)
            x, y = pixels.kx.astype(np.float32), pixels.ky.astype(np.float32)
            unit = 1.0 / (optics_0.box * optics_0.pixel_size_A)
            parent, child = (still_phases(x, y, t * unit) for t in (rest, np.zeros((1, 2))))
            still = still._replace(parent=parent, child=child)
        n_shift = len(s.coarse_shifts_A) if tried else 0
        log_class = self.log_row if own is None else self.log_row + own
        found = fixed_candidates(n, log_class, n_shift, not s.planar, only)
        family = Family(1, 1, s.shift_children if tried else 1)
        rows = self._own_rows(poses, n)
        sampling = Sampling(turns, optics, no_phases)
        return self._fine(lane, batch, sampling, family, without_bad(found, batch.bad), rows, shifts, still)

    def _own_rows(self, poses: Poses, n: int) -> FineRows:
        """Slices of every class at the orientation of each image."""
        n_class = self.references.n_class
        per_class = 1 if self.search.planar else n
        directions = euler_to_matrix(poses.rot_deg, poses.tilt_deg, 0.0)
        if self.search.planar:
            directions = np.eye(3)[None]
        matrices = np.tile(np.asarray(directions, np.float32), (n_class, 1, 1))
        of_class = np.repeat(np.arange(n_class), per_class)
        table = self.references.some_rows(of_class, matrices, self.fine_pixels)
        return FineRows(table, np.arange(n_class * per_class, dtype=np.int32), matrices, per_class)

    def total(self) -> WeightedSums:
        """Sums of all lanes, grids included, in float64."""
        total = self.all_lanes[0].sums
        for lane in self.all_lanes[1:]:
            total += lane.sums
        grid = np.zeros((self.references.n_class * int(np.prod(self._grid_shape)), 3))
        for lane in self.all_lanes:
            add_sums(lane.grid.values, grid)
        total.grid = grid.reshape(self.references.n_class, *self._grid_shape, 3)
        return total
