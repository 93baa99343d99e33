"""One expectation step of one half on the device: its tables and accumulators, and the work on a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.arguments import shift_prior, squared_offsets
from mpiapp.backend.base import HalfModel, ImagingSetup
from mpiapp.backend.batches import PARTICLES_OF_A_SUM
from mpiapp.backend.candidates import rows_near
from mpiapp.backend.gpu_back_projection import Target, insert_slices
from mpiapp.backend.gpu_check import score_errors
from mpiapp.backend.gpu_coarse import global_states, in_order, local_states
from mpiapp.backend.gpu_fine import fine_pass, joined, no_posterior, to_host
from mpiapp.backend.gpu_fixed import Sampling, fixed_sampling, fixed_states, log_priors
from mpiapp.backend.gpu_groups import States, group_neighbourhoods, group_states
from mpiapp.backend.gpu_images import DeviceImages, Kind, make_kind, prepare
from mpiapp.backend.gpu_pass import Pass, make_pass
from mpiapp.backend.gpu_references import References, SliceTables
from mpiapp.backend.memory import SCORE_SHARE
from mpiapp.backend.results import Outcome, batch_results
from mpiapp.backend.step_plan import load_of, plan_step
from mpiapp.kernels.arguments import Posterior
from mpiapp.model.local_search import LocalNeighbourhoods
from mpiapp.model.own_share import own_log_weight
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.projection import grid_radius
from mpiapp.model.search import Free, Search
from mpiapp.model.sums import WeightedSums

if TYPE_CHECKING:
    from mpiapp.backend.gpu import GpuBackend


@dataclass(frozen=True)
class HostBatch:
    """What the results of a batch need in host memory (as ``prepare.PreparedBatch``)."""

    old_A: NDArray[np.float64]
    power: NDArray[np.float64]
    bad: NDArray[np.bool_]


class Task:
    """Tables, accumulators, and the work on a batch."""

    def __init__(
        self,
        backend: GpuBackend,
        setup: ImagingSetup,
        model: HalfModel,
        search: Search,
        data: ParticleData,
        poses: Poses,
        tables: bool = True,
    ) -> None:
        self.backend, self.setup, self.model, self.search = backend, setup, model, search
        self.cupy, self.kernels = backend.cupy, backend.kernels
        self.stopped = False
        self.errors: NDArray[np.float64] | None = None  # of a sample of scores, nats
        self.n_particles = len(data)
        self.sums = WeightedSums.zeros(
            (0,),
            len(setup.optics),
            setup.n_shells,
            setup.n_groups,
            len(model.transforms),
            search.n_directions,
        )
        self.lock = threading.Lock()
        self.references = References(self.kernels, setup, model)
        self._make_passes()
        self.log_row = log_priors(model, search)
        self.log_direction = self.cupy.asarray(self.log_row)
        self.centre_A = self.cupy.asarray(model.offset_centre_A.astype(np.float32))
        self.family = (2**search.oversampling, search.children, search.shift_children)
        kept = self._empty_grid() if len(data) > PARTICLES_OF_A_SUM else None
        self.target = Target(self._empty_grid(), setup.padding, search.planar, kept=kept)
        kinds = {(o.box, o.pixel_size_A) for o in setup.optics}
        self.kinds: dict[tuple[int, float], Kind] = {
            kind: make_kind(self.kernels, setup, model, search, *kind) for kind in kinds
        }
        for box in sorted({box for box, _ in kinds}):
            of_box = np.array([o.box == box for o in setup.optics])[data.optics]
            backend.cache.reserve(box, data.particle_id[of_box])
        load = load_of(setup, search, len(model.transforms), len(data), backend.precision.bytes)
        self.plan = plan_step(load, backend.memory, backend.cache.used, tables)
        if self.plan.cache < backend.cache.used:
            backend.give_up_images()
        if search.free is Free.ALL:
            self._make_tables()

    def _empty_grid(self) -> Any:
        r = grid_radius(self.search.r_max, self.setup.padding)
        space = (2 * r + 1, r + 1) if self.search.planar else (2 * r + 1, 2 * r + 1, r + 1)
        return self.cupy.zeros((self.references.n_class, *space, 4), np.float32)

    def _make_passes(self) -> None:
        setup, model, search = self.setup, self.model, self.search
        spectrum = self.references.spectrum(setup.n_shells)
        psi = search.coarse_psi_deg
        if search.sigma_deg is None:
            psi = psi[: psi.size // 2]
        common = (self.kernels, self.backend.precision, setup, model)
        rest = (search.correlate, spectrum)
        self.coarse: Pass = make_pass(*common, search.r_coarse, psi, search.coarse_shifts_A, *rest)
        self.fine: Pass = make_pass(
            *common, search.r_max, search.fine_psi_deg, search.fine_shifts_A, *rest, search.r_score
        )

    def _make_tables(self) -> None:
        """Tables of slices, and sums by orientation, as planned."""
        self.tables = SliceTables(self.references, self.search, (self.coarse, self.fine), self.plan.tables)
        if self.search.sigma_deg is None:
            assert self.tables.coarse is not None
            self.coarse_power = self.coarse.slice_power(self.tables.coarse.table)
        if self.plan.tables.sums:
            shape = (
                self.tables.n_rows * self.search.children * self.fine.n_psi,
                self.plan.load.map_pixels,
                4,
            )
            self.target.slices = self.cupy.zeros(shape, np.float32)

    def order(self, near: LocalNeighbourhoods | None) -> NDArray[np.int64]:
        """Order of the particles: neighbours on the sphere together in local searches.

        They need the same slices, and back-projection finds the voxels that it adds to in the cache.
        """
        if near is None:
            return np.arange(self.n_particles)
        return np.argsort(near.direction[near.offsets[:-1]], kind="stable")

    def run(
        self,
        data: ParticleData,
        poses: Poses,
        raw: tuple[Any, Any],
        near: LocalNeighbourhoods | None,
        rows: NDArray[np.int64],
    ) -> tuple[Poses, NDArray[np.bool_]]:
        """Both passes and the sums of one batch."""
        optics = self.setup.optics[int(data.optics[0])]
        kind = self.kinds[optics.box, optics.pixel_size_A]
        images = prepare(self.kernels, self.setup, self.model, kind, data, poses, raw)
        model, put = self.model, self.cupy.asarray
        places = (self.search.coarse_shifts_A, images.old_A, model.offset_centre_A)
        log_shift = shift_prior(squared_offsets(*map(put, places)), model.sigma_offset_A)
        only = poses.class_number.astype(np.int32) - 1 if self.search.keep_class else None
        own = own_log_weight(model.own_gain, poses.class_number, poses.p_max)
        if self.search.free is Free.ALL:
            s, classes = self.search, self.references.n_class
            part = None if near is None else rows_near(near, rows, classes, s.n_directions, only, own)
            sampling = Sampling(self.fine, s.n_directions, self.family, self.tables.fine_slices)
            states, count = self._coarse(images, log_shift, part, only)
        else:
            sampling = fixed_sampling(self, data, poses, images)
            log_shift = sampling.log_shift(log_shift)
            states, count = fixed_states(self, len(data), sampling, only, own)
        bad = images.bad.get().astype(bool)
        if bad.any():
            # an image without states adds nothing to any sum
            states = states.take(self.cupy.flatnonzero(images.bad[states.image] == 0))
        posterior, projections = self._fine(images, kind, states, log_shift, sampling)
        batch = HostBatch(images.old_A, images.power.get().astype(np.float64), bad)
        n_significant = np.where(bad, 0, count.get())
        outcome = Outcome(posterior, n_significant, sampling.per_class)
        # from here on nothing takes memory, so that a batch counts as a whole or not at all
        for project in projections:
            project()
        with self.lock:
            new = batch_results(self.setup, model, self.search, data, poses, batch, outcome, self.sums)
        return new, bad

    def _coarse(
        self,
        images: DeviceImages,
        log_shift: Any,
        near: LocalNeighbourhoods | None,
        only: NDArray[np.int32] | None,
    ) -> tuple[States, Any]:
        s = self.search
        limits = (s.passed_on, s.max_significant, s.correlate)
        if near is None:
            return self._global(images, log_shift, only, limits)
        assert s.sigma_deg is not None
        cutoff = max(3 * s.sigma_deg, 0.501 * s.grid.psi_step_deg)
        groups = group_neighbourhoods(
            self.cupy, near, self.coarse.n_psi, s.grid.psi_step_deg, s.sigma_deg, cutoff, self.coarse.n_trans
        )
        slices = self.tables.coarse_slices(groups.directions)
        rows = slices.row_of[groups.directions]
        return local_states(self.coarse, images, groups, slices.rows.table, rows, log_shift, *limits)

    def _global(
        self,
        images: DeviceImages,
        log_shift: Any,
        only: NDArray[np.int32] | None,
        limits: tuple[float, int, bool],
    ) -> tuple[States, Any]:
        """The dense coarse pass, as many images at a time as scores fit."""
        p, n = self.coarse, len(images.planes)
        rows = p.n_psi * p.n_trans
        per_image = rows * (8 * self.tables.n_rows + 2 * p.pitch * p.precision.bytes)
        table, own = self.tables.coarse, None if only is None else self.cupy.asarray(only)
        assert table is not None
        at_once = int(max(1, min(n, SCORE_SHARE * self.backend.memory // per_image)))
        parts, counts = [], []
        for first in range(0, n, at_once):
            some = images.part(first, first + at_once)
            part = slice(first, first + at_once)
            states, count = global_states(
                p, some, table.table, self.coarse_power, self.log_direction, log_shift[part],
                None if own is None else own[part], *limits, self.references.n_class,
            )  # fmt: skip
            states.image += np.int32(first)
            parts.append(states)
            counts.append(count)
        return _joined(self.cupy, parts), self.cupy.concatenate(counts)

    def _fine(
        self, images: DeviceImages, kind: Kind, states: States, log_shift: Any, sampling: Sampling
    ) -> tuple[Posterior, list[Callable[[], None]]]:
        """The fine pass, as many images at a time as scores fit; the back-projections are left to do."""
        search, n, p, n_class = self.search, len(images.planes), sampling.fine, self.references.n_class
        n_shell, per_class, of_psi = search.r_max + 1, sampling.per_class, sampling.family[0]
        if not states.image.size:
            return no_posterior(n, n_shell, n_class, per_class), []
        n_psi, rows = p.n_psi // of_psi, n_class * per_class
        states = in_order(self.cupy, states, n_psi)
        groups = group_states(self.cupy, states, n_psi, rows, log_shift.shape[-1], log_shift, per_class)
        slices = sampling.slices(groups.directions)
        parts, projections = [], []
        for first, last, g0, g1 in self._portions(groups, n, sampling.family):
            some = groups.part(g0, g1)
            some.image = some.image - np.int32(first)
            posterior, scored, project = fine_pass(
                p, some, images.part(first, last), slices, kind.still, self.target, log_shift[first:last],
                self.centre_A, per_class, sampling.family, search.fraction, search.correlate, n_shell,
            )  # fmt: skip
            if (self.errors is None or not self.errors.size) and not search.correlate:
                self.errors = score_errors(
                    p, scored, images.part(first, last), self.references, sampling.family
                )
            parts.append(to_host(self.cupy, posterior))
            projections.append(project)
        whole = joined(parts)
        if search.correlate:
            whole = whole._replace(log_best=whole.log_best / np.sqrt(self.fine.correlation_weight))
        return whole, projections

    def _portions(self, groups: Any, n: int, family: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
        """Runs of images, and of their groups, whose scores and turned rows fit together."""
        of_psi, of_rows, of_shifts = family
        image = groups.image.get()
        size = (groups.n_d.astype(np.int64) * groups.n_t).get() * (of_psi * of_rows * of_shifts * 4 * 2)
        size = size + of_psi * self.fine.pitch * 12
        per_image = np.bincount(image, size, n)
        limit = SCORE_SHARE * self.backend.memory
        portions, first, used = [], 0, 0.0
        for i in range(n):
            if i > first and used + per_image[i] > limit:
                portions.append((first, i))
                first, used = i, 0.0
            used += per_image[i]
        portions.append((first, n))
        edges = [np.searchsorted(image, [a, b]) for a, b in portions]
        return [(a, b, int(e[0]), int(e[1])) for (a, b), e in zip(portions, edges, strict=True)]

    def settle(self) -> None:
        """Between runs of batches: bring the sums to where rounding does not grow with the number of particles."""
        self.cupy.cuda.Device().synchronize()
        if self.target.kept is not None:
            self._insert_slices()
            self.target.settle()
            self.cupy.cuda.get_current_stream().synchronize()

    def total(self) -> WeightedSums:
        """Sums of all batches; the grid stays on the device, with a fourth, unused number a voxel."""
        self.cupy.cuda.Device().synchronize()
        self._insert_slices()
        self.target.slices = None
        self.sums.grid = self.target.whole()
        self.cupy.cuda.get_current_stream().synchronize()
        return self.sums

    def _insert_slices(self) -> None:
        if self.target.slices is not None:
            still = next(iter(self.kinds.values())).still
            assert self.tables.fine is not None
            insert_slices(self.fine, self.target, still, self.tables.fine)


def _joined(cupy: Any, parts: list[States]) -> States:
    if len(parts) == 1:
        return parts[0]
    return States(*(cupy.concatenate([getattr(part, f.name) for part in parts]) for f in fields(States)))
