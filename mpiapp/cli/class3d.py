"""``mpiapp class3d``: options, checks, launch."""

from __future__ import annotations

from collections.abc import Sequence

from mpiapp.cli.options import parse
from mpiapp.config.classify import Class3dConfig
from mpiapp.engine.job_status import failure_marker

SUMMARY = (
    "Sort particles into K structural states, starting from one map (then chance tells the classes apart) "
    "or from several. Options have RELION's names and meanings; defaults are in [brackets], and those "
    "marked [on] are switched off with --no_NAME."
)
EXAMPLE = """\
mpiapp class3d --i particles.star --o Class3D/job002/run --ref map.mrc --ini_high 40 \\
       --particle_diameter 180 --K 4
mpiapp class3d ... --healpix_order 3 --sigma_ang 5         around known poses
mpiapp class3d ... --skip_align --solvent_mask focus.mrc   with fixed poses, in a mask
mpiapp class3d --continue Class3D/job002/run_it012_optimiser.star"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code.

    Raises
    ------
    MpiappError
        Wrong options or input, or a run that had to stop; the caller turns it into one line.
    """
    config = parse(Class3dConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    with failure_marker("" if config.dry_run else config.pipeline_control):
        launch(config.validate())
    return 0


def launch(config: Class3dConfig) -> None:
    """Start the classification on all ranks."""
    from mpiapp.engine.classify import class3d

    class3d(config)
