"""RELION's files of a run in one place: records of plain numbers and arrays, their writers and readers."""

from __future__ import annotations

from mpiapp.io.relion_bild import write_angular_distribution
from mpiapp.io.relion_model import ClassRecord, ModelRecord, noise_of_groups, write_model
from mpiapp.io.relion_model_reader import noise_of_optics, read_model
from mpiapp.io.relion_optimiser import OptimiserRecord, read_optimiser, write_optimiser
from mpiapp.io.relion_sampling import SamplingRecord, read_sampling, write_sampling
from mpiapp.io.relion_tables import locate_beside

__all__ = [
    "ClassRecord",
    "ModelRecord",
    "OptimiserRecord",
    "SamplingRecord",
    "locate_beside",
    "noise_of_groups",
    "noise_of_optics",
    "read_model",
    "read_optimiser",
    "read_sampling",
    "write_angular_distribution",
    "write_model",
    "write_optimiser",
    "write_sampling",
]
