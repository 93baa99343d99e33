"""How a classification begins: its references, priors and schedule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ReadImages
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.engine.class_schedule import class_shells
from mpiapp.engine.class_writer import ClassWriter
from mpiapp.engine.inputs import Inputs, make_reader, read_inputs
from mpiapp.engine.noise import first_noise, without_signal
from mpiapp.engine.random_averages import random_averages
from mpiapp.engine.references import one_for_each
from mpiapp.engine.refine_start import first_data_vs_prior, signal_power
from mpiapp.engine.settings import class_policy
from mpiapp.engine.state import HalfState, RunState, Schedule, new_half
from mpiapp.io.outputs import OutputNames
from mpiapp.model.averages import average_spectrum, lowpass_average, transform_average
from mpiapp.model.blobs import blobs_like
from mpiapp.model.noise import particle_generator
from mpiapp.model.noise_groups import noise_groups
from mpiapp.model.sampling import direction_grid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
ClassConfigs = Class3dConfig | Class2dConfig
# Low-pass of averages made of the images themselves, as a digital frequency (refinement.md 7.2)
RANDOM_START = 0.07


class ClassStart:
    """As :class:`mpiapp.engine.startup.Kind`."""

    def read(
        self, config: ClassConfigs, seed: int, references: tuple[F32, float] | None
    ) -> tuple[ClassConfigs, Inputs]:
        from mpiapp.io.checks import check_poses

        inputs = read_inputs(config, seed, references, split=False)
        if references is None and len(inputs.references):
            given = config.is_given("n_classes")
            inputs.references, n = one_for_each(inputs.references, config.reference, config.n_classes, given)
            config = replace(config, n_classes=n)
        if isinstance(config, Class2dConfig):
            inputs.poses.rot_deg[:] = inputs.poses.tilt_deg[:] = 0
        if references is None and (config.skip_align or config.skip_rotate or config.sigma_ang > 0):
            flag = next(f for f in ("skip_align", "skip_rotate", "sigma_ang") if getattr(config, f))
            check_poses(inputs.table, f"--{flag}", planar=isinstance(config, Class2dConfig))
        if config.ctf and not config.grad:  # mini-batches have too few images of each defocus
            _divide_noise(inputs)
        return config, inputs

    def writer(self, config: ClassConfigs, inputs: Inputs, names: OutputNames, particles: int) -> ClassWriter:
        policy = class_policy(config, inputs.setup)
        return ClassWriter(config, inputs.setup, policy, inputs.table, names, particles, inputs.data.optics)

    def fresh(self, config: ClassConfigs, inputs: Inputs, seed: int, workers: int) -> RunState:
        setup, n_class = inputs.setup, config.n_classes
        read = make_reader(inputs.table.stack_paths)
        per_optics = config.nr_parts_sigma2noise if config.nr_parts_sigma2noise > 0 else 1000
        per_group = -(-per_optics * len(inputs.table.optics) // len(setup.optics))
        sigma2 = first_noise(setup, inputs.data, read, per_group, seed, workers)
        if not len(inputs.references):
            assert isinstance(config, Class2dConfig)
            inputs.references = _from_nothing(config, inputs, read, seed)
        same = _identical(inputs.references)
        power = [_power(config, inputs, r, workers) for r in inputs.references[: 1 if same else None]]
        power *= n_class if same else 1
        n_dir = 1
        if isinstance(config, Class3dConfig):
            n_dir = direction_grid(config.healpix_order, config.sym).rot_deg.size
            if not config.firstiter_cc:
                sigma2 = without_signal(setup, inputs.data, power[0], sigma2)
        half = new_half(
            setup.n_groups, sigma2, np.full((n_class, n_dir), 1.0 / (n_class * n_dir)), config.offset
        )
        for k, tau2 in enumerate(power):
            half.data_vs_prior[k] = _promised(config, inputs, tau2, sigma2)
        schedule = _schedule(config, inputs, half)
        schedule.seeding = same
        poses = inputs.poses
        poses.class_number[:] = 1
        if schedule.seeding:
            draws = np.random.default_rng(np.random.SeedSequence([seed, 0x73656564]))
            poses.class_number[:] = 1 + draws.integers(n_class, size=len(inputs.data))
        none = np.zeros((0, 0, 0))
        fsc = np.zeros(setup.n_shells)
        return RunState(schedule, [half], [inputs.references.copy()], poses, inputs.half, fsc, seed, none)


def _divide_noise(inputs: Inputs) -> None:
    """Give images of different defocus noise spectra of their own; to all else they are optics groups (noise_groups)."""
    defocus = (inputs.table.defocus_u_A + inputs.table.defocus_v_A) / 2
    group, of_optics = noise_groups(inputs.data.optics, defocus, len(inputs.setup.optics))
    inputs.data = replace(inputs.data, optics=group)
    inputs.setup = replace(inputs.setup, optics=[inputs.setup.optics[g] for g in of_optics])


def _from_nothing(config: Class2dConfig, inputs: Inputs, read: ReadImages, seed: int) -> F32:
    """Averages of the images at random angles, or blobs as strong as these (refinement.md 7.2)."""
    setup = inputs.setup
    shell = max(1, round(RANDOM_START * setup.box))
    if config.ini_high > 0:
        shell = max(1, round(setup.box * setup.pixel_size_A / config.ini_high))
    images = random_averages(setup, inputs.data, read, config.n_classes, shell, seed)
    if config.starts_from_blobs:
        pixel = setup.pixel_size_A
        blobs = [
            blobs_like(image, setup.particle_diameter_A / pixel, particle_generator(seed, "blobs", k))
            for k, image in enumerate(images)
        ]
        images = np.stack([lowpass_average(b, pixel, setup.box * pixel / shell) for b in blobs])
    return images * inputs.solvent


def _identical(references: F32) -> bool:
    """Whether all of several references are the same, so that chance has to tell them apart."""
    return len(references) > 1 and bool((references == references[0]).all())


def _power(config: ClassConfigs, inputs: Inputs, reference: F32, workers: int) -> F64:
    """Signal power of a reference by shell."""
    setup = inputs.setup
    if isinstance(config, Class3dConfig):
        return signal_power(config, setup, reference, workers)
    return average_spectrum(transform_average(reference, setup.box // 2), setup.n_shells)


def _promised(config: ClassConfigs, inputs: Inputs, tau2: F64, sigma2: F64) -> F64:
    """Signal-to-noise that a reference of this power promises (refinement.md 5.8)."""
    n_particles = len(inputs.data) / config.n_classes
    if isinstance(config, Class3dConfig):
        return first_data_vs_prior(inputs.setup, tau2, sigma2, n_particles)
    mean = sigma2.mean(0)
    return np.asarray(np.where(mean > 0, tau2 * n_particles / np.where(mean > 0, mean, 1), 0))


def _schedule(config: ClassConfigs, inputs: Inputs, half: HalfState) -> Schedule:
    setup, policy = inputs.setup, class_policy(config, inputs.setup)
    s = Schedule(
        config.healpix_order,
        config.offset_range * setup.pixel_size_A,
        config.offset_step * setup.pixel_size_A,
        oversampling=config.oversampling,
        increment=config.incr_size,
    )
    if isinstance(config, Class2dConfig):
        s.psi_step_deg = config.psi_step
    elif config.sigma_ang > 0:
        s.sigma_deg = config.sigma_ang
    if config.ini_high > 0:
        shell = policy.shell(1 / config.ini_high)
    elif not config.reference:
        shell = max(1, round(RANDOM_START * setup.box))
    else:
        shell = int(class_shells(policy, half).max())
    s.frequency = s.best_frequency = policy.frequency(shell)
    return s
