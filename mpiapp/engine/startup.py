"""The first minutes of a refinement: read or resume on the leader, hand out to the workers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.background import BackgroundWriter
from mpiapp.engine.inputs import Inputs, make_reader, read_inputs, resolve_seed
from mpiapp.engine.iteration import HALVES, Share
from mpiapp.engine.noise import first_noise, without_signal
from mpiapp.engine.plan import Seat, plan_lines
from mpiapp.engine.resume import Resumed, check_continued, fingerprint, resume
from mpiapp.engine.schedule import Policy, local_sigma_deg, resolution_shell
from mpiapp.engine.settings import check_supported, make_policy
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.engine.writer import Writer
from mpiapp.errors import InputError
from mpiapp.io.outputs import OutputNames
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.projection import reference_spectrum, transform_reference
from mpiapp.model.sampling import direction_grid
from mpiapp.parallel.base import Team
from mpiapp.parallel.errors import raise_together
from mpiapp.report import log

F32 = NDArray[np.float32]
# shells in which the edge of the low-pass ends, with interpolation
LOWPASS_REACH = 4


@dataclass
class Start:
    """What a rank begins with."""

    config: RefineConfig
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


@dataclass
class Led:
    """What the leader has read."""

    config: RefineConfig
    inputs: Inputs
    state: RunState
    partial: dict[str, Any] | None


def begin(team: Team, config: RefineConfig) -> Start | None:
    """Prepare a new or a continued refinement on all ranks; None when only the plan was asked for."""
    led, small = None, None
    seats = [Seat(*seat) for seat in team.allgather((team.host, config.threads or team.threads))]
    with raise_together(team):
        if team.is_leader:
            led = _lead(config, seats)
            small = (led.config, led.inputs.setup, [str(p) for p in led.inputs.table.stack_paths])
    config, setup, stack_paths = team.bcast(small)
    if config.dry_run:
        return None
    names = OutputNames(config.output_root)
    if not team.is_leader:
        log.setup(config.verb, rank=team.rank, rank_log_file=_rank_log(names, config, team.rank))
    start = _hand_out(team, led, config, names, setup)
    start.stack_paths = [Path(p) for p in stack_paths]
    if led is not None:
        start.state, start.inputs, start.partial = led.state, led.inputs, led.partial
        policy, particles = make_policy(config, setup), fingerprint(led.inputs)
        start.writer = Writer(config, setup, policy, led.inputs.table, names, particles)
        if config.gpu is not None:
            start.writer = BackgroundWriter(start.writer)
    return start


def _hand_out(
    team: Team, led: Led | None, config: RefineConfig, names: OutputNames, setup: ImagingSetup
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
    halves = [_share_fields(team, HalfState, state.halves[h] if state else None) for h in HALVES]
    team.assign([int((half == h + 1).sum()) for h in HALVES])
    shares = _my_shares(team, half, data, Poses.unpack(packed))
    maps: list[F32 | None] = []
    for h in HALVES:
        received = team.from_leader_to_set(h, state.maps[h] if state else None)
        maps.append(state.maps[h] if state else received)
    threads = config.threads or team.threads
    if not team.is_leader:
        data = data.take(np.zeros(0, np.int64))  # a worker needs its shares only
    return Start(config, names, setup, data, schedule, halves, maps, shares, solvent, [], threads)


def _lead(config: RefineConfig, seats: list[Seat]) -> Led:
    """Read and check everything, on the leader."""
    found: Resumed | None = None
    if config.continue_from:
        found = resume(config)
        config = found.config
        check_supported(config)
    names = OutputNames(config.output_root)
    _open_log(names, config)
    log.emit(log.options(config))
    seed = resolve_seed(config) if found is None else found.seed
    config = replace(config, random_seed=seed)
    inputs = read_inputs(config, seed, None if found is None else found.reference)
    remarks = _overwritten(names) if found is None else found.remarks
    for warning in [*remarks, *inputs.warnings, *config.advice()]:
        log.emit([f" WARNING: {warning}"])
    if found is None:
        state = _fresh(config, inputs, seed, seats[0].threads)
    else:
        state = found.make_state(inputs)
        check_continued(config, state, inputs, found)
    log.emit(plan_lines(config, inputs.setup, state, seats))
    return Led(config, inputs, state, None if found is None else found.partial)


def _open_log(names: OutputNames, config: RefineConfig) -> None:
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


def _rank_log(names: OutputNames, config: RefineConfig, rank: int) -> Path | None:
    return names.rank_log(rank) if config.verb > 1 else None


def _fresh(config: RefineConfig, inputs: Inputs, seed: int, workers: int) -> RunState:
    """State before the first iteration."""
    setup = inputs.setup
    n_dir = direction_grid(config.healpix_order, config.sym).rot_deg.size
    per_group = config.nr_parts_sigma2noise if config.nr_parts_sigma2noise > 0 else 1000
    read = make_reader(inputs.table.stack_paths)
    sigma2 = first_noise(setup, inputs.data, read, per_group, seed, workers)
    tau2 = _signal_power(config, setup, inputs.reference, workers)
    if not config.firstiter_cc:
        sigma2 = without_signal(setup, inputs.data, tau2, sigma2)
    zero = np.zeros(setup.n_shells)
    halves = [
        HalfState(
            sigma2.copy(),
            np.ones(setup.n_groups),
            np.full(n_dir, 1.0 / n_dir),
            zero.copy(),
            zero.copy(),
            _first_data_vs_prior(setup, tau2, sigma2, int((inputs.half == h + 1).sum())),
            zero.copy(),
            np.array([1.0, config.offset, 0.0, 0.0]),
        )
        for h in HALVES
    ]
    schedule = _first_schedule(config, setup, halves[0])
    return RunState(
        schedule,
        halves,
        [inputs.reference.copy() for _ in HALVES],
        inputs.poses,
        inputs.half,
        np.zeros(setup.n_shells),
        seed,
        np.zeros((0, 0, 0), np.float32),
    )


def _signal_power(
    config: RefineConfig, setup: ImagingSetup, reference: F32, workers: int
) -> NDArray[np.float64]:
    """Signal power of the starting reference by shell, (n_shells,); nothing is left beyond a low-pass."""
    r_max = setup.box // 2
    if config.ini_high > 0:
        r_max = min(r_max, int(setup.box * setup.pixel_size_A / config.ini_high) + LOWPASS_REACH)
    transform = transform_reference(reference, r_max, setup.padding, workers=workers)
    return reference_spectrum(transform, setup.padding, setup.n_shells)


def _first_data_vs_prior(
    setup: ImagingSetup, tau2: NDArray[np.float64], sigma2: NDArray[np.float64], n_particles: int
) -> NDArray[np.float64]:
    """Signal-to-noise that the reference promises, for the image size of iteration 1 (refinement.md 5.8)."""
    mean = sigma2.mean(0)
    evidence = np.where(mean > 0, n_particles / np.where(mean > 0, mean, 1), 0)
    shells = np.arange(setup.n_shells)
    return np.asarray(tau2 * evidence / np.where(shells > 0, 2 * shells, 1))


def _first_schedule(config: RefineConfig, setup: ImagingSetup, half: HalfState) -> Schedule:
    schedule = Schedule(
        config.healpix_order,
        config.offset_range * setup.pixel_size_A,
        config.offset_step * setup.pixel_size_A,
        oversampling=config.oversampling,
        increment=config.incr_size,
    )
    policy: Policy = make_policy(config, setup)
    if config.ini_high > 0:
        shell = policy.shell(1 / config.ini_high)
    else:
        shell = resolution_shell(half.data_vs_prior, config.minres_map)
    schedule.frequency = schedule.best_frequency = policy.frequency(shell)
    if config.healpix_order >= config.auto_local_healpix_order:
        schedule.sigma_deg = local_sigma_deg(policy, schedule)
    return schedule


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
