"""RELION's sampling file: angular and translational grids of an iteration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpiapp.io.relion_tables import FINE_GRID, MISSING, column, list_block, load_tables, loop_block, value
from mpiapp.io.star_table import Table


@dataclass(kw_only=True)
class SamplingRecord:
    """All that a sampling file holds; the ``original_`` values are those of the first iteration.

    Attributes
    ----------
    perturb_instance : float
        Random perturbation of the iteration as a fraction of the step, in [-perturb_factor, perturb_factor].
        RELION writes it, but does not read it back.
    tilt_limit_deg : float
        RELION's ``--limit_tilt``; beyond 90 there is no limit.
    rot_deg, tilt_deg : ndarray (n_directions,) float64
        Unperturbed directions of the coarse grid, in the order of the orientation distribution.
    """

    psi_step_deg: float
    offset_range_A: float
    offset_step_A: float
    healpix_order: int = 0
    symmetry: str = "C1"
    perturb_instance: float = 0.0
    perturb_factor: float = 0.5
    tilt_limit_deg: float = -91.0
    original_healpix_order: int | None = None
    original_psi_step_deg: float | None = None
    original_offset_range_A: float | None = None
    original_offset_step_A: float | None = None
    is_3d: bool = True
    rot_deg: np.ndarray = field(default_factory=lambda: np.empty(0))
    tilt_deg: np.ndarray = field(default_factory=lambda: np.empty(0))


# Label, attribute, type, whether a reader can do without it. In RELION's order.
_GENERAL: tuple[tuple[str, str, type, bool], ...] = (
    ("rlnIs3DSampling", "is_3d", bool, False),
    ("rlnHealpixOrder", "healpix_order", int, True),
    ("rlnSymmetryGroup", "symmetry", str, True),
    ("rlnTiltAngleLimit", "tilt_limit_deg", float, True),
    ("rlnPsiStep", "psi_step_deg", float, False),
    ("rlnOffsetRange", "offset_range_A", float, False),
    ("rlnOffsetStep", "offset_step_A", float, False),
    ("rlnSamplingPerturbInstance", "perturb_instance", float, True),
    ("rlnSamplingPerturbFactor", "perturb_factor", float, True),
    ("rlnHealpixOrderOriginal", "original_healpix_order", int, True),
    ("rlnPsiStepOriginal", "original_psi_step_deg", float, True),
    ("rlnOffsetRangeOriginal", "original_offset_range_A", float, True),
    ("rlnOffsetStepOriginal", "original_offset_step_A", float, True),
)

# What RELION expects although nothing here uses it: helices and subtomograms.
_UNUSED: dict[str, Any] = {"rlnIs3DTranslationalSampling": 0, "rlnHelicalOffsetStep": -1.0}


def write_sampling(path: str | Path, sampling: SamplingRecord) -> None:
    """Write a sampling file (atomic); originals that are None take the present values."""
    from mpiapp.io.star import write_star

    if np.shape(sampling.rot_deg) != np.shape(sampling.tilt_deg):
        raise ValueError(
            f"sampling record: {np.shape(sampling.rot_deg)} rot against {np.shape(sampling.tilt_deg)} tilt"
        )
    general: dict[str, Any] = {}
    for label, name, kind, _ in _GENERAL:
        found = getattr(sampling, name)
        if found is None:
            found = getattr(sampling, name.removeprefix("original_"))
        general[label] = int(found) if kind is bool else kind(found)
    blocks: dict[str, Any] = {"sampling_general": {**general, **_UNUSED}}
    if sampling.is_3d:
        blocks["sampling_directions"] = Table(
            {
                "rlnAngleRot": np.asarray(sampling.rot_deg, dtype=np.float64),
                "rlnAngleTilt": np.asarray(sampling.tilt_deg, dtype=np.float64),
            }
        )
    exact: bool | set[str] = True
    if np.size(sampling.rot_deg) > FINE_GRID:
        exact = set(blocks["sampling_general"])
    write_star(path, blocks, exact=exact)


def read_sampling(path: str | Path, *, directions: bool = True) -> SamplingRecord:
    """Read a sampling file of ours or of RELION 3.1 to 5 (offsets in angstrom).

    Parameters
    ----------
    directions : False leaves the directions of the grid out, which is all but a few lines of the file

    Raises
    ------
    InputError
        When the file, a table or a label is missing; the message names it.
    """
    table = "sampling_general"
    blocks = load_tables(path, () if directions else ("sampling_directions",))
    general = list_block(blocks, table, path)
    # RELION leaves the angular labels of 3D out of 2D files; the dataclass has values that stand for them.
    found = {
        name: value(general, label, kind, table, path, default=None if optional else MISSING)
        for label, name, kind, optional in _GENERAL
    }
    known = {name: item for name, item in found.items() if item is not None}
    record = SamplingRecord(**known)
    if record.is_3d and "sampling_directions" in blocks:
        rows = loop_block(blocks, "sampling_directions", path)
        record.rot_deg = column(rows, "rlnAngleRot", "sampling_directions", path)
        record.tilt_deg = column(rows, "rlnAngleTilt", "sampling_directions", path)
    return record
