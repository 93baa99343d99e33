"""``mpiapp postprocess``: options, checks, work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from mpiapp.cli.console import is_leader
from mpiapp.cli.options import parse
from mpiapp.config.postprocess import PostprocessConfig

SUMMARY = (
    "Post-processing of two unfiltered half maps: FSC within a mask, corrected by phase randomisation, "
    "sharpening of their average, postprocess.star and the FSC for the EMDB; or, with --locres, local "
    "resolution. Options have the names and meanings of relion_postprocess."
)
EXAMPLE = """\
mpiapp postprocess --i run_half1_class001_unfil.mrc --mask mask.mrc --auto_bfac --o PostProcess/job003/
mpiapp postprocess --i run_half1_class001_unfil.mrc --mask mask.mrc --locres --adhoc_bfac -100 --o locres/"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code."""
    config = parse(PostprocessConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    config.validate()
    from mpiapp.parallel.threads import available_cores
    from mpiapp.report.painter import Painter

    # started first: what draws is loaded while the science is
    draws = is_leader() and not config.locres
    with Painter(len(available_cores())) if draws else nullcontext() as painter:
        from mpiapp.engine.postprocess import postprocess

        postprocess(config, painter)
    return 0
