"""What of the options the two steps and the schedule look at, and which options are not there yet."""

from __future__ import annotations

from typing import Any

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.config.common import CommonConfig
from mpiapp.config.gradient import scheme_factor
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.class_schedule import ClassRules
from mpiapp.engine.gradient_schedule import (
    FIRST_STEP,
    LAST_STEP,
    PLANE_FIRST,
    PLANE_LAST,
    PLANE_POSES,
    VOLUME_FIRST,
    VOLUME_LAST,
    VOLUME_POSES,
    GradientRules,
    default_size,
)
from mpiapp.engine.iteration import Options
from mpiapp.engine.schedule import Policy
from mpiapp.errors import ConfigError
from mpiapp.model.search import Free


def check_supported(config: CommonConfig) -> None:
    """Refuse options that RELION has and this version does not compute with.

    Raises
    ------
    ConfigError
        Names the option and the remedy.
    """
    if config.gpu is None and config.precision not in ("auto", "single"):
        raise ConfigError(
            f"--precision {config.precision}: processors compute in single precision (sums in double); leave "
            "it out, or give --precision single, or compute on a device with --gpu"
        )
    for flag in ("ctf_intact_first_peak", "ctf_phase_flipped", "only_flip_phases"):
        if getattr(config, flag):
            raise ConfigError(
                f"--{flag}: this treatment of the CTF is not implemented, and leaving the flag out changes "
                "the result; extract the particles again without it, or run this job with RELION"
            )
    if config.strict_lowres_exp > 0:
        raise ConfigError(
            f"--strict_lowres_exp {config.strict_lowres_exp:g}: not implemented; leave it out, or run this "
            "job with RELION"
        )


def make_policy(config: RefineConfig, setup: ImagingSetup) -> Policy:
    """Rules of the schedule from the options."""
    return Policy(
        setup.box,
        setup.pixel_size_A,
        setup.particle_diameter_A,
        config.auto_local_healpix_order,
        config.minres_map,
        config.auto_ignore_angles,
        config.auto_resol_angles,
        config.sigma_ang,
        config.relion_convergence,
    )


def make_options(config: RefineConfig, workers: int) -> Options:
    """Options of the two steps."""
    return Options(
        config.low_resol_join_halves,
        config.tau2_fudge if config.tau2_fudge > 0 else 1.0,
        config.minres_map,
        config.adaptive_fraction,
        config.maxsig,
        config.strict_highres_exp,
        config.solvent_correct_fsc,
        config.flatten_solvent or bool(config.solvent_mask),
        workers,
    )


def class_policy(config: Class3dConfig | Class2dConfig, setup: ImagingSetup) -> Policy:
    """Rules of the schedule of a classification."""
    return Policy(setup.box, setup.pixel_size_A, setup.particle_diameter_A, minres_map=config.minres_map)


def class_rules(config: Class3dConfig | Class2dConfig, setup: ImagingSetup) -> ClassRules:
    """What shapes the search of a classification."""
    free = Free.CLASS if config.skip_align else Free.SHIFTS if config.skip_rotate else Free.ALL
    return ClassRules(
        config.sym,
        free,
        config.firstiter_cc,
        config.healpix_order,
        config.psi_step if isinstance(config, Class2dConfig) else None,
        config.offset_step * setup.pixel_size_A,
        config.allow_coarser_sampling,
    )


def gradient_rules(config: Class3dConfig | Class2dConfig, n_particles: int) -> GradientRules:
    """Rules of the gradient algorithm from the options; what they leave open follows RELION's defaults."""
    planar = isinstance(config, Class2dConfig)
    first, last = (PLANE_FIRST, PLANE_LAST) if planar else (VOLUME_FIRST, VOLUME_LAST)
    poses = (PLANE_POSES if planar else VOLUME_POSES) * config.n_classes
    step = config.grad_stepsize if config.grad_stepsize > 0 else LAST_STEP
    tau2_fudge = class_options(config, 1).tau2_fudge
    step_factor = scheme_factor("grad_stepsize_scheme", config.grad_stepsize_scheme)
    tau2_factor = scheme_factor("tau2_fudge_scheme", config.tau2_fudge_scheme)
    return GradientRules(
        n_iter=config.last_iteration,
        initial=config.grad_ini_frac,
        final=config.grad_fin_frac,
        n_particles=n_particles,
        first=config.grad_ini_subset if config.grad_ini_subset > 0 else default_size(n_particles, first),
        last=config.grad_fin_subset if config.grad_fin_subset > 0 else default_size(n_particles, last),
        step_size=step,
        step_factor=step_factor or (FIRST_STEP / step if planar else 1.0),
        tau2_fudge=tau2_fudge,
        tau2_factor=tau2_factor or (tau2_fudge if planar else 1.0),
        em_iterations=config.grad_em_iters,
        mu=config.mu,
        max_significant=config.maxsig if config.maxsig > 0 else poses,
        inactivity=config.class_inactivity_threshold,
        one_class=config.n_classes == 1,
        firstiter_cc=config.firstiter_cc,
    )


def class_options(config: Class3dConfig | Class2dConfig, workers: int) -> Options:
    """Options of the two steps of a classification."""
    default: Any = type(config).__dataclass_fields__["tau2_fudge"].default
    return Options(
        -1.0,
        config.tau2_fudge if config.tau2_fudge > 0 else float(default),
        config.minres_map,
        config.adaptive_fraction,
        config.maxsig,
        config.strict_highres_exp,
        False,
        config.flatten_solvent or bool(config.solvent_mask),
        workers,
    )
