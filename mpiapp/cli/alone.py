"""Commands that one process does alone: under a launcher rank 0 works and the others end at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpiapp.cli.console import is_leader
from mpiapp.cli.options import Config, parse


def run_alone(
    config_class: type[Config],
    argv: Sequence[str],
    summary: str,
    example: str,
    load: Callable[[], Callable[[Config], Any]],
) -> int:
    """Parse, check, and run on the leader.

    Parameters
    ----------
    config_class, argv, summary, example : as of :func:`mpiapp.cli.options.parse`
    load : imports the function that does the work, which takes the configuration

    Returns
    -------
    Exit code 0; errors are raised.
    """
    config = parse(config_class, argv, summary, example)
    if config is None:
        return 0
    config.validate()
    if is_leader():
        load()(config)
    return 0
