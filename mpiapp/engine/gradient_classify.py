"""Classification by gradient steps from mini-batches (refinement.md 7.4): what differs from all particles at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend
from mpiapp.engine import messages
from mpiapp.engine.background import snapshot
from mpiapp.engine.class_maximization import ClassResult
from mpiapp.engine.class_schedule import class_search
from mpiapp.engine.classify import ClassConfigs, Classification
from mpiapp.engine.frame import Drift
from mpiapp.engine.gradient_maximization import GradientMaximization
from mpiapp.engine.gradient_schedule import ACCURACY_EVERY, GradientStep, gradient_step, mini_batch
from mpiapp.engine.iteration import Share
from mpiapp.engine.maximization import tempered
from mpiapp.engine.partial import Bad, Sums
from mpiapp.engine.pseudo_halves import empty_sums, stacked
from mpiapp.engine.settings import gradient_rules
from mpiapp.engine.startup import Start
from mpiapp.engine.state import HalfState, RunState
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.parallel.base import Team
from mpiapp.parallel.stop import StopFlag
from mpiapp.report import log

Marks = NDArray[np.bool_]


class GradientClassification(Classification):
    """A classification on one rank of a team, most of whose iterations look at a mini-batch only.

    Files and checkpoint are left out after most mini-batches; a run that is asked to end writes them first.
    """

    def __init__(
        self, team: Team, backend: Backend, config: ClassConfigs, start: Start, stop: StopFlag
    ) -> None:
        super().__init__(team, backend, config, start, stop)
        self.n_particles: int = team.bcast(len(start.data) if team.is_leader else None)
        self.gradient = gradient_rules(config, self.n_particles)
        base = self.maximization
        self.maximization: GradientMaximization = GradientMaximization(
            team, backend, start.setup, self.options, start.solvent, base.centre_px
        )
        stored = start.state.moments if start.state is not None else {}
        self.maximization.restore(stored, config.n_classes, 2 if self.schedule.psi_step_deg else 3)
        self.stopping.catch_up = self._catch_up
        self.unwritten: RunState | None = None  # the last iteration, where its files were left out (leader)
        self.drawn: tuple[int, Marks | None] = (0, None)

    @property
    def _step(self) -> GradientStep:
        return gradient_step(self.gradient, self.schedule.iteration)

    def _batch(self) -> Marks | None:
        number = self.schedule.iteration
        if self.drawn[0] != number:
            self.drawn = number, mini_batch(self.setup.seed, number, self.n_particles, self._step.size)
        return self.drawn[1]

    def _search(self) -> Search:
        step, options = self._step, self.options
        if self.team.is_leader:
            log.emit(messages.gradient_step(step, self.n_particles))
        if step.gradient:
            options = replace(options, max_significant=self.gradient.max_significant)
        # the number of states has a limit of its own
        return replace(class_search(self.policy, options, self.rules, self.schedule), coarse_fraction=None)

    def _accuracies_due(self) -> bool:
        return self._step.size is None or self.schedule.iteration % ACCURACY_EVERY == 0

    def _parameters(self) -> list[HalfState]:
        """As they are from the start: mini-batches temper the sizes of classes in their own way."""
        return self.halves

    def _expectation(
        self, search: Search, shares: dict[int, Share], drifts: list[Drift], step: Callable[[int], bool]
    ) -> tuple[Sums, Bad]:
        """Sums of the particles of the mini-batch, in two pseudo-halves: grids of classes k and K + k."""
        if not self._step.gradient:
            return super()._expectation(search, shares, drifts, step)
        batch, sums, marks = self._batch(), {}, {}
        for h, share in shares.items():
            parts: list[WeightedSums] = []
            marks[h] = np.zeros(share.rows.size, bool)
            for parity in (0, 1):
                mine = share.data.particle_id % 2 == parity
                rows = np.flatnonzero(mine if batch is None else mine & batch[share.rows])
                if not rows.size:
                    parts.append(empty_sums(self.backend, self.setup, search, self.config.n_classes))
                    continue
                part = Share(share.rows[rows], share.data.take(rows), share.poses.take(rows))
                found, bad = super()._expectation(search, {h: part}, drifts, step)
                share.poses.put(rows, part.poses)
                marks[h][rows] = bad[h]
                parts.append(found[h])
            sums[h] = stacked(*parts)
        return sums, marks

    def _maximize(self, sums: dict[int, WeightedSums]) -> ClassResult:
        step = self._step
        self.maximization.step = step
        if not step.gradient:
            return super()._maximize(sums)
        result, self.halves[0] = self.maximization.descend(
            step, self.halves[0], sums, self.maps, self.schedule.current_size // 2
        )
        if self._files_due():
            moments = self.maximization.gather(self.config.n_classes)
            if self.team.is_leader:
                self._state().moments = moments
        return result

    def _tempered(self, half: HalfState) -> HalfState:
        return tempered(self.halves[0], half, self._step.mu)

    def _figures(self) -> dict[str, float]:
        step = self._step
        size = self.n_particles if step.size is None else step.size
        return {"mini_batch": size, "step_size": step.step_size if step.gradient else np.nan}

    def _files_due(self) -> bool:
        number, config = self.schedule.iteration, self.config
        last = number == config.last_iteration
        return not self._step.gradient or last or number % config.grad_write_iter == 0

    def _write(self) -> None:
        state = self._state()
        if self.schedule.iteration and not self._files_due():
            self.unwritten = snapshot(state)
            return
        super()._write()
        state.moments, self.unwritten = {}, None

    def _catch_up(self) -> None:
        """Files of the last iteration, where they were left out (all ranks)."""
        if not self.team.any(self.unwritten is not None):
            return
        moments = self.maximization.gather(self.config.n_classes)
        if self.unwritten is not None and self.writer is not None:
            self.unwritten.moments = moments
            self.writer.iteration(self.unwritten)
            self.unwritten = None
