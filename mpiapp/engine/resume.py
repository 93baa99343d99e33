"""Going on from an optimiser.star: the exact checkpoint beside it (refinement.md 10.5)."""

from __future__ import annotations

from pathlib import Path

from mpiapp.config.refine import RefineConfig
from mpiapp.engine.state import RunState
from mpiapp.errors import InputError
from mpiapp.io.outputs import OutputNames


def resume(config: RefineConfig) -> tuple[RefineConfig, RunState]:
    """Options and state of the run to go on with.

    Raises
    ------
    InputError
        No such file, no checkpoint beside it, or one that can not be read.
    """
    from mpiapp.io.checkpoint import load_checkpoint

    path = Path(config.continue_from)
    if not path.is_file():
        raise InputError(f"--continue {path}: no such file; give the <root>_itNNN_optimiser.star of the run to go on with")
    names, iteration = OutputNames.from_file(path)
    if iteration is None:
        raise InputError(
            f"--continue {path}: this run has converged; there is nothing to go on with. To repeat its last steps give an "
            "earlier <root>_itNNN_optimiser.star"
        )
    stored, provenance = load_checkpoint(names.checkpoint(iteration))
    before = provenance["config"]
    config = config.continued_from(before)
    return config.validate(), RunState.from_dict(stored)
