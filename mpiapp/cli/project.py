"""``mpiapp project``: options, checks, work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpiapp.cli.alone import run_alone
from mpiapp.config.project import ProjectConfig

SUMMARY = (
    "Projections of a map: one at given angles, many at random, or one for each particle of a STAR file, with its "
    "CTF. Options have the names and meanings of relion_project."
)
EXAMPLE = """\
mpiapp project --i map.mrc --o view.mrc --tilt 90
mpiapp project --i map.mrc --o proj --ang run_data.star --ctf          proj.mrcs and proj.star"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code."""
    return run_alone(ProjectConfig, argv, SUMMARY, EXAMPLE, _load)


def _load() -> Callable[[ProjectConfig], Any]:
    from mpiapp.engine.project import project

    return project
