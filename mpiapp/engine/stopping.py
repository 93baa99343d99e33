"""Ending a run early such that nothing is lost, and taking the unfinished iteration up again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.common import CommonConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.background import BackgroundWriter
from mpiapp.engine.iteration import Share
from mpiapp.engine.partial import Bad, Marks, Sums, is_usable, keep
from mpiapp.engine.state import Schedule
from mpiapp.engine.writer import Writer
from mpiapp.errors import InputError, StopRequested
from mpiapp.io.outputs import OutputNames
from mpiapp.parallel.base import Team
from mpiapp.parallel.stop import StopFlag
from mpiapp.report import log


class Stopping:
    """What to do when the run is asked to end.

    Parameters
    ----------
    partial : what was kept when the run was stopped before (leader)
    writer : of the output files (leader)
    """

    def __init__(
        self,
        team: Team,
        stop: StopFlag,
        config: CommonConfig,
        names: OutputNames,
        partial: dict[str, Any] | None,
        writer: Writer | BackgroundWriter | None,
    ) -> None:
        self.team, self.stop, self.config, self.names = team, stop, config, names
        self.partial, self.writer = partial, writer
        self.catch_up: Callable[[], None] = lambda: None  # writes what is due before the run ends (all ranks)

    def take_partial(self, schedule: Schedule) -> dict[str, Any] | None:
        """What was kept of the coming iteration, if it still fits; handed out once (leader)."""
        partial, self.partial = self.partial, None
        if partial is None:
            return None
        if not is_usable(partial, schedule, self.config):
            log.emit([" The unfinished iteration is done again from its start, as options were changed"])
            return None
        done = int(partial["done"].sum())
        log.emit([f" {done} particles of this iteration were done before the run was stopped"])
        return partial

    def between(self, schedule: Schedule) -> None:
        """End the run here if it should end (all ranks)."""
        if self.team.any(self.stop.raised):
            self._end(schedule.iteration)

    def after_expectation(
        self,
        schedule: Schedule,
        half: NDArray[np.int8] | None,
        shares: dict[int, Share],
        sums: Sums,
        bad: Bad,
        batch: Marks | None = None,
    ) -> None:
        """Keep what is done of this iteration and end the run, if it should end (all ranks).

        Parameters
        ----------
        half : half of each particle (leader)
        batch : which of all particles the iteration looks at; None for all
        """
        if not self.team.any(self.stop.raised):
            return
        done = 0
        try:
            done = keep(self.team, self.names, self.config, schedule, half, shares, sums, bad, batch)
        except InputError as fault:  # a full disk: the iteration starts anew then
            log.emit([f" WARNING: {fault}"])
        if self.team.is_leader:
            log.emit([f" Stopped in iteration {schedule.iteration} with {done} of its particles done"])
        self._end(schedule.iteration - 1)

    def complete(self, last: int) -> None:
        """Write the files of the last iteration that ``--write_every`` left out."""
        if self.writer is not None:
            self.writer.complete(last)

    def leave(self, last: int) -> None:
        """What a run leaves that ends before it converges: the files of its last iteration, and its page."""
        self.complete(last)
        if self.writer is not None:
            self.writer.write_page()

    def _end(self, last: int) -> NoReturn:
        self.catch_up()
        self.leave(last)
        reason = next(text for text in self.team.allgather(self.stop.reason) if text)
        final = isinstance(self.config, RefineConfig) and self.config.force_converge
        more = " --force_converge" if final else ""
        raise StopRequested(
            f"{reason}; nothing is lost: go on with --continue {self.names.optimiser(last)}{more}"
        )
