"""Going on from an optimiser.star: the exact checkpoint beside it, or else STAR files and maps alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.classify import Class3dConfig
from mpiapp.config.common import CommonConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.inputs import Inputs
from mpiapp.engine.state import RunState
from mpiapp.errors import ConfigError, InputError
from mpiapp.io.outputs import OutputNames

F32 = NDArray[np.float32]


@dataclass
class Resumed:
    """A run to go on with.

    Attributes
    ----------
    config : options of the run, with those given now
    make_state : the state, once the particles are read
    references : those of the run and their pixel size, for the checks that the start map is used for else
    particles : fingerprint of the images (`fingerprint`); 0 when not known
    partial : what was done of the next iteration when the run was stopped
    """

    config: CommonConfig
    seed: int
    make_state: Callable[[Inputs], RunState]
    references: tuple[F32, float]
    particles: int = 0
    partial: dict[str, Any] | None = None
    remarks: list[str] = field(default_factory=list)


def resume(config: CommonConfig) -> Resumed:
    """Options and state of the run to go on with.

    Raises
    ------
    InputError
        No such file, or one that can not be read or continued.
    ConfigError
        An option was given that can not change on the way.
    """
    path = Path(config.continue_from)
    names, iteration = OutputNames.from_file(path)
    if iteration is None:
        raise InputError(
            f"--continue {path}: this run has converged; there is nothing to go on with. To repeat its last "
            f"steps give an earlier {names.root}_itNNN_optimiser.star"
        )
    if names.checkpoint(iteration).is_file():
        return _from_checkpoint(config, names, iteration)
    kept = names.checkpoints()
    last = f"the last one there is {names.optimiser(kept[-1][0])}" if kept else "check folder and name"
    if path.is_file():
        if isinstance(config, RefineConfig):
            from mpiapp.engine.resume_star import resume_from_star

            return resume_from_star(config, path, names, iteration)
        raise InputError(
            f"--continue {path}: its checkpoint {names.checkpoint(iteration)} is not there, and a classification "
            f"goes on from a checkpoint only; {last}"
        )
    raise InputError(f"--continue {path}: no such file (working directory {Path.cwd()}); {last}")


def check_continued(config: CommonConfig, state: RunState, inputs: Inputs, found: Resumed) -> None:
    """Refuse other particles than before, and a run that has nothing left to do."""
    n_before, n_now = len(state.half), len(inputs.table)
    if n_before != n_now or (found.particles and found.particles != fingerprint(inputs)):
        raise InputError(
            f"{config.input_star}: not the particles of the run that is continued ({n_now} now, {n_before} "
            "before, or in another order); put the file back, or start a new run without --continue"
        )
    done = state.schedule.iteration
    if done >= config.last_iteration:
        flag, other = config.last_iteration_flag
        raise ConfigError(
            f"--{flag} {config.last_iteration}: the run that is continued has done {done} iterations "
            f"already; give a larger number{other}"
        )


def fingerprint(inputs: Inputs) -> int:
    """A number that tells other particles, or another order of them, from these; never 0."""
    return zlib.crc32("\n".join(map(str, inputs.table.frame["rlnImageName"])).encode()) or 1


def _from_checkpoint(config: CommonConfig, names: OutputNames, iteration: int) -> Resumed:
    from mpiapp.io.checkpoint import load_checkpoint

    path = names.checkpoint(iteration)
    stored, provenance = load_checkpoint(path)
    try:
        state = RunState.from_dict(stored)
        options, setup = provenance["config"], provenance["setup"]
        references = (state.maps[0], float(setup["pixel_size_A"]))
        command = str(provenance.get("command", "mpiapp refine3d")).split()[1]
    except (KeyError, TypeError, IndexError) as fault:
        raise InputError(
            f"{path}: written by version {provenance.get('program_version', '?')} of this program, whose "
            f"state this one does not know ({fault}); continue with that version, "
            + (
                "or move the file away to go on from the STAR files and maps"
                if isinstance(config, RefineConfig)
                else "or start a new run from the particles and maps of that iteration"
            )
        ) from fault
    if command != config.command:
        raise InputError(
            f"{path}: left by mpiapp {command}, which mpiapp {config.command} can not go on with; use mpiapp {command}"
        )
    config = config.continued_from(options).validate()
    state.schedule.oversampling = config.oversampling
    if isinstance(config, Class3dConfig) and config.is_given("sigma_ang"):
        state.schedule.sigma_deg = config.sigma_ang if config.sigma_ang > 0 else None
    partial, remarks = _load_partial(names.partial_checkpoint(iteration + 1))
    later = [number for number, _ in names.checkpoints() if number > iteration]
    if later and config.output_root == names.root:
        remarks.append(
            f"files of iterations {iteration + 1} to {later[-1]} of the run before will be overwritten"
        )
    particles = int(provenance.get("particles", 0))
    return Resumed(config, state.seed, lambda _: state, references, particles, partial, remarks)


def _load_partial(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    from mpiapp.io.checkpoint import load_checkpoint

    if not path.is_file():
        return None, []
    try:
        return load_checkpoint(path)[0], []
    except InputError as fault:
        return None, [f"the unfinished iteration is done again from its start: {fault}"]
