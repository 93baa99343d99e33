"""Particle tables: RELION STAR files of any version into arrays, and back with every column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.columns import Columns
from mpiapp.io.image_names import ImageNames, find_base, split_names
from mpiapp.io.labels import LEGACY_SHIFTS
from mpiapp.io.legacy import from_legacy, to_legacy
from mpiapp.io.mrc_header import read_header
from mpiapp.io.optics import OpticsGroup, read_optics, renumber_groups
from mpiapp.io.particle_arrays import particle_arrays, scale_groups
from mpiapp.io.relion_tables import loop_block
from mpiapp.io.star import parse_star, write_star
from mpiapp.io.star_parser import StarFile
from mpiapp.io.star_table import Table

__all__ = ["OpticsGroup", "ParticleTable", "read_particles", "write_particles"]

Floats = npt.NDArray[np.float64]


@dataclass(eq=False)
class ParticleTable:
    """Particles of one STAR file, in its order; n is their number.

    `frame` and `optics_frame` hold every column as read (RELION 3.0 tables converted to 3.1); the arrays are
    what the program computes with. Angles in degrees, lengths in angstrom.
    """

    path: Path
    optics: list[OpticsGroup]
    optics_frame: Table
    frame: Table
    stack_paths: list[Path]
    """Absolute."""
    stack_index: npt.NDArray[np.int32]
    """(n,) index into stack_paths."""
    image_index: npt.NDArray[np.int64]
    """(n,) 0-based image in its stack."""
    optics_index: npt.NDArray[np.int32]
    """(n,) index into optics."""
    rot_deg: Floats
    tilt_deg: Floats
    psi_deg: Floats
    origin_A: Floats
    """(n, 2) shift x, y that centres the image."""
    defocus_u_A: Floats
    defocus_v_A: Floats
    defocus_angle_deg: Floats
    phase_shift_deg: Floats
    ctf_bfactor_A2: Floats
    ctf_scale: Floats
    half: npt.NDArray[np.int8]
    """(n,) 1 or 2; 0 where not assigned."""
    group_index: npt.NDArray[np.int32]
    """(n,) index into group_names: groups of the intensity scale correction."""
    group_names: list[str]
    norm_correction: Floats
    class_number: npt.NDArray[np.int32]
    block: str = "particles"
    """Name of the table in the file."""
    notices: list[str] = field(default_factory=list)
    """Remarks for the user from reading."""

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, row: int) -> str:
        """File, row (1-based) and line of a particle, for messages."""
        return Columns(self.frame, self.path, self.block).where(row)

    def image_name(self, row: int) -> str:
        """rlnImageName of a particle."""
        return str(self.frame["rlnImageName"][row])


def read_particles(path: Path | str, root: Path | str | None = None) -> ParticleTable:
    """Read the particles of a RELION STAR file (3.1 and newer with optics groups, or the 3.0 single table).

    Parameters
    ----------
    path
        STAR file.
    root
        Folder that relative image names start from. None: the working directory, or where the images are
        not found there, the STAR file's folder or one above it; `notices` says which.

    Raises
    ------
    InputError
        No particles, mandatory columns missing, values of the wrong type, unknown optics groups. The images
        themselves are looked at by `mpiapp.io.checks.check_particles`.
    """
    path = Path(path)
    star = parse_star(path)
    name, frame = _particle_block(star)
    if not len(frame):
        raise InputError(f"{path}: table data_{name} has no rows; select particles first.")
    optics_frame, frame = _optics_block(star, name, frame)
    names = split_names(Columns(frame, path, name))
    base, notices = find_base(names.stacks, path, Path(root) if root is not None else None)
    stack_paths = [base / stack for stack in names.stacks]
    optics_frame, frame, optics_index, remarks = renumber_groups(optics_frame, frame, path)
    optics_frame, more = _complete_boxes(optics_frame, path, optics_index, stack_paths, names)
    optics, optics_notices = read_optics(optics_frame, path)
    table = Columns(frame, path, name)
    arrays, filled = particle_arrays(table)
    group_index, group_names = scale_groups(table, names)
    return ParticleTable(
        path=path,
        optics=optics,
        optics_frame=optics_frame,
        frame=frame,
        stack_paths=stack_paths,
        stack_index=names.stack_index,
        image_index=names.image_index,
        optics_index=optics_index,
        group_index=group_index,
        group_names=group_names,
        block=name,
        notices=[*star.notices, *notices, *remarks, *more, *optics_notices, *filled],
        **arrays,
    )


def _particle_block(star: StarFile) -> tuple[str, Table]:
    """The table with image names: data_particles, else data_images or data_ of older versions, else any."""
    tables = {name: block for name, block in star.blocks.items() if isinstance(block, Table)}
    preferred = [name for name in ("particles", "images", "") if name in tables]
    for name in [*preferred, *tables]:
        if "rlnImageName" in tables[name]:
            return name, tables[name]
    names = ", ".join(f"data_{name}" for name in star.blocks)
    hint = (
        "extract particles first"
        if "micrographs" in star.blocks
        else "give the STAR file of extracted particles"
    )
    raise InputError(f"{star.path}: no table with the column rlnImageName (the file has {names}); {hint}.")


def _optics_block(star: StarFile, name: str, frame: Table) -> tuple[Table, Table]:
    block = star.blocks.get("optics")
    if block is None and "rlnOpticsGroup" in frame and "rlnVoltage" not in frame:
        raise InputError(
            f"{star.path}: the particles have optics groups, but the table data_optics is missing; "
            f"copy it from the file that these particles were selected from."
        )
    if block is None:
        star.notices.append(f"{star.path}: a table of RELION 3.0 or older, converted to optics groups.")
        return from_legacy(frame, star.path, name)
    return loop_block(star.blocks, "optics", star.path), frame


def _complete_boxes(
    optics: Table,
    path: Path,
    optics_index: npt.NDArray[np.int32],
    stack_paths: list[Path],
    names: ImageNames,
) -> tuple[Table, list[str]]:
    """Where the table does not say the image size, take it from the first image of each group."""
    if "rlnImageSize" in optics:
        return optics, []
    sizes, notices = np.zeros(len(optics), np.int64), []
    for group in range(len(optics)):
        mine = np.flatnonzero(optics_index == group)
        try:
            if mine.size:
                sizes[group] = read_header(stack_paths[names.stack_index[mine[0]]]).shape[2]
        except InputError as error:
            notices.append(f"{path}: the image size of optics group {group + 1} is unknown: {error}")
    return optics.with_columns({"rlnImageSize": sizes}), notices


def write_particles(
    path: Path | str,
    table: ParticleTable,
    updates: Mapping[str, npt.ArrayLike] | None = None,
    *,
    comment: str = "",
    legacy: bool = False,
) -> None:
    """Write particles and optics as RELION 3.1 does, every input column kept; atomic.

    Parameters
    ----------
    table
        As read; its `frame` is not changed.
    updates
        Column label (without underscore) -> (n,) values, replacing or adding columns. These are written with
        RELION's six decimals; the others keep all their digits.
    comment
        Lines for the head of the file.
    legacy
        Write the single table of RELION 3.0 instead.
    """
    columns = {label: np.asarray(values) for label, values in (updates or {}).items()}
    for label, column in columns.items():
        if column.shape != (len(table),):
            raise ValueError(f"{label}: {column.shape} values for {len(table)} particles")
    frame = table.frame.with_columns(columns)
    exact = set(frame) - set(columns)
    if legacy:
        exact -= {*LEGACY_SHIFTS}  # computed from angstrom
        blocks = {"": to_legacy(table.optics_frame, frame, table.path)}
    else:
        exact |= set(table.optics_frame)
        blocks = {"optics": table.optics_frame, "particles": frame}
    write_star(path, blocks, comment, exact)
