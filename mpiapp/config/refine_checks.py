"""Checks across the options of ``mpiapp refine3d``; a failure names the option, its value and the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mpiapp.errors import ConfigError

if TYPE_CHECKING:
    from mpiapp.config.refine import RefineConfig

SYMMETRY = re.compile(r"(?:[CD][1-9]\d{0,2}|T|O|I[1-4]?)", re.IGNORECASE)


def check_symmetry(name: str) -> None:
    """Raise ConfigError unless this is a point group."""
    if not SYMMETRY.fullmatch(name):
        raise ConfigError(f"--sym {name}: not a point group known here; use Cn, Dn, T, O, I or I1 to I4")


def check_required(config: RefineConfig) -> None:
    """Raise ConfigError unless the files a run needs are named."""
    if config.continue_from:
        if not config.continue_from.endswith("_optimiser.star"):
            raise ConfigError(
                f"--continue {config.continue_from}: give the _optimiser.star of an iteration to go on from, "
                "e.g. --continue run_it005_optimiser.star"
            )
        return
    if config.force_converge:
        raise ConfigError("--force_converge: it ends a run that is there already; add --continue FILE")
    needed = {
        "--i (particles STAR file)": config.input_star,
        "--o (output root)": config.output_root,
        "--ref (start map)": config.reference,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise ConfigError(
            f"missing {', '.join(missing)}; a run needs --i particles.star --o FOLDER/run --ref map.mrc"
        )


def check_combinations(config: RefineConfig) -> None:
    """Raise ConfigError for options that contradict each other."""
    check_symmetry(config.sym)
    if config.offset_step > config.offset_range > 0:
        raise ConfigError(
            f"--offset_step {config.offset_step:g}: larger than --offset_range {config.offset_range:g}; "
            "make the step smaller or the range larger"
        )
    if config.solvent_correct_fsc and not config.solvent_mask and not config.continue_from:
        raise ConfigError("--solvent_correct_fsc: it needs a mask; add --solvent_mask mask.mrc")
    for flag in ("ctf_intact_first_peak", "only_flip_phases"):
        if getattr(config, flag) and not config.ctf:
            raise ConfigError(f"--{flag}: it acts on the CTF; leave out either --no_ctf or --{flag}")
    if 0 < config.strict_lowres_exp <= config.strict_highres_exp:
        raise ConfigError(
            f"--strict_lowres_exp {config.strict_lowres_exp:g}: must be a larger number of angstroms than "
            f"--strict_highres_exp {config.strict_highres_exp:g}"
        )


def warnings_for(config: RefineConfig) -> list[str]:
    """Warnings about choices that are allowed but seldom meant."""
    lines = []
    if config.ini_high <= 0 and not config.continue_from:
        lines.append("no --ini_high: detail of the start map can bias the result; 30 to 60 A is usual")
    if config.particle_diameter <= 0 and not config.continue_from:
        lines.append("no --particle_diameter: the noise of the whole box takes part in aligning")
    if config.tau2_fudge > 1:
        lines.append(
            f"--tau2_fudge {config.tau2_fudge:g}: resolutions printed on the way will be inflated; "
            "judge the run by the FSC of the unfiltered half maps"
        )
    return lines
