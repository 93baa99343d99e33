"""Gold-standard 3D auto-refinement (refinement.md 6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from mpiapp.backend.base import Backend
from mpiapp.config.refine import RefineConfig
from mpiapp.engine import messages
from mpiapp.engine.accuracy import accuracies_of_sample
from mpiapp.engine.frame import Drift, estimate_drift, leaves_frame_free, undo
from mpiapp.engine.iteration import HALVES, MapResult, joined_sums, make_search, uniform_prior
from mpiapp.engine.job import Job, Result, launch, work
from mpiapp.engine.maximization import with_spectra
from mpiapp.engine.refine_start import RefinementStart
from mpiapp.engine.refine_writer import RefinementWriter
from mpiapp.engine.schedule import (
    has_converged,
    image_size,
    resolution_shell,
    update_changes,
    update_increment,
    update_resolution,
    update_sampling,
)
from mpiapp.engine.settings import make_options, make_policy
from mpiapp.engine.startup import Start
from mpiapp.engine.state import RunState
from mpiapp.model.noise import particle_generator
from mpiapp.model.particles import Poses
from mpiapp.model.registration import low_passed
from mpiapp.model.sampling import direction_grid, next_perturbation
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.parallel.base import Team
from mpiapp.parallel.stop import StopFlag
from mpiapp.report import lines, log

ACCURACY_SAMPLE = 100


class Refinement(Job):
    """A refinement on one rank of a team."""

    label = " Auto-refine:"

    def __init__(
        self, team: Team, backend: Backend, config: RefineConfig, start: Start, stop: StopFlag
    ) -> None:
        policy, options = make_policy(config, start.setup), make_options(config, start.threads)
        super().__init__(team, backend, config, start, stop, policy, options)
        self.config = config

    def _ended(self) -> bool:
        s, limit = self.schedule, self.config.auto_iter_max
        if not s.converged and s.iteration >= limit:
            log.emit([f" Auto-refine: stopped after --auto_iter_max {limit} iterations"])
            self.stopping.leave(s.iteration)
            return True
        return s.converged

    @property
    def _correlate(self) -> bool:
        return self.config.firstiter_cc and self.schedule.iteration == 1

    def _search(self) -> Search:
        return make_search(self.policy, self.options, self.schedule, self.config.sym, self._correlate)

    def _decide(self) -> None:
        s = self.schedule
        s.iteration += 1
        if s.iteration > 1 and (has_converged(self.policy, s) or self.config.force_converge):
            s.converged = True
            log.emit(lines.converged())
        s.current_size = image_size(self.policy, s)
        s.perturbation = next_perturbation(s.perturbation, self.setup.seed, s.iteration, self.config.perturb)
        if not self._correlate and s.iteration > 1:
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
        free = leaves_frame_free(self.setup.group)
        if not self.team.is_leader or self.schedule.iteration < 3 or not free:
            return [Drift.none() for _ in HALVES]
        state = self._state()
        drifts = []
        for h in HALVES:
            rows = np.flatnonzero(state.half == h + 1)
            drift = estimate_drift(
                self.backend.to_device(self._leader_map(h)),
                state.anchor,
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
        accuracy = np.array([[found.rot_deg, found.trans_A]])
        self.halves = [replace(half, accuracy=accuracy) for half in self.halves]
        log.emit(lines.accuracies(found.rot_deg, found.trans_A))

    def _maximize(self, sums: dict[int, WeightedSums]) -> MapResult:
        return self.iteration.maximization(sums, self.schedule, self.maps, self.setup.seed)

    def _conclude(self, result: MapResult, old: Poses, expectation_s: float, begun: float) -> None:
        s, state, correlate = self.schedule, self._state(), self._correlate
        small = joined_sums(result.small) if s.converged else result.small
        for h in HALVES:
            half = self._update_parameters(h, small[h], correlate, everyone=s.converged)
            self.halves[h] = with_spectra(half, [result.spectra[h]])
        s.average_pmax = float(self.halves[0].scalars[3])
        if not correlate:
            update_increment(s, result.fsc, s.current_size)
        self._update_resolution(correlate)
        self._update_changes(old, state.poses)
        if s.iteration == 1:
            mean = self.backend.to_device((self._leader_map(0) + self._leader_map(1)) / 2)
            state.anchor = low_passed(mean, self.setup.pixel_size_A, 1 / s.frequency)
            state.anchor_frequency = s.frequency
        state.halves, state.fsc, state.schedule = self.halves, result.fsc, s
        state.maps = [self._leader_map(h)[None] for h in HALVES]
        self._report(expectation_s, begun)
        if s.converged:
            self._finish(state, result)
        else:
            self._write()

    def _update_resolution(self, correlate: bool) -> None:
        s = self.schedule
        if s.iteration == 1 and correlate and self.config.ini_high > 0:
            shell = self.policy.shell(1 / self.config.ini_high)
        else:
            shell = resolution_shell(self.halves[0].data_vs_prior[0], self.policy.minres_map)
        update_resolution(self.policy, s, shell)

    def _update_changes(self, old: Poses, new: Poses) -> None:
        update_changes(self.policy, self.schedule, *self._changes(old, new))

    def _finish(self, state: RunState, result: MapResult) -> None:
        writer = cast(RefinementWriter, self.writer)  # or one in the background that passes calls on
        assert result.joined is not None
        writer.finish(state, result.joined, result.unfiltered)
        log.emit(
            messages.ending(
                self.names, self.setup, state, self.options.solvent_correct_fsc, self.options.tau2_fudge
            )
        )


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
    chosen = RefineConfig.from_options(options) if config is None else config
    return launch(chosen, 2, lambda team, stop: _run(team, chosen, stop))


def _run(team: Team, config: RefineConfig, stop: StopFlag) -> Result | None:
    def make(backend: Backend, start: Start) -> Refinement:
        assert isinstance(start.config, RefineConfig)
        return Refinement(team, backend, start.config, start, stop)

    return work(team, config, RefinementStart(), make)
