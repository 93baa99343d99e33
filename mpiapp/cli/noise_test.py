"""``mpiapp noise_test``: options, checks, work on all processes."""

from __future__ import annotations

from collections.abc import Sequence

from mpiapp.cli.options import parse
from mpiapp.config.noise_test import NoiseTestConfig

SUMMARY = (
    "Does a refinement find detail in noise? The particles are refined once as they are and once with random phases "
    "beyond a resolution, with the same options; where the second run's halves still correlate, the first overfits "
    "(Chen et al., Ultramicroscopy 135 (2013) 24). Options are those of refine3d and two of its own."
)
EXAMPLE = """\
mpiapp noise_test --randomize_at 12 --i particles.star --o NoiseTest/run --ref map.mrc --ini_high 40 \\
       --particle_diameter 180 --original Refine3D/job001/run"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code."""
    config = parse(NoiseTestConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    config.validate()
    from mpiapp.engine.noise_test import noise_test

    noise_test(config)
    return 0
