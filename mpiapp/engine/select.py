"""Particles of chosen classes of a classification, as a new STAR file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpiapp.config.select import SelectConfig
from mpiapp.errors import InputError
from mpiapp.io.outputs import OutputNames


@dataclass(frozen=True)
class Selection:
    """What was selected: class numbers, and particles of how many."""

    classes: list[int]
    n_particles: int
    n_total: int


def select(config: SelectConfig) -> Selection:
    """Write the particles of the classes that meet all conditions.

    Raises
    ------
    InputError
        A file is missing or has no classes, a class does not exist, or no particle is left.
    """
    from mpiapp.io.particles import read_particles, write_particles
    from mpiapp.io.relion_files import read_model

    table = read_particles(config.data_star)
    if "rlnClassNumber" not in table.frame:
        raise InputError(
            f"{config.data_star}: no column rlnClassNumber; give the data.star of a classification"
        )
    model_path = Path(config.model_star) if config.model_star else _model_beside(config.data_star)
    records = read_model(model_path).classes
    wanted = config.ranges()
    unknown = [last for _, last in wanted if last > len(records)]
    if unknown:
        raise InputError(
            f"--classes {config.classes}: {model_path} has {len(records)} classes, not {min(unknown)}"
        )
    share = np.bincount(table.class_number, minlength=len(records) + 1)[1:] / len(table)
    chosen = [
        k
        for k, record in enumerate(records, 1)
        if (not wanted or any(first <= k <= last for first, last in wanted))
        and share[k - 1] >= config.min_fraction
        and (config.max_resolution <= 0 or record.resolution_A <= config.max_resolution)
    ]
    rows = np.flatnonzero(np.isin(table.class_number, chosen))
    if not rows.size:
        raise InputError(
            f"{config.data_star}: no particle is in a class that meets the conditions; relax them"
        )
    write_particles(config.output, replace(table, frame=table.frame.take(rows)))
    return Selection(chosen, int(rows.size), len(table))


def _model_beside(data_star: str) -> Path:
    names, iteration = OutputNames.from_file(data_star)
    path = names.model(iteration)
    if not path.is_file():
        raise InputError(
            f"{path}: not there; give the model file of the iteration that {data_star} is of with --model"
        )
    return path
