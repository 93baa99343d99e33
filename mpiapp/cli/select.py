"""``mpiapp select``: particles of chosen classes to a new STAR file."""

from __future__ import annotations

from collections.abc import Sequence

from mpiapp.cli.console import say
from mpiapp.cli.options import parse
from mpiapp.config.select import SelectConfig

SUMMARY = (
    "Write the particles of chosen classes to a new STAR file, with all columns. A class has to meet every "
    "condition that is given. Shares are those of the particles' best classes."
)
EXAMPLE = """\
mpiapp select --i Class2D/job003/run_it025_data.star --o good.star --classes 1,4,7-9
mpiapp select --i Class3D/job002/run_it025_data.star --o good.star --min_fraction 0.1 --max_resolution 12"""


def run(argv: Sequence[str]) -> int:
    """Parse, check and run; returns the exit code.

    Raises
    ------
    MpiappError
        Wrong options or input; the caller turns it into one line.
    """
    config = parse(SelectConfig, argv, SUMMARY, EXAMPLE)
    if config is None:
        return 0
    from mpiapp.engine.select import select

    found = select(config.validate())
    numbers = ", ".join(map(str, found.classes))
    say(f"{found.n_particles} of {found.n_total} particles, of class {numbers}, are in {config.output}")
    return 0
