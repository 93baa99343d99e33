"""``mpiapp reconstruct``: options, checks, work on all processes."""

from __future__ import annotations

from collections.abc import Sequence

from mpiapp.cli.options import parse
from mpiapp.config.reconstruct import ReconstructConfig

SUMMARY = (
    "Map from particles whose poses are known, by back-projection without regularisation. Options have the names "
    "and meanings of relion_reconstruct; under mpirun all processes take part."
)
EXAMPLE = """\
mpiapp reconstruct --i run_data.star --o half1.mrc --ctf --sym C4 --subset 1
mpirun -n 5 mpiapp reconstruct --i run_data.star --o map.mrc --ctf
mpiapp reconstruct --i run_data.star --o map.mrc --ctf --gpu"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code."""
    config = parse(ReconstructConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    config.validate()
    from mpiapp.engine.reconstruct import reconstruct

    reconstruct(config)
    return 0
