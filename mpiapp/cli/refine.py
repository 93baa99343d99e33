"""``mpiapp refine3d``: options, checks, launch."""

from __future__ import annotations

from collections.abc import Sequence

from mpiapp.cli.options import parse
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.job_status import failure_marker

SUMMARY = (
    "Gold-standard 3D auto-refinement: two halves of the particles are refined independently from one "
    "low-pass filtered start map, with sampling and resolution chosen from the data, and joined in a last "
    "iteration. Options have RELION's names and meanings; defaults are in [brackets], and those marked [on] "
    "are switched off with --no_NAME."
)
EXAMPLE = """\
mpiapp refine3d --i particles.star --o Refine3D/job001/run --ref map.mrc --ini_high 40 \\
       --particle_diameter 180 --sym C1
mpirun -n 5 mpiapp refine3d ... --j 8          one leader and four workers
mpiapp refine3d --continue Refine3D/job001/run_it005_optimiser.star"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code.

    Raises
    ------
    MpiappError
        Wrong options or input, or a run that had to stop; the caller turns it into one line.
    """
    config = parse(RefineConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    with failure_marker("" if config.dry_run else config.pipeline_control):
        launch(config.validate())
    return 0


def launch(config: RefineConfig) -> None:
    """Start the refinement on all ranks."""
    from mpiapp.engine.refine3d import refine3d

    refine3d(config)
