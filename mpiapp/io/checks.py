"""All checks of the input before work begins: what is wrong, where, and what to do about it.

Problems are collected, so that the user sees all of them at once; warnings are returned.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpiapp.errors import InputError
from mpiapp.io import checks_stacks, checks_table
from mpiapp.io.checks_maps import check_mask, check_reference, reference_fits
from mpiapp.io.checks_table import CheckOptions
from mpiapp.io.particles import ParticleTable

__all__ = ["CheckOptions", "check_mask", "check_particles", "check_poses", "check_reference"]

_STACK_PROBLEMS = (
    checks_stacks.missing,
    checks_stacks.truncated,
    checks_stacks.past_end,
    checks_stacks.boxes,
)
_STACK_WARNINGS = (checks_stacks.pixel_sizes, checks_stacks.remarks)


def check_particles(
    table: ParticleTable,
    reference_shape: tuple[int, ...] | None = None,
    reference_pixel_A: float | None = None,
    *,
    reference_path: str = "the reference",
    trust_reference: bool = False,
    diameter_A: float | None = None,
    ctf: bool = True,
    split_halves: bool = True,
    sample_images: int = 32,
    max_problems: int = 10,
) -> list[str]:
    """Check particles, their stacks and, where given, how the reference fits them.

    Parameters
    ----------
    reference_shape, reference_pixel_A, reference_path
        Shape (z, y, x) and pixel size of the reference; pixel size 0 or None: not known, not compared.
    trust_reference
        The reference is going to be rescaled: do not compare it.
    diameter_A
        Particle diameter.
    ctf, split_halves
        Whether the job corrects for the CTF; whether it refines two halves.
    sample_images
        How many images to read, to look for NaN and wrong normalisation; 0: none.
    max_problems
        How many problems the message lists.

    Returns
    -------
    warnings
        Remarks of the reader and of the checks, for the user to see once.

    Raises
    ------
    InputError
        One or more problems; the message has one line each.
    """
    options = CheckOptions(
        reference_shape, reference_pixel_A, reference_path, trust_reference, diameter_A, ctf, split_halves
    )
    stacks = checks_stacks.Stacks.read(table)
    problems = [text for check in checks_table.PROBLEMS for text in check(table, options)]
    problems += [text for check in _STACK_PROBLEMS for text in check(stacks)]
    problems += reference_fits(table, options)
    if problems:
        raise InputError(_join(problems, max_problems))
    warnings = list(table.notices)
    warnings += [text for check in checks_table.WARNINGS for text in check(table, options)]
    warnings += [text for check in _STACK_WARNINGS for text in check(stacks)]
    if sample_images:
        warnings += checks_stacks.sampled_images(table, diameter_A, sample_images)
    return warnings


def check_poses(table: ParticleTable, flag: str = "", *, planar: bool = False) -> None:
    """Refuse particles without orientations, which would all count as 0.

    Parameters
    ----------
    flag : option that keeps to those in the file, where they could do without
    planar : the in-plane angle is enough

    Raises
    ------
    InputError
        Columns of angles are missing; priors stand in for tilt and psi.
    """
    columns = table.frame
    missing = [
        label
        for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")[2 if planar else 0 :]
        if label not in columns and not (label != "rlnAngleRot" and f"{label}Prior" in columns)
    ]
    if missing:
        keeps, without = (
            (f", and {flag} keeps to the orientations in the file", f", or leave {flag} out")
            if flag
            else ("", "")
        )
        raise InputError(
            f"{table.path}: no column {', '.join(missing)}, so the particles have no poses{keeps}; give the particles of "
            f"a refinement or a 3D classification, e.g. run_data.star{without}."
        )


def _join(problems: Iterable[str], limit: int) -> str:
    lines = list(problems)
    if len(lines) == 1:
        return lines[0]
    shown = [f"  {number}. {line}" for number, line in enumerate(lines[:limit], 1)]
    rest = [f"  ... and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([f"{len(lines)} problems with the input:", *shown, *rest])
