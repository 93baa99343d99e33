"""Rotational point groups in RELION's axis settings: their operators, and the asymmetric unit of directions.

A symmetry mate of the orientation ``A`` is ``A @ R_j``; of the viewing direction ``d`` (a column) it is
``R_j^T d``. Axes and cuts are those of refinement.md 8.1 and 8.2. The operators are closed from exact axes,
so they agree with RELION's printed ones within the five digits of its constants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.errors import ConfigError
from mpiapp.model.rotations import FloatArray, euler_to_matrix

BoolArray = NDArray[np.bool_]

EXISTING = "C1, C2, ... Cn; D1, D2, ... Dn; T; O; I (= I2), I1, I2, I3, I4"
MAX_FOLD = 999
# RELION looks for seam duplicates only where fewer directions than this are left.
MAX_SEAM_DIRECTIONS = 4000
# Directions this close to a border count as on it. Without the margin, rounding decides which of two
# equivalent borders is kept, and now and then that neither is.
BORDER_DEG = 1e-9
BORDER_DOT = 1e-11

_ROTATIONAL = re.compile(r"(?P<family>[CD])(?P<fold>[1-9][0-9]*)|T|O|I[1-4]?")
_ACHIRAL = re.compile(r"C[IS]|C[0-9]+[VH]|S[0-9]+|D[0-9]+[VH]|T[DH]|OH|I[1-5]?H")

_GOLDEN = (1.0 + 5.0**0.5) / 2.0
# Axes (fold, direction) whose powers generate the group; two axes are enough for each.
_GENERATORS: dict[str, tuple[tuple[int, tuple[float, float, float]], ...]] = {
    "T": ((3, (0.0, 0.0, 1.0)), (2, (0.0, 2.0**0.5, 1.0))),
    "O": ((3, (1.0, 1.0, 1.0)), (4, (0.0, 0.0, 1.0))),
    "I1": ((2, (1.0, 0.0, 0.0)), (5, (_GOLDEN, 0.0, -1.0))),
    "I2": ((2, (0.0, 0.0, 1.0)), (5, (1.0, 0.0, _GOLDEN))),
    "I3": ((2, (-1.0, 0.0, _GOLDEN)), (5, (0.0, 0.0, 1.0))),
    "I4": ((2, (1.0, 0.0, _GOLDEN)), (5, (2.0, 0.0, 1.0))),
}

# Inward normals of the planes that bound the asymmetric units; digits as in RELION, so that directions on a
# seam fall on the same side.
_T_NORMALS = ((-1.0, 0.0, 0.0), (0.471405, 0.272165, 0.7698), (0.471404, 0.816497, 0.0))
_O_NORMALS = ((0.0, -1.0, 1.0), (1.0, 1.0, 0.0), (-1.0, 1.0, 0.0))
_I2_NORMALS = (
    (0.0, 1.0, 0.0),
    (-0.4999999839058737, -0.8090170074556163, 0.3090169861701543),
    (0.4999999839058737, -0.8090170074556163, 0.3090169861701543),
)
_I4_NORMALS = (
    (0.0, 0.0, -1.0),
    (-0.187592467856686, 0.303530987314591, 0.491123477863004),
    (-0.187592467856686, -0.303530987314591, 0.491123477863004),
)
# Tilt of the rotation that takes the setting of the normals to the setting of the group.
_I_TILT = {"I1": 90.0, "I2": 0.0, "I3": 31.7174745559, "I4": -31.7174745559}


@dataclass(frozen=True, eq=False)
class PointGroup:
    """A rotational point group.

    Attributes
    ----------
    name
        Upper-case name as the user gave it ("I" stays "I").
    family
        "C", "D", "T", "O" or "I1" to "I4" ("I" is "I2").
    fold
        The n of Cn and Dn, 1 for the others.
    operators
        (n, 3, 3) float64, read-only; the identity is first.
    """

    name: str
    family: str
    fold: int
    operators: FloatArray

    @property
    def order(self) -> int:
        """Number of operators, identity included."""
        return int(self.operators.shape[0])


def point_group(name: str) -> PointGroup:
    """The point group of a RELION name.

    Parameters
    ----------
    name
        C1, C2, ..., D1, D2, ..., T, O, I (= I2), I1, I2, I3, I4; case does not matter.

    Returns
    -------
    PointGroup
        The same object for the same name.

    Raises
    ------
    ConfigError
        For groups with mirrors or inversion, and for unknown names.
    """
    return _point_group(name.strip().upper())


@lru_cache(maxsize=16)
def _point_group(name: str) -> PointGroup:
    match = _ROTATIONAL.fullmatch(name)
    if match is None or int(match["fold"] or 1) > MAX_FOLD:
        raise ConfigError(_refusal(name))
    family = match["family"] or ("I2" if name == "I" else name)
    fold = int(match["fold"] or 1)
    operators = _close(_generators(family, fold))
    operators.flags.writeable = False
    return PointGroup(name, family, fold, operators)


def _refusal(name: str) -> str:
    if _ACHIRAL.fullmatch(name):
        return (
            f"--sym {name}: this group contains a mirror plane or an inversion, which no protein or "
            f"nucleic acid can have. Use the rotational group it contains. Groups that exist: {EXISTING}."
        )
    return f"--sym {name}: no such point group. Groups that exist here: {EXISTING}."


def _generators(family: str, fold: int) -> list[FloatArray]:
    about_z = (fold, (0.0, 0.0, 1.0))
    if family == "C":
        axes: tuple[tuple[int, tuple[float, float, float]], ...] = (about_z,)
    elif family == "D":
        axes = (about_z, (2, (1.0, 0.0, 0.0)))
    else:
        axes = _GENERATORS[family]
    return [_about_axis(axis, 360.0 / n) for n, axis in axes if n > 1]


def _about_axis(axis: ArrayLike, angle_deg: float) -> FloatArray:
    """Rotation about an axis (Rodrigues), with the sense of rotation of Rz(psi)."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(-angle_deg)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross))


def _close(generators: list[FloatArray]) -> FloatArray:
    """All products of the generators, (n, 3, 3), identity first."""
    elements = [np.eye(3)]
    for known in elements:  # grows while it is read: each element is multiplied once by each generator
        for generator in generators:
            product = known @ generator
            if np.abs(np.array(elements) - product).max(axis=(1, 2)).min() > 1e-4:
                elements.append(product)
    operators = np.array(elements)
    operators[np.abs(operators) < 1e-14] = 0.0
    return operators


def directions(rot_deg: ArrayLike, tilt_deg: ArrayLike) -> FloatArray:
    """Unit vectors of viewing directions, (..., 3) float64: third rows of orientations with these angles."""
    rot, tilt = np.deg2rad(np.asarray(rot_deg, np.float64)), np.deg2rad(np.asarray(tilt_deg, np.float64))
    return np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=-1)


def in_asymmetric_unit(group: PointGroup, rot_deg: ArrayLike, tilt_deg: ArrayLike) -> BoolArray:
    """Which directions lie in the asymmetric unit of a group (refinement.md 8.2), its borders included.

    Parameters
    ----------
    group
        The point group.
    rot_deg, tilt_deg
        (n,) degrees, rot in [-180, 180], tilt in [0, 180].

    Returns
    -------
    (n,) bool
        Borders count as inside, with a margin for rounding. RELION compares without one, so in O a direction
        on the border may be the other of two mates, and lists of 4000 directions and more may be a few
        shorter. Directions on a border have mates on another border that are kept as well: see
        :func:`drop_seam_mates`.
    """
    rot, tilt = np.asarray(rot_deg, np.float64), np.asarray(tilt_deg, np.float64)
    if group.family == "C":
        return _between(rot, -180.0 / group.fold, 180.0 / group.fold)
    if group.family == "D":
        upper = _between(tilt, 0.0, 90.0)
        half = 180.0 / group.fold
        return upper if group.fold == 1 else upper & _between(rot, 90.0 - half, 90.0 + half)
    return _inside_planes(group.family, rot, tilt)


def _between(angle_deg: FloatArray, low: float, high: float) -> BoolArray:
    return np.asarray((angle_deg >= low - BORDER_DEG) & (angle_deg <= high + BORDER_DEG))


def _inside_planes(family: str, rot: FloatArray, tilt: FloatArray) -> BoolArray:
    """The cut by three planes of the tetrahedral, octahedral and icosahedral groups."""
    if family == "T":
        # RELION's rounding drops the border at rot 90 without exception; so do we, for the same grids.
        normals = np.array(_T_NORMALS)
        within = (_between(rot, 90.0, 150.0) & (rot > 90.0 + BORDER_DEG)) | (rot == 0.0)
    elif family == "O":
        normals = np.array(_O_NORMALS)
        # Of the equivalent borders at rot 45 and 135 RELION's rounding keeps mostly the second.
        within = (_between(rot, 45.0, 135.0) & (rot > 45.0 + BORDER_DEG) & _between(tilt, 0.0, 90.0)) | (
            rot == 0.0
        )
    else:
        setting = euler_to_matrix(0.0, _I_TILT[family], 0.0)
        normals = np.array(_I4_NORMALS if family == "I4" else _I2_NORMALS) @ setting.T
        within = np.ones(rot.shape, bool)
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(within & np.all(directions(rot, tilt) @ normals.T >= -BORDER_DOT, axis=-1))


def drop_seam_mates(
    group: PointGroup, rot_deg: ArrayLike, tilt_deg: ArrayLike, distance_deg: float
) -> BoolArray:
    """Which directions stay when those that repeat an earlier one by symmetry are dropped.

    In index order, a direction is dropped if it or any mate of it is closer than ``distance_deg`` to one that
    stays. As in RELION, nothing is dropped from a list of 4000 directions or more.

    Parameters
    ----------
    group
        The point group.
    rot_deg, tilt_deg
        (n,) degrees, inside the asymmetric unit.
    distance_deg
        Half of the largest radius of a HEALPix pixel, for a grid.

    Returns
    -------
    (n,) bool
    """
    from scipy.spatial import cKDTree

    vectors = directions(rot_deg, tilt_deg)
    n = vectors.shape[0]
    stays = np.ones(n, bool)
    if n == 0 or n >= MAX_SEAM_DIRECTIONS:
        return stays
    # Row vectors: v @ R is R^T v, the mate.
    mates = np.einsum("nx,jxy->njy", vectors, group.operators).reshape(-1, 3)
    chord = 2.0 * np.sin(np.deg2rad(0.5 * distance_deg))
    close = cKDTree(vectors).query_ball_tree(cKDTree(mates), chord)
    for later, found in enumerate(close):
        earlier = np.unique(np.asarray(found, np.int64) // group.order)
        stays[later] = not stays[earlier[earlier < later]].any()
    return stays
