"""MTF curves of detectors in RELION's STAR files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpiapp.errors import InputError
from mpiapp.io.relion_tables import column, load_tables, loop_block

if TYPE_CHECKING:
    from mpiapp.model.sharpen import Mtf

FREQUENCY, VALUE = "rlnResolutionInversePixel", "rlnMtfValue"
SMALLEST = 1e-10


def read_mtf(path: Path | str, pixel_size_A: float) -> Mtf:
    """Curve of a detector against spatial frequency.

    Parameters
    ----------
    pixel_size_A : of the detector in the micrographs, before any binning

    Raises
    ------
    InputError
        No such table, frequencies that do not rise, or a value that is not above 0.
    """
    from mpiapp.model.sharpen import Mtf

    blocks = load_tables(path)
    name = next((name for name, block in blocks.items() if FREQUENCY in getattr(block, "columns", [])), "")
    table = loop_block(blocks, name, path)
    frequency, value = (column(table, label, name, path) for label in (FREQUENCY, VALUE))
    falling = np.flatnonzero(np.diff(frequency) <= 0)
    if falling.size:
        raise InputError(
            f"{path}: _{FREQUENCY} must rise, but row {falling[0] + 2} has {frequency[falling[0] + 1]:g} after "
            f"{frequency[falling[0]]:g}; sort the table."
        )
    dark = np.flatnonzero(~(value > SMALLEST))
    if dark.size:
        raise InputError(
            f"{path}: _{VALUE} of row {dark[0] + 1} is {value[dark[0]]:g}; expected a value above 0, because "
            "the map is divided by it."
        )
    return Mtf(frequency / pixel_size_A, value)
