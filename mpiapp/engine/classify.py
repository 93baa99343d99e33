"""3D and 2D classification: the decisions between iterations (refinement.md 7.1, 7.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.engine import messages
from mpiapp.engine.class_accuracy import class_accuracies
from mpiapp.engine.class_maximization import ClassMaximization, ClassResult
from mpiapp.engine.class_schedule import (
    EVEN_ITERATIONS,
    class_search,
    class_shells,
    coarser_sampling,
    even_classes,
    overall_accuracy,
    own_gains,
)
from mpiapp.engine.class_start import ClassStart
from mpiapp.engine.class_writer import ClassWriter
from mpiapp.engine.iteration import uniform_prior
from mpiapp.engine.job import Job, Result, launch, work
from mpiapp.engine.maximization import with_spectra
from mpiapp.engine.schedule import image_size, update_resolution
from mpiapp.engine.settings import class_options, class_policy, class_rules
from mpiapp.engine.startup import Start
from mpiapp.engine.state import HalfState
from mpiapp.model.arrays import to_host
from mpiapp.model.particles import Poses
from mpiapp.model.sampling import direction_grid, next_perturbation
from mpiapp.model.search import Free, Search
from mpiapp.model.sums import WeightedSums
from mpiapp.parallel.base import Team
from mpiapp.parallel.stop import StopFlag
from mpiapp.report import lines, log

ClassConfigs = Class3dConfig | Class2dConfig


class Classification(Job):
    """A classification on one rank of a team."""

    def __init__(
        self, team: Team, backend: Backend, config: ClassConfigs, start: Start, stop: StopFlag
    ) -> None:
        policy, options = class_policy(config, start.setup), class_options(config, start.threads)
        super().__init__(team, backend, config, start, stop, policy, options)
        self.config = config
        self.rules = class_rules(config, start.setup)
        centre = config.offset_range if config.center_classes else 0.0
        self.maximization = ClassMaximization(team, backend, start.setup, options, start.solvent, centre)

    def _ended(self) -> bool:
        s = self.schedule
        if s.iteration < self.config.last_iteration:
            return False
        self.stopping.complete(s.iteration)
        if self.team.is_leader:
            # or one in the background that passes calls on
            cast(ClassWriter, self.writer).pictures(self._state())
            log.emit(messages.classes_ending(self.names, self._state(), s.psi_step_deg is not None))
        return True

    @property
    def _correlate(self) -> bool:
        return self.rules.firstiter_cc and self.schedule.iteration == 1

    def _search(self) -> Search:
        return class_search(self.policy, self.options, self.rules, self.schedule)

    def _decide(self) -> None:
        s, setup, free = self.schedule, self.setup, self.rules.free
        s.iteration += 1
        s.current_size = image_size(self.policy, s)
        if free is not Free.CLASS:
            s.perturbation = next_perturbation(s.perturbation, setup.seed, s.iteration, self.config.perturb)
        if s.iteration == 1 or free is not Free.ALL or not self._accuracies_due():
            return
        references, state = self.maps[0], self._state()
        assert references is not None
        self.halves[0] = class_accuracies(
            self.backend,
            setup,
            references,
            self.halves[0],
            s.current_size,
            self.data,
            state.poses,
            self.options.workers,
        )
        s.accuracy_rot_deg, s.accuracy_trans_A = overall_accuracy(self.halves[0])
        log.emit(messages.class_accuracies(self.halves[0]))
        if self.rules.coarser and coarser_sampling(self.rules, s):
            n = direction_grid(s.healpix_order, self.rules.sym).rot_deg.size
            self.halves[0] = uniform_prior(self.halves[0], n)

    def _accuracies_due(self) -> bool:
        """Whether expected accuracies are estimated in this iteration: where the sampling follows them, else at times."""
        number, last = self.schedule.iteration, self.config.last_iteration
        return self.rules.coarser or number == 2 or number % 5 == 0 or number == last

    def _parameters(self) -> list[HalfState]:
        """Classes that began as averages at random angles count as equally large at first."""
        random_start = not (self.config.needs_reference or self.config.reference)
        even = random_start and self.schedule.iteration <= EVEN_ITERATIONS
        return [even_classes(half) for half in self.halves] if even else self.halves

    def _maximize(self, sums: dict[int, WeightedSums]) -> ClassResult:
        lowpass_A = self.config.ini_high if self._correlate else -1.0
        return self.maximization.run(sums, self.maps, self.schedule.current_size // 2, lowpass_A)

    def _conclude(self, result: ClassResult, old: Poses, expectation_s: float, begun: float) -> None:
        s, state = self.schedule, self._state()
        half = self._update_parameters(0, result.small, self._correlate, everyone=True)
        self.halves[0] = half = with_spectra(self._tempered(half), result.spectra)
        s.average_pmax = float(half.scalars[3])
        if self._correlate and self.config.ini_high > 0:
            shell = self.policy.shell(1 / self.config.ini_high)
        else:
            shell = int(class_shells(self.policy, half).max())
        update_resolution(self.policy, s, shell)
        self._update_changes(old, state.poses)
        if self.config.n_classes > 1 and self._batch() is None and not self._correlate:
            self.halves[0] = half = replace(half, own_gain=self._own_gains(half))
        s.seeding = False
        references = self.maps[0]
        assert references is not None
        state.halves, state.schedule, state.maps = self.halves, s, [to_host(references)]
        log.emit(messages.classes(self.policy, half, s, class_shells(self.policy, half)))
        self._report(expectation_s, begun)
        self._write()

    def _own_gains(self, half: HalfState) -> NDArray[np.float64]:
        """How much better an image fits the class that it is part of."""
        n, order = len(self._state().half), self.setup.group.order
        solvent = self.iteration.solvent
        return own_gains(self.policy, self.options, self.rules, self.schedule, half, n, solvent, order)

    def _tempered(self, half: HalfState) -> HalfState:
        """Parameters to go on with, from those that the particles of this iteration give."""
        return half

    def _update_changes(self, old: Poses, new: Poses) -> None:
        """Changes of orientations, offsets and classes, for the log and the files (refinement.md 6.1)."""
        s, batch = self.schedule, self._batch()
        if batch is not None:
            old, new = old.take(np.flatnonzero(batch)), new.take(np.flatnonzero(batch))
        s.change_angle_deg, s.change_offset_A = self._changes(old, new)
        s.change_class = float((old.class_number != new.class_number).mean())
        s.smallest_angle_deg = min(s.smallest_angle_deg, s.change_angle_deg)
        s.smallest_offset_A = min(s.smallest_offset_A, s.change_offset_A)
        log.emit(lines.changes(s.change_angle_deg, s.change_offset_A, s.change_class))


def class3d(config: Class3dConfig | None = None, **options: Any) -> Result | None:
    """Sort particles into structural classes; options by name as in :func:`mpiapp.engine.refine3d.refine3d`.

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
    chosen = Class3dConfig.from_options(options) if config is None else config
    return launch(chosen, 1, lambda team, stop: _run(team, chosen, stop))


def class2d(config: Class2dConfig | None = None, **options: Any) -> Result | None:
    """Sort particles by view into class averages; as :func:`class3d`."""
    chosen = Class2dConfig.from_options(options) if config is None else config
    return launch(chosen, 1, lambda team, stop: _run(team, chosen, stop))


def _run(team: Team, config: ClassConfigs, stop: StopFlag) -> Result | None:
    from mpiapp.engine.gradient_classify import GradientClassification

    def make(backend: Backend, start: Start) -> Classification:
        assert isinstance(start.config, Class3dConfig | Class2dConfig)
        kind = GradientClassification if start.config.grad else Classification
        return kind(team, backend, start.config, start, stop)

    return work(team, config, ClassStart(), make)
