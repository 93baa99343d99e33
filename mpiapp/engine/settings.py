"""What of the options the two steps and the schedule look at, and which options are not there yet."""

from __future__ import annotations

from typing import Any

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.config.common import CommonConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.class_schedule import ClassRules
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
        config.strict_lowres_exp,
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
        config.strict_lowres_exp,
        False,
        config.flatten_solvent or bool(config.solvent_mask),
        workers,
    )
