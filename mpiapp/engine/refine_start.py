"""How a refinement in two halves begins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.common import VolumeConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.inputs import Inputs, make_reader, read_inputs
from mpiapp.engine.iteration import HALVES
from mpiapp.engine.noise import first_noise, without_signal
from mpiapp.engine.refine_writer import RefinementWriter
from mpiapp.engine.schedule import Policy, local_sigma_deg, resolution_shell
from mpiapp.engine.settings import make_policy
from mpiapp.engine.state import HalfState, RunState, Schedule, new_half
from mpiapp.io.outputs import OutputNames
from mpiapp.model.projection import reference_spectrum, transform_reference
from mpiapp.model.sampling import direction_grid

F32 = NDArray[np.float32]
# shells in which the edge of the low-pass ends, with interpolation
LOWPASS_REACH = 4


class RefinementStart:
    """As :class:`mpiapp.engine.startup.Kind`."""

    def read(
        self, config: RefineConfig, seed: int, references: tuple[F32, float] | None
    ) -> tuple[RefineConfig, Inputs]:
        return config, read_inputs(config, seed, references, split=True)

    def writer(
        self, config: RefineConfig, inputs: Inputs, names: OutputNames, particles: int
    ) -> RefinementWriter:
        policy = make_policy(config, inputs.setup)
        return RefinementWriter(config, inputs.setup, policy, inputs.table, names, particles)

    def fresh(self, config: RefineConfig, inputs: Inputs, seed: int, workers: int) -> RunState:
        return _fresh(config, inputs, seed, workers)


def _fresh(config: RefineConfig, inputs: Inputs, seed: int, workers: int) -> RunState:
    """State before the first iteration."""
    setup = inputs.setup
    n_dir = direction_grid(config.healpix_order, config.sym).rot_deg.size
    per_group = config.nr_parts_sigma2noise if config.nr_parts_sigma2noise > 0 else 1000
    read = make_reader(inputs.table.stack_paths)
    with ThreadPoolExecutor(1) as beside:
        power = beside.submit(signal_power, config, setup, inputs.references[0], workers)
        sigma2 = first_noise(setup, inputs.data, read, per_group, seed, workers)
    tau2 = power.result()
    if not config.firstiter_cc:
        sigma2 = without_signal(setup, inputs.data, tau2, sigma2)
    halves = [
        new_half(setup.n_groups, sigma2, np.full((1, n_dir), 1.0 / n_dir), config.offset) for _ in HALVES
    ]
    for h, half in enumerate(halves):
        n_particles = int((inputs.half == h + 1).sum())
        half.data_vs_prior[0] = first_data_vs_prior(setup, tau2, sigma2, n_particles)
    schedule = _first_schedule(config, setup, halves[0])
    return RunState(
        schedule,
        halves,
        [inputs.references.copy() for _ in HALVES],
        inputs.poses,
        inputs.half,
        np.zeros(setup.n_shells),
        seed,
        np.zeros((0, 0, 0)),
    )


def signal_power(
    config: VolumeConfig, setup: ImagingSetup, reference: F32, workers: int
) -> NDArray[np.float64]:
    """Signal power of the starting reference by shell, (n_shells,); nothing is left beyond a low-pass."""
    r_max = setup.box // 2
    if config.ini_high > 0:
        r_max = min(r_max, int(setup.box * setup.pixel_size_A / config.ini_high) + LOWPASS_REACH)
    transform = transform_reference(reference, r_max, setup.padding, workers=workers)
    return reference_spectrum(transform, setup.padding, setup.n_shells)


def first_data_vs_prior(
    setup: ImagingSetup, tau2: NDArray[np.float64], sigma2: NDArray[np.float64], n_particles: float
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
        shell = resolution_shell(half.data_vs_prior[0], config.minres_map)
    schedule.frequency = schedule.best_frequency = policy.frequency(shell)
    if config.healpix_order >= config.auto_local_healpix_order:
        schedule.sigma_deg = local_sigma_deg(policy, schedule)
    return schedule
