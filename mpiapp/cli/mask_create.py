"""``mpiapp mask_create``: options, checks, work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpiapp.cli.alone import run_alone
from mpiapp.config.mask_create import MaskCreateConfig

SUMMARY = (
    "Solvent mask: a map is low-passed, thresholded, extended and given a soft edge. Options have the names "
    "and meanings of relion_mask_create."
)
EXAMPLE = """\
mpiapp mask_create --i run_class001.mrc --o mask.mrc --lowpass 15 --ini_threshold 0.02 \\
       --extend_inimask 3 --width_soft_edge 6"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code."""
    return run_alone(MaskCreateConfig, argv, SUMMARY, EXAMPLE, _load)


def _load() -> Callable[[MaskCreateConfig], Any]:
    from mpiapp.engine.mask_create import mask_create

    return mask_create
