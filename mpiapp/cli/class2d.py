"""``mpiapp class2d``: options, checks, launch."""

from __future__ import annotations

from collections.abc import Sequence

from mpiapp.cli.options import parse
from mpiapp.config.classify import Class2dConfig
from mpiapp.engine.job_status import failure_marker

SUMMARY = (
    "Sort particles by view into K class averages; without --ref they start from averages of random "
    "images. Options have RELION's names and meanings; defaults are in [brackets], and those marked [on] "
    "are switched off with --no_NAME."
)
EXAMPLE = """\
mpiapp class2d --i particles.star --o Class2D/job003/run --particle_diameter 180 --K 50
mpirun -n 5 mpiapp class2d ... --j 8          one leader and four workers
mpiapp class2d --continue Class2D/job003/run_it012_optimiser.star"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code.

    Raises
    ------
    MpiappError
        Wrong options or input, or a run that had to stop; the caller turns it into one line.
    """
    config = parse(Class2dConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    with failure_marker("" if config.dry_run else config.pipeline_control):
        launch(config.validate())
    return 0


def launch(config: Class2dConfig) -> None:
    """Start the classification on all ranks."""
    from mpiapp.engine.classify import class2d

    class2d(config)
