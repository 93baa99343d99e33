"""``mpiapp image_handler``: options, checks, work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpiapp.cli.alone import run_alone
from mpiapp.config.image_handler import ImageHandlerConfig

SUMMARY = (
    "What is done to maps every day: FSC with another map, filters, scale and box, symmetry, hand, arithmetic. "
    "Options have the names and meanings of relion_image_handler; several are done in the order listed here."
)
EXAMPLE = """\
mpiapp image_handler --i half1.mrc --fsc half2.mrc
mpiapp image_handler --i map.mrc --rescale_angpix 2.68 --new_box 128 --lowpass 30 --o reference.mrc"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code."""
    return run_alone(ImageHandlerConfig, argv, SUMMARY, EXAMPLE, _load)


def _load() -> Callable[[ImageHandlerConfig], Any]:
    from mpiapp.engine.image_handler import image_handler

    return image_handler
