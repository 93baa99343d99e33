"""Atomic models from PDB and mmCIF files (through gemmi, an optional package)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mpiapp.errors import ConfigError, InputError
from mpiapp.testing.points import FormFactor, PointModel


def read_model(path: Path | str) -> PointModel:
    """Read the first model of a PDB or mmCIF file (gzipped or not): all atoms but hydrogens and waters.

    Scattering factors for electrons are those of the International Tables, volume C, table 4.3.2.2, as gemmi
    holds them. B-factors of single atoms are left out: they say how well atoms were seen, not what the
    molecule looks like.

    Returns
    -------
    PointModel
        Moved so that its centre of mass lies in the box centre.

    Raises
    ------
    ConfigError
        gemmi is not installed.
    InputError
        The file is missing, unreadable or has no atoms.
    """
    gemmi = _gemmi()
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; expected an atomic model (.pdb, .cif, .gz of these)")
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError) as fault:
        raise InputError(f"{path}: not readable as PDB or mmCIF ({fault})") from fault
    if len(structure) == 0:
        raise InputError(f"{path}: holds no atoms; expected a PDB or mmCIF file with coordinates")
    structure.remove_hydrogens()
    structure.remove_waters()
    kinds: dict[str, int] = {}
    positions, weights, members = [], [], []
    for site in structure[0].all():
        atom = site.atom
        positions.append(atom.pos.tolist())
        weights.append(atom.occ)
        members.append(kinds.setdefault(atom.element.name, len(kinds)))
    if not positions or sum(weights) <= 0:
        raise InputError(
            f"{path}: holds no atoms with occupancy; expected a PDB or mmCIF file with coordinates"
        )
    factors = tuple(_form_factor(gemmi, name) for name in kinds)
    return PointModel(np.array(positions), np.array(weights), np.array(members), factors).centred()


def _form_factor(gemmi: Any, element: str) -> FormFactor:
    """Electron scattering factor; of carbon where the table has none (unknown atoms)."""
    coefficients = gemmi.Element(element).c4322
    if coefficients is None:
        coefficients = gemmi.Element("C").c4322
    # gemmi's formula is sum a exp(-b stol2), stol = s / 2, hence the same b as here
    return FormFactor(tuple(coefficients.a), tuple(coefficients.b))


def _gemmi() -> Any:
    try:
        import gemmi
    except ImportError:
        raise ConfigError(
            "reading atomic models needs the package gemmi; install it with: pip install 'mpiapp[models]'"
        ) from None
    return gemmi
