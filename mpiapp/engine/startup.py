"""The first minutes of a job: read or resume on the leader, hand out to the workers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.common import CommonConfig
from mpiapp.engine.background import BackgroundWriter, WritingProcess
from mpiapp.engine.inputs import Inputs, resolve_seed
from mpiapp.engine.iteration import Share
from mpiapp.engine.plan import Seat, plan_lines
from mpiapp.engine.resume import Resumed, check_continued, fingerprint, resume
from mpiapp.engine.settings import check_supported
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.engine.writer import Writer
from mpiapp.errors import InputError
from mpiapp.io.atomic import remove_abandoned
from mpiapp.io.outputs import OutputNames
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.parallel.base import Team
from mpiapp.parallel.errors import raise_together
from mpiapp.report import log

F32 = NDArray[np.float32]


@dataclass
class Start:
    """What a rank begins with."""

    config: CommonConfig
    names: OutputNames
    setup: ImagingSetup
    data: ParticleData
    schedule: Schedule
    halves: list[HalfState]
    maps: list[F32 | None]
    shares: dict[int, Share]
    solvent: F32
    stack_paths: list[Path]
    threads: int
    state: RunState | None = None
    inputs: Inputs | None = None
    writer: Writer | BackgroundWriter | None = None
    partial: dict[str, Any] | None = None  # an iteration that was cut short (leader)


class Kind(Protocol):
    """What the beginning of a kind of job does in its own way."""

    def read(self, config: Any, seed: int, references: tuple[F32, float] | None) -> tuple[Any, Inputs]:
        """Read and check all input; the options come back with what the files decide filled in.

        Parameters
        ----------
        references : those of a run that goes on, and their pixel size
        """

    def fresh(self, config: Any, inputs: Inputs, seed: int, workers: int) -> RunState:
        """State before the first iteration."""

    def writer(self, config: Any, inputs: Inputs, names: OutputNames, particles: int) -> Writer:
        """Writer of the output files; ``particles`` is their fingerprint."""


@dataclass
class Led:
    """What the leader has read."""

    config: CommonConfig
    inputs: Inputs
    state: RunState
    partial: dict[str, Any] | None


def begin(team: Team, config: CommonConfig, kind: Kind) -> Start:
    """Prepare a new or a continued refinement on all ranks; without a writer when only the plan was asked for."""
    if not team.is_leader or config.gpu is None or config.dry_run:
        return _begin(team, config, kind, None)
    writing = WritingProcess()
    try:
        return _begin(team, config, kind, writing)
    except BaseException:
        writing.end(at_once=True)
        raise


def _begin(team: Team, config: CommonConfig, kind: Kind, writing: WritingProcess | None) -> Start:
    led, small = None, None
    seats = [Seat(*seat) for seat in team.allgather((team.host, config.threads or team.threads))]
    with raise_together(team):
        if team.is_leader:
            led = _lead(config, seats, kind)
            small = (led.config, led.inputs.setup, [str(p) for p in led.inputs.table.stack_paths])
    config, setup, stack_paths = team.bcast(small)
    names = OutputNames(config.output_root)
    if not team.is_leader and not config.dry_run:
        log.setup(config.verb, rank=team.rank, rank_log_file=_rank_log(names, config, team.rank))
    start = _hand_out(team, led, config, names, setup)
    start.stack_paths = [Path(p) for p in stack_paths]
    if led is not None:
        start.state, start.inputs, start.partial = led.state, led.inputs, led.partial
    if led is not None and not config.dry_run:
        start.writer = kind.writer(config, led.inputs, names, fingerprint(led.inputs))
        if writing is not None:
            start.writer = BackgroundWriter(start.writer, writing)
    return start


def _hand_out(
    team: Team, led: Led | None, config: CommonConfig, names: OutputNames, setup: ImagingSetup
) -> Start:
    """Arrays of the leader to the ranks that need them."""
    state, inputs = (led.state, led.inputs) if led is not None else (None, None)
    schedule = team.bcast(state.schedule if state else None)
    half = team.bcast_array(state.half if state else None)
    data = _share_fields(team, ParticleData, inputs.data if inputs else None)
    packed = team.bcast_array(state.poses.pack() if state else None)
    solvent = team.bcast_array(inputs.solvent if inputs else None)
    assert half is not None
    assert packed is not None
    assert solvent is not None
    sets = range(team.n_sets)
    halves = [_share_fields(team, HalfState, state.halves[h] if state else None) for h in sets]
    team.assign([int((half == h + 1).sum()) for h in sets])
    shares = _my_shares(team, half, data, Poses.unpack(packed))
    maps: list[F32 | None] = []
    for h in sets:
        received = team.from_leader_to_set(h, state.maps[h] if state else None)
        maps.append(state.maps[h] if state else received)
    threads = config.threads or team.threads
    if not team.is_leader:
        data = data.take(np.zeros(0, np.int64))  # a worker needs its shares only
    return Start(config, names, setup, data, schedule, halves, maps, shares, solvent, [], threads)


def _lead(config: CommonConfig, seats: list[Seat], kind: Kind) -> Led:
    """Read and check everything, on the leader."""
    found: Resumed | None = None
    if config.continue_from:
        found = resume(config)
        config = found.config
        check_supported(config)
    names = OutputNames(config.output_root)
    _open_log(names, config)
    if not config.dry_run:
        remove_abandoned(config.output_root)
    log.emit(log.options(config))
    seed = resolve_seed(config) if found is None else found.seed
    config = replace(config, random_seed=seed)
    config, inputs = kind.read(config, seed, None if found is None else found.references)
    remarks = _overwritten(names) if found is None else found.remarks
    for warning in [*remarks, *inputs.warnings, *config.advice()]:
        log.emit([f" WARNING: {warning}"])
    if found is None:
        state = kind.fresh(config, inputs, seed, seats[0].threads)
    else:
        state = found.make_state(inputs)
        check_continued(config, state, inputs, found)
    log.emit(plan_lines(config, inputs.setup, state, seats, len(inputs.table.optics)))
    return Led(config, inputs, state, None if found is None else found.partial)


def _open_log(names: OutputNames, config: CommonConfig) -> None:
    if config.dry_run:
        log.setup(config.verb)
        return
    try:
        names.folder.mkdir(parents=True, exist_ok=True)
        log.setup(
            config.verb,
            log_file=names.log,
            rank_log_file=_rank_log(names, config, 0),
            append=bool(config.continue_from),
        )
    except OSError as fault:
        raise InputError(
            f"{names.folder}: output can not be written to this folder ({fault.strerror}); choose another --o "
            "or change its permissions"
        ) from fault


def _overwritten(names: OutputNames) -> list[str]:
    before = names.checkpoints()
    if not before:
        return []
    return [f"{names.root}_*: files of a run before are overwritten (its last iteration was {before[-1][0]})"]


def _rank_log(names: OutputNames, config: CommonConfig, rank: int) -> Path | None:
    return names.rank_log(rank) if config.verb > 1 else None


def _share_fields(team: Team, kind: Any, value: Any) -> Any:
    """A dataclass of arrays of the leader, on all ranks."""
    arrays = [team.bcast_array(None if value is None else getattr(value, f.name)) for f in fields(kind)]
    return kind(*arrays)


def _my_shares(team: Team, half: NDArray[np.int8], data: ParticleData, poses: Poses) -> dict[int, Share]:
    """Particles of this rank, by half, in file order."""
    shares = {}
    for h, (start, stop) in team.my_ranges().items():
        rows = np.flatnonzero(half == h + 1)[start:stop]
        shares[h] = Share(rows, data.take(rows), poses.take(rows))
    return shares
