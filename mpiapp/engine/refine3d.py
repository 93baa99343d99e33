"""Gold-standard 3D auto-refinement: the loop (refinement.md 6)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, ImagingSetup, ReadImages
from mpiapp.config.refine import RefineConfig
from mpiapp.engine import messages
from mpiapp.engine.accuracy import accuracies_of_sample
from mpiapp.engine.frame import Drift, estimate_drift, undo
from mpiapp.engine.inputs import Inputs, make_reader
from mpiapp.engine.iteration import (
    HALVES,
    Iteration,
    MapResult,
    Share,
    joined_sums,
    make_search,
    uniform_prior,
)
from mpiapp.engine.job_status import abort_file, failure_marker, job_markers, mark_success
from mpiapp.engine.maximization import update_parameters, with_spectra
from mpiapp.engine.partial import expectation, remaining
from mpiapp.engine.schedule import (
    has_converged,
    image_size,
    resolution_shell,
    update_changes,
    update_increment,
    update_resolution,
    update_sampling,
)
from mpiapp.engine.settings import check_supported, make_options, make_policy
from mpiapp.engine.startup import Start, begin
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.engine.stopping import Stopping
from mpiapp.io.outputs import OutputNames
from mpiapp.model.noise import particle_generator
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.rotations import angular_distance_rows_deg, euler_to_matrix
from mpiapp.model.sampling import direction_grid, next_perturbation
from mpiapp.model.sums import WeightedSums
from mpiapp.parallel.base import Team
from mpiapp.parallel.stop import StopFlag
from mpiapp.report import lines, log
from mpiapp.report.progress import Progress

ACCURACY_SAMPLE = 100


@dataclass(frozen=True)
class Result:
    """Where a refinement ended; the same on every rank except for what only the leader has."""

    names: OutputNames
    converged: bool
    iterations: int
    resolution_A: float


class Refinement:
    """A refinement on one rank of a team."""

    def __init__(
        self, team: Team, backend: Backend, config: RefineConfig, start: Start, stop: StopFlag
    ) -> None:
        self.team, self.backend, self.config, self.stop = team, backend, config, stop
        self.setup: ImagingSetup = start.setup
        self.data: ParticleData = start.data
        self.names = start.names
        self.policy = make_policy(config, start.setup)
        self.options = make_options(config, start.threads)
        self.schedule: Schedule = start.schedule
        self.halves: list[HalfState] = start.halves
        self.maps = start.maps
        self.shares: dict[int, Share] = start.shares
        self.state: RunState | None = start.state  # leader
        self.inputs: Inputs | None = start.inputs  # leader
        self.read: ReadImages = make_reader(start.stack_paths)
        self.iteration = Iteration(team, backend, start.setup, self.options, start.solvent)
        self.writer = start.writer
        self.stopping = Stopping(team, stop, config, start.names, start.partial, start.writer)
        self.began = time.monotonic()

    def run(self) -> Result:
        """Iterate until convergence."""
        if self.team.is_leader and self.schedule.iteration == 0:
            self._write(self._state())
        while True:
            self._next()
            if self.schedule.converged:
                break
            if self.schedule.iteration >= self.config.auto_iter_max:
                log.emit(
                    [f" Auto-refine: stopped after --auto_iter_max {self.config.auto_iter_max} iterations"]
                )
                self.stopping.complete(self.schedule.iteration)
                break
        return Result(
            self.names,
            self.schedule.converged,
            self.schedule.iteration,
            1 / max(self.schedule.frequency, 1e-6),
        )

    # ---- one iteration -------------------------------------------------------------------------------------

    def _next(self) -> None:
        self.stopping.between(self.schedule)
        if self.team.is_leader:
            self._decide()
        self.schedule, drifts = self.team.bcast((self.schedule, self._drifts()))
        for h, share in self.shares.items():
            share.poses = undo(share.poses, drifts[h])
        s = self.schedule
        correlate = self.config.firstiter_cc and s.iteration == 1
        search = make_search(self.policy, self.options, s, self.config.sym, correlate)
        if self.team.is_leader:
            log.emit(messages.coming_iteration(self.policy, s, search))
        self._share_parameters()
        begun = time.monotonic()
        partial = self.stopping.take_partial(s)
        with self._progress(partial) as progress:

            def step(n: int) -> bool:
                progress.advance(n)
                return self.stop.raised

            def expect(
                shares: dict[int, Share],
            ) -> tuple[dict[int, WeightedSums], dict[int, NDArray[np.bool_]]]:
                return self.iteration.expectation(
                    search, self.halves, self.maps, shares, drifts, self.read, step
                )

            sums, bad = expectation(self.team, partial, self.shares, expect)
        half = self._state().half if self.team.is_leader else None
        self.stopping.after_expectation(s, half, self.shares, sums, bad)
        old = self._gather_poses(bad)
        between = time.monotonic()
        result = self.iteration.maximization(sums, s, self.maps, self.setup.seed)
        if self.team.is_leader:
            self._conclude(result, old, correlate, between - begun, between)
        self.team.barrier()

    def _decide(self) -> None:
        """Image size, perturbation, accuracies and sampling of the coming iteration."""
        s = self.schedule
        s.iteration += 1
        if s.iteration > 1 and (has_converged(self.policy, s) or self.config.force_converge):
            s.converged = True
            log.emit(lines.converged())
        s.current_size = image_size(self.policy, s)
        s.perturbation = next_perturbation(s.perturbation, self.setup.seed, s.iteration, self.config.perturb)
        if not (self.config.firstiter_cc and s.iteration == 1):
            s.previous_accuracy_rot_deg = s.accuracy_rot_deg
            if s.iteration > 1:
                self._estimate_accuracies()
        if s.iteration > 1 and not s.converged:
            log.emit(
                lines.iteration_start(
                    s.iteration,
                    1 / s.frequency,
                    s.iterations_without_gain,
                    s.change_angle_deg,
                    s.change_offset_A,
                    s.iterations_without_changes,
                )
            )
            if update_sampling(self.policy, s):
                n = direction_grid(s.healpix_order, self.config.sym).rot_deg.size
                self.halves = [uniform_prior(half, n) for half in self.halves]

    def _drifts(self) -> list[Drift]:
        """How far each half has wandered from the starting reference; the leader's poses are put back."""
        if not self.team.is_leader or self.schedule.iteration < 3:
            return [Drift.none() for _ in HALVES]
        state = self._state()
        drifts = []
        for h in HALVES:
            rows = np.flatnonzero(state.half == h + 1)
            drift = estimate_drift(
                self.backend.to_device(self._leader_map(h)),
                self.backend.to_device(state.anchor),
                self.setup.pixel_size_A,
                1 / state.anchor_frequency,
                self.setup.group,
            )
            state.poses.put(rows, undo(state.poses.take(rows), drift))
            drifts.append(drift)
        if max(d.angle_deg for d in drifts) > 0:
            log.emit(
                [" Drift of the frame, put back: " + ", ".join(f"{d.angle_deg:.2f} degrees" for d in drifts)]
            )
        return drifts

    def _estimate_accuracies(self) -> None:
        s, setup = self.schedule, self.setup
        state = self._state()
        mine = np.flatnonzero(state.half == 1)
        rng = particle_generator(setup.seed, "accuracy sample", 0)
        rows = np.sort(rng.permutation(mine)[:ACCURACY_SAMPLE])
        found = accuracies_of_sample(
            self.backend,
            setup,
            self._leader_map(0),
            s.current_size,
            self.halves[0].sigma2,
            self.data.take(rows),
            state.poses.take(rows),
            self.options.workers,
        )
        s.accuracy_rot_deg, s.accuracy_trans_A = found.rot_deg, found.trans_A
        log.emit(lines.accuracies(found.rot_deg, found.trans_A))

    def _gather_poses(self, bad: dict[int, NDArray[np.bool_]]) -> Poses | None:
        """Collect the new poses on the leader; returns the old ones there."""
        old = None
        if self.team.is_leader:
            state = self._state()
            old = state.poses
            state.poses = old.take(np.arange(len(old.rot_deg)))
        for h in HALVES:
            share = self.shares.get(h)
            rows = self.team.gather_rows(h, None if share is None else share.poses.pack())
            flags = self.team.gather_rows(h, None if share is None else bad[h].astype(np.float64)[:, None])
            if self.team.is_leader:
                assert rows is not None
                assert flags is not None
                state = self._state()
                index = np.flatnonzero(state.half == h + 1)
                state.poses.put(index, Poses.unpack(rows))
                if self.inputs is not None and self.schedule.iteration == 1:
                    log.emit(messages.set_aside(index[flags[:, 0] > 0], self.inputs.table.image_name))
        return old

    def _conclude(
        self, result: MapResult, old: Poses | None, correlate: bool, expectation_s: float, between: float
    ) -> None:
        """New parameters, resolution and changes; write everything."""
        s, state = self.schedule, self._state()
        assert old is not None
        small = joined_sums(result.small) if s.converged else result.small
        for h in HALVES:
            size = self._group_sizes(None if s.converged else h)
            sums = WeightedSums.from_arrays([np.zeros(0), *small[h]])
            half = update_parameters(
                self.halves[h],
                sums,
                size,
                scale=self.config.scale,
                norm=self.config.norm,
                correlate=correlate,
            )
            self.halves[h] = with_spectra(half, result.spectra[h])
        s.average_pmax = float(self.halves[0].scalars[3])
        if not correlate:
            update_increment(s, result.fsc, s.current_size)
        self._update_resolution(correlate)
        self._update_changes(old, state.poses)
        if s.iteration == 1:
            state.anchor = np.mean([self._leader_map(h) for h in HALVES], axis=0, dtype=np.float32)
            state.anchor_frequency = s.frequency
        state.halves, state.fsc, state.schedule = self.halves, result.fsc, s
        state.maps = [self._leader_map(h) for h in HALVES]
        now = time.monotonic()
        log.emit(
            lines.iteration_end(
                len(state.half), expectation_s, now - between, now - self.began, s.average_pmax
            )
        )
        messages.record(state, self.setup, expectation_s, now - between)
        if s.converged:
            self._finish(state, result)
        else:
            self._write(state)

    def _group_sizes(self, h: int | None) -> NDArray[np.int64]:
        mine = slice(None) if h is None else self._state().half == h + 1
        return np.bincount(self.data.group[mine], minlength=self.setup.n_groups)

    def _update_resolution(self, correlate: bool) -> None:
        s = self.schedule
        if s.iteration == 1 and correlate and self.config.ini_high > 0:
            shell = self.policy.shell(1 / self.config.ini_high)
        else:
            shell = resolution_shell(self.halves[0].data_vs_prior, self.policy.minres_map)
        update_resolution(self.policy, s, shell)

    def _update_changes(self, old: Poses, new: Poses) -> None:
        a = euler_to_matrix(old.rot_deg, old.tilt_deg, old.psi_deg)
        b = euler_to_matrix(new.rot_deg, new.tilt_deg, new.psi_deg)
        angle = float(angular_distance_rows_deg(a, b, self.setup.group.operators).mean())
        offset = float(np.sqrt(((new.origin_A - old.origin_A) ** 2).sum(1).mean() / 2))
        update_changes(self.policy, self.schedule, angle, offset)

    # ---- messages and files --------------------------------------------------------------------------------

    def _share_parameters(self) -> None:
        """The leader's model parameters on all ranks."""
        for h in HALVES:
            half = self.halves[h] if self.team.is_leader else None
            names = [*self.halves[h].arrays()]
            arrays = [self.team.bcast_array(getattr(half, name) if half else None) for name in names]
            self.halves[h] = HalfState(**dict(zip(names, arrays, strict=True)))  # type: ignore[arg-type]

    def _write(self, state: RunState) -> None:
        assert self.writer is not None
        self.writer.iteration(state)

    def _finish(self, state: RunState, result: MapResult) -> None:
        assert self.writer is not None
        assert result.joined is not None
        self.writer.final(state, result.joined, result.unfiltered)
        self.writer.plots(state, result.joined)
        log.emit(
            messages.ending(
                self.names, self.setup, state, self.options.solvent_correct_fsc, self.options.tau2_fudge
            )
        )

    def _leader_map(self, h: int) -> NDArray[np.float32]:
        volume = self.maps[h]
        assert volume is not None
        return volume

    def _state(self) -> RunState:
        assert self.state is not None
        return self.state

    def _progress(self, partial: dict[str, Any] | None) -> Progress:
        """Progress of this rank; one of those that work shows it."""
        shown = self.config.verb > 0 and self.team.rank == min(1, self.team.size - 1)
        label = "Expectation" if self.team.size == 1 else "Expectation, rank 1"
        return Progress(label, remaining(self.team, partial, self.shares), shown=shown)


def refine3d(config: RefineConfig | None = None, **options: Any) -> Result | None:
    """Refine one structure from particles in two independent halves.

    Parameters
    ----------
    config : all options; or give them by name (``refine3d(i="particles.star", o="out/run", ref="map.mrc", ...)``).

    Returns
    -------
    Result, or None for a dry run.

    Raises
    ------
    InputError, ConfigError
        Before any work starts.
    StopRequested
        A signal or the time limit ended the run at a checkpoint.
    """
    from mpiapp.parallel.runtime import session
    from mpiapp.parallel.watch import watch

    if config is None:
        config = RefineConfig.from_options(options)
    folder = "" if config.dry_run else config.pipeline_control
    with job_markers(folder):
        check_supported(config.validate())
        hours = config.max_hours if config.max_hours > 0 else None
        with session(n_sets=2) as team, StopFlag(hours) as stop, failure_marker(folder):
            with watch(team, stop, abort_file(folder)):
                result = _run(team, config, stop)
            if team.is_leader:
                mark_success(folder)
    return result


def _backend(team: Team, config: RefineConfig, threads: int) -> Backend:
    """The backend of this rank; only what it needs is loaded."""
    if config.gpu is None:
        from mpiapp.backend.cpu import CpuBackend

        return CpuBackend(threads)
    from mpiapp.backend.gpu_start import start_gpu

    leave_free = int(config.free_gpu_memory * 1e6)
    return start_gpu(team, config.gpu, config.precision, threads, leave_free, config.verb > 1)


def _run(team: Team, config: RefineConfig, stop: StopFlag) -> Result | None:
    from threadpoolctl import threadpool_limits

    if config.gpu is not None:
        from mpiapp.backend.gpu_start import find_devices

        find_devices(team)  # a missing device is told before anything is read
    try:
        start = begin(team, config)
        if start is None:
            return None
        with threadpool_limits(start.threads):
            backend = _backend(team, start.config, start.threads)
            return Refinement(team, backend, start.config, start, stop).run()
    except Exception as fault:
        log.to_file(f" {type(fault).__name__}: {fault}")
        raise
    finally:
        log.close()
