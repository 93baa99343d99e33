"""The loop that all jobs share: decide, expectation, gather, maximization, conclude, write (engine.md 8).

What differs between refinement in two halves and classification is in the methods that the subclasses fill in.
Particles come in sets: the two halves of a refinement, or one set of all particles.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, ImagingSetup, ReadImages
from mpiapp.config.common import CommonConfig
from mpiapp.engine import messages
from mpiapp.engine.backends import check_devices, start_backend, tell_devices
from mpiapp.engine.background import BackgroundWriter
from mpiapp.engine.device_plan import device_lines, work_of
from mpiapp.engine.faults import GOES_ON, named_faults
from mpiapp.engine.frame import Drift, undo
from mpiapp.engine.inputs import Inputs, make_reader
from mpiapp.engine.iteration import Iteration, Options, Share
from mpiapp.engine.maximization import update_parameters
from mpiapp.engine.partial import Bad, Sums, expectation, remaining
from mpiapp.engine.schedule import Policy
from mpiapp.engine.startup import Kind, Start, begin
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.engine.stopping import Stopping
from mpiapp.engine.writer import Writer
from mpiapp.io.outputs import OutputNames
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.rotations import angular_distance_rows_deg, euler_to_matrix
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.parallel.base import Team
from mpiapp.parallel.stop import StopFlag
from mpiapp.report import lines, log
from mpiapp.report.progress import Progress


@dataclass(frozen=True)
class Result:
    """Where a run ended; the same on every rank except for what only the leader has."""

    names: OutputNames
    converged: bool
    iterations: int
    resolution_A: float


class Job(ABC):
    """A run on one rank of a team."""

    label = ""  # of the log lines about sampling

    def __init__(
        self,
        team: Team,
        backend: Backend,
        config: CommonConfig,
        start: Start,
        stop: StopFlag,
        policy: Policy,
        options: Options,
    ) -> None:
        self.team, self.backend, self.stop = team, backend, stop
        self.policy, self.options = policy, options
        self.setup: ImagingSetup = start.setup
        self.data: ParticleData = start.data
        self.names = start.names
        self.schedule: Schedule = start.schedule
        self.halves: list[HalfState] = start.halves
        self.maps = start.maps
        self.shares: dict[int, Share] = start.shares
        self.state: RunState | None = start.state  # leader
        self.inputs: Inputs | None = start.inputs  # leader
        self.read: ReadImages = make_reader(start.stack_paths)
        self.iteration = Iteration(team, backend, start.setup, options, start.solvent)
        self.writer: Writer | BackgroundWriter | None = start.writer
        self.stopping = Stopping(team, stop, config, start.names, start.partial, start.writer)
        self.options_of_run = config
        self.bad_rows: set[int] = set()
        self.began = time.monotonic()
        self.busy_s = 0.0  # of this rank in the expectation of the iteration
        self.rank_s: dict[float, float] = {}  # the same of all ranks that work (leader)
        self.device_busy: float | None = None  # mean share of the devices' time, of the last iteration
        self.score_error: float | None = None  # nats, of the last iteration, where it was measured

    # ---- what each kind of job does in its own way ---------------------------------------------------------

    @abstractmethod
    def _decide(self) -> None:
        """Sizes, perturbation, accuracies and sampling of the coming iteration (leader)."""

    @abstractmethod
    def _search(self) -> Search:
        """Search grid of the iteration."""

    @abstractmethod
    def _maximize(self, sums: dict[int, WeightedSums]) -> Any:
        """New references from the sums (all ranks)."""

    @abstractmethod
    def _conclude(self, result: Any, old: Poses, expectation_s: float, begun: float) -> None:
        """New parameters, resolution and changes; write everything (leader)."""

    @abstractmethod
    def _ended(self) -> bool:
        """Whether the iteration was the last one."""

    def _batch(self) -> NDArray[np.bool_] | None:
        """Which of all particles the iteration looks at; None for all (all ranks)."""
        return None

    def _drifts(self) -> list[Drift]:
        """How far the maps of each set have wandered; the leader's poses are put back."""
        return [Drift.none() for _ in self.sets]

    # ---- the loop ------------------------------------------------------------------------------------------

    @property
    def sets(self) -> range:
        """Numbers of the sets of particles."""
        return range(self.team.n_sets)

    def run(self) -> Result:
        """Iterate until the job is done."""
        if self.team.is_leader and self.schedule.iteration == 0:
            self._write()
        try:
            while not self._next():
                pass
        finally:
            if isinstance(self.writer, BackgroundWriter):
                self.writer.close()
        s = self.schedule
        return Result(self.names, s.converged, s.iteration, 1 / max(s.frequency, 1e-6))

    def _next(self) -> bool:
        """One iteration; True when it was the last."""
        self.stopping.between(self.schedule)
        if self.team.is_leader:
            self._decide()
        self.schedule, drifts = self.team.bcast((self.schedule, self._drifts()))
        for h, share in self.shares.items():
            share.poses = undo(share.poses, drifts[h])
        search = self._search()
        if self.team.is_leader:
            log.emit(messages.coming_iteration(self.policy, self.schedule, search, self.label))
        self._share_parameters()
        begun = time.monotonic()
        sums, bad = self._expect(search, drifts)
        half = self._state().half if self.team.is_leader else None
        self.stopping.after_expectation(self.schedule, half, self.shares, sums, bad, self._batch())
        old = self._gather_poses(bad)
        between = time.monotonic()
        result = self._maximize(sums)
        shares = [share for share in self.team.allgather(self.backend.take_busy()) if share is not None]
        self.device_busy = float(np.mean(shares)) if shares else None
        self._judge_precision()
        if self.team.is_leader:
            assert old is not None
            self._conclude(result, old, between - begun, between)
        self.team.barrier()
        return self._ended()

    def _judge_precision(self) -> None:
        """Tell the error of the scores, by which all ranks choose the precision of the next iteration."""
        found = [e for e in self.team.allgather(self.backend.take_score_error()) if e is not None]
        self.score_error = float(np.max(found)) if found else None
        if self.score_error is not None:
            told = [
                line for line in self.team.allgather(self.backend.judge_precision(self.score_error)) if line
            ]
            if self.team.is_leader:
                log.emit(told[0])

    def _expect(self, search: Search, drifts: list[Drift]) -> tuple[Sums, Bad]:
        partial = self.stopping.take_partial(self.schedule)
        self.busy_s = 0.0
        with self._progress(partial) as progress:

            def step(n: int) -> bool:
                progress.advance(n)
                return self.stop.raised

            def expect(
                shares: dict[int, Share],
            ) -> tuple[Sums, Bad]:
                begun = time.monotonic()
                found = self._expectation(search, shares, drifts, step)
                self.busy_s += time.monotonic() - begun
                return found

            return expectation(self.team, partial, self.shares, expect)

    def _expectation(
        self, search: Search, shares: dict[int, Share], drifts: list[Drift], step: Callable[[int], bool]
    ) -> tuple[Sums, Bad]:
        """Sums of some particles of this rank, whose poses are replaced."""
        return self.iteration.expectation(
            search, self._parameters(), self.maps, shares, drifts, self.read, step
        )

    def _parameters(self) -> list[HalfState]:
        """Parameters of each set that particles are compared with."""
        return self.halves

    def _gather_poses(self, bad: Bad) -> Poses | None:
        """Collect the new poses on the leader; returns the old ones there."""
        old = None
        if self.team.is_leader:
            state = self._state()
            old = state.poses
            state.poses = old.take(np.arange(len(old.rot_deg)))
        for h in self.sets:
            share = self.shares.get(h)
            rows = self.team.gather_rows(h, None if share is None else share.poses.pack())
            flags = self.team.gather_rows(h, None if share is None else self._flags(bad[h]))
            if self.team.is_leader:
                assert rows is not None
                assert flags is not None
                state = self._state()
                index = np.flatnonzero(state.half == h + 1)
                state.poses.put(index, Poses.unpack(rows))
                self.rank_s |= dict(flags[:, 1:].tolist())
                self._tell_bad(index[flags[:, 0] > 0])
        return old

    def _flags(self, bad: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Of each particle of this rank: whether it is set aside; the rank, and how long its expectation took."""
        return np.column_stack([bad, np.full((len(bad), 2), (self.team.rank, self.busy_s))])

    def _tell_bad(self, rows: NDArray[np.int64]) -> None:
        """Images that are not finite, when they are met for the first time (leader)."""
        new = [row for row in rows.tolist() if row not in self.bad_rows]
        self.bad_rows.update(new)
        if self.inputs is not None:
            log.emit(messages.set_aside(np.array(new, np.int64), self.inputs.table.image_name))

    # ---- what the subclasses use ---------------------------------------------------------------------------

    def _update_parameters(
        self, h: int, small: list[NDArray[np.float64]], correlate: bool, everyone: bool
    ) -> HalfState:
        """Parameters of a set from its sums without the grid; ``everyone``: the sums are of all particles."""
        mine = slice(None) if everyone else self._state().half == h + 1
        size = np.bincount(self.data.group[mine], minlength=self.setup.n_groups)
        c = self.options_of_run
        sums = WeightedSums.from_arrays([np.zeros(0), *small])
        return update_parameters(self.halves[h], sums, size, scale=c.scale, norm=c.norm, correlate=correlate)

    def _changes(self, old: Poses, new: Poses) -> tuple[float, float]:
        """Mean change of the orientations in degrees, r.m.s. change of an offset in A (refinement.md 6.1)."""
        a = euler_to_matrix(old.rot_deg, old.tilt_deg, old.psi_deg)
        b = euler_to_matrix(new.rot_deg, new.tilt_deg, new.psi_deg)
        angle = float(angular_distance_rows_deg(a, b, self.setup.group.operators).mean())
        return angle, float(np.sqrt(((new.origin_A - old.origin_A) ** 2).sum(1).mean() / 2))

    def _report(self, expectation_s: float, begun: float) -> None:
        """Times of the iteration to the log, and its figures to the history."""
        state, now = self._state(), time.monotonic()
        p_max = self.schedule.average_pmax
        batch, seconds = self._batch(), (expectation_s, now - begun)
        n = len(state.half) if batch is None else int(batch.sum())
        log.emit(lines.iteration_end(n, *seconds, now - self.began, p_max, self.device_busy))
        figures = self._figures() | messages.rank_figures(self.rank_s)
        if self.device_busy is not None:
            figures["device_busy"] = self.device_busy
        if self.score_error is not None:
            figures["score_error_nats"] = self.score_error
        messages.record(state, self.setup, *seconds, figures)

    def _figures(self) -> dict[str, float]:
        """More columns of the history."""
        return {}

    def _write(self) -> None:
        assert self.writer is not None
        self.writer.iteration(self._state())

    def _leader_map(self, h: int, k: int = 0) -> NDArray[np.float32]:
        """Reference of a class."""
        volumes = self.maps[h]
        assert volumes is not None
        return np.asarray(volumes[k])

    def _state(self) -> RunState:
        assert self.state is not None
        return self.state

    def _share_parameters(self) -> None:
        """The leader's model parameters on all ranks."""
        for h in self.sets:
            half = self.halves[h] if self.team.is_leader else None
            names = [*self.halves[h].arrays()]
            arrays = [self.team.bcast_array(getattr(half, name) if half else None) for name in names]
            self.halves[h] = HalfState(**dict(zip(names, arrays, strict=True)))  # type: ignore[arg-type]

    def _progress(self, partial: dict[str, Any] | None) -> Progress:
        """Progress of this rank; one of those that work shows it."""
        shown = self.options_of_run.verb > 0 and self.team.rank == min(1, self.team.size - 1)
        label = "Expectation" if self.team.size == 1 else "Expectation, rank 1"
        return Progress(label, remaining(self.team, partial, self.shares, self._batch()), shown=shown)


def work(
    team: Team,
    config: CommonConfig,
    kind: Kind,
    make: Callable[[Backend, Start], Job],
) -> Result | None:
    """Begin a job, with its backend, and run it to its end (all ranks); None when only the plan was asked for.

    Parameters
    ----------
    make : the job, from the backend of this rank and what it begins with
    """
    from threadpoolctl import threadpool_limits

    # Threads of BLAS that have nothing to do go on looking for work, which took a twentieth of the CPU time of a small
    # run; products that are worth threads are done by threads of our own.
    with threadpool_limits(1):
        check_devices(team, config)
        start = begin(team, config, kind)
        told = _describing(team, start) if start.config.gpu is not None else None
        if start.config.dry_run:
            tell_devices(team, start.config, told)
            return None
        config = start.config
        return make(start_backend(team, config, start.threads, config.precision, told), start).run()


def _describing(team: Team, start: Start) -> Callable[[Mapping[int, int]], list[str]]:
    """What tells the leader's log what devices will do, from the bytes that each rank may use of its own (all ranks)."""
    everyone = team.allgather(work_of(start.shares, start.setup))

    def lines_of(memory: Mapping[int, int]) -> list[str]:
        n_class = start.halves[0].n_class
        return device_lines(start.config, start.setup, start.schedule, n_class, everyone, memory)

    return lines_of


def launch(
    config: CommonConfig,
    n_sets: int,
    run: Callable[[Team, StopFlag], Result | None],
) -> Result | None:
    """Run a job on all ranks, with signals, time limit and markers of RELION's pipeline."""
    from mpiapp.engine.job_status import abort_file, failure_marker, job_markers, mark_success
    from mpiapp.engine.settings import check_supported
    from mpiapp.parallel.runtime import session
    from mpiapp.parallel.watch import watch

    folder = "" if config.dry_run else config.pipeline_control
    with job_markers(folder):
        check_supported(config.validate())
        hours = config.max_hours if config.max_hours > 0 else None
        with session(n_sets=n_sets) as team, StopFlag(hours) as stop, failure_marker(folder):
            with watch(team, stop, abort_file(folder)):
                try:
                    with named_faults(GOES_ON):
                        result = run(team, stop)
                except Exception as fault:
                    log.to_file(f" {type(fault).__name__}: {fault}")
                    raise
                finally:
                    log.close()
            if team.is_leader:
                mark_success(folder)
    return result
