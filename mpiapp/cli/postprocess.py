"""``mpiapp postprocess``: options, checks, work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpiapp.cli.alone import run_alone
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
    return run_alone(PostprocessConfig, argv, SUMMARY, EXAMPLE, _load)


def _load() -> Callable[[PostprocessConfig], Any]:
    from mpiapp.engine.postprocess import postprocess

    return postprocess
