"""Checkpoints: the exact state of a run as one HDF5 file, written so that a crash can not spoil it.

The file has the groups ``state`` and ``provenance``, nested like the dicts that they came from; arrays are
uncompressed, and every value has a CRC-32, so that a file damaged on the disk is found at reading and not by
a strange map ten hours later. ``h5dump`` and h5py show all of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpiapp
from mpiapp.errors import InputError
from mpiapp.io.atomic import atomic_file
from mpiapp.io.hdf5_tree import read_tree, tree_bytes, write_tree
from mpiapp.io.outputs import OutputNames

if TYPE_CHECKING:
    import h5py

FORMAT = "mpiapp checkpoint"
SCHEMA_VERSION = 2  # 1: full map of the first iteration; noise of classifications by optics group


def save_checkpoint(
    path: str | Path, state: Mapping[str, Any], provenance: Mapping[str, Any], keep: int = 2
) -> None:
    """Write a checkpoint, then remove those of the same run that are older than the last `keep`.

    Parameters
    ----------
    path : path
        As `OutputNames.checkpoint` names it; under another name nothing older is looked for.
    state : nested mapping
        What the run needs to go on exactly as if it had not stopped: dicts of arrays, numbers, str, bool,
        None (see `mpiapp.io.hdf5_tree.write_tree`).
    provenance : nested mapping
        Where the state comes from: command line, seed, inputs... Program version and time are added.
    keep : int
        Number of checkpoints to keep, this one included. Those of later iterations are not touched.

    Raises
    ------
    InputError
        When the file can not be written (full disk, no permission). Earlier checkpoints are intact.
    TypeError, ValueError
        When the state holds something that can not be stored exactly; the message names the key.
    """
    attributes = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "program_version": mpiapp.__version__}
    origin = {
        **provenance,
        "program_version": mpiapp.__version__,
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    with atomic_file(path, tree_bytes(state)) as temporary:
        write_tree(temporary, {"state": state, "provenance": origin}, attributes)
    remove_older(path, keep)


def load_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint back, every value with the type that it had.

    Returns
    -------
    state, provenance : dict
        As given to `save_checkpoint`; provenance also has ``program_version`` and ``written``.

    Raises
    ------
    InputError
        When the file is missing, not a checkpoint, cut off, damaged, or of a newer program. The message names
        the checkpoint before it, when there is one.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint. {_remedy(path)}")
    try:
        # No lock: reading needs none, and some cluster file systems do not have them.
        with h5py.File(path, "r", locking=False) as file:
            _check_header(file, path)
            return read_tree(file["state"]), read_tree(file["provenance"])
    except InputError:
        raise
    except Exception as error:  # a damaged file makes h5py fail in every way there is
        raise InputError(
            f"{path}: can not be read as a checkpoint; it is cut off, damaged or another kind of file "
            f"({error}). {_remedy(path)}"
        ) from error


def _check_header(file: h5py.File, path: Path) -> None:
    if str(file.attrs.get("format", "")) != FORMAT:
        raise InputError(f"{path}: an HDF5 file, but not a checkpoint of this program. {_remedy(path)}")
    schema = int(file.attrs["schema_version"])
    if schema > SCHEMA_VERSION:
        raise InputError(
            f"{path}: checkpoint of schema {schema}, written by mpiapp {file.attrs['program_version']}; this "
            f"is mpiapp {mpiapp.__version__}, which reads schema {SCHEMA_VERSION}. Update mpiapp"
        )
    if schema < SCHEMA_VERSION:
        raise InputError(
            f"{path}: checkpoint of schema {schema}, written by an older mpiapp; this one reads schema {SCHEMA_VERSION}. "
            "Move the file away: an auto-refinement then goes on from STAR files and maps of the iteration; begin a "
            "classification anew from its particles and maps"
        )


def _remedy(path: Path) -> str:
    """What to do about a checkpoint that can not be used."""
    own = _names_of(path)
    if own is not None:
        names, iteration = own
        earlier = [(number, found) for number, found in names.checkpoints() if number < iteration]
        if earlier:
            number, found = earlier[-1]
            return f"Continue from the one before it: {found} (--continue {names.optimiser(number)})"
        return (
            f"There is no earlier checkpoint of this run. Move the file away, then --continue "
            f"{names.optimiser(iteration)} starts from the STAR files and maps of the iteration"
        )
    return "Give a file that a run wrote, such as run_it012_checkpoint.h5"


def remove_older(path: str | Path, keep: int) -> None:
    """Remove the checkpoints of the same run before this one, but for the last ``keep - 1`` of them."""
    own = _names_of(Path(path))
    if own is None:
        return
    names, iteration = own
    older = [found for number, found in names.checkpoints() if number < iteration]
    for found in older[: max(0, len(older) - (keep - 1))]:
        found.unlink(missing_ok=True)


def _names_of(path: Path) -> tuple[OutputNames, int] | None:
    """The run and iteration that a checkpoint's name tells; None for a name of another kind."""
    try:
        names, iteration = OutputNames.from_file(path)
    except InputError:
        return None
    if iteration is None or names.checkpoint(iteration) != path:
        return None
    return names, iteration
