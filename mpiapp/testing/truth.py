"""Scores against known truth: poses (any symmetry, any global alignment, either hand), maps, classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.errors import InputError
from mpiapp.testing.maps import resolution_at, shell_correlation, soft_sphere

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
_MIRROR = np.diag([1.0, 1.0, -1.0])


@dataclass(frozen=True)
class PoseScore:
    """Errors of poses after the best global alignment.

    Attributes
    ----------
    angle_deg : (n,) rotation between estimated and true orientation, over the nearest symmetry mate
    shift_A : (n,) distance between estimated and true origin
    rotation : (3, 3) the estimated map is the true map turned by this: V_est(R x) = V_true(x)
    translation_A : (3,) and then moved by this (x, y, z)
    mirrored : the estimate has the other hand
    """

    angle_deg: Floats
    shift_A: Floats
    rotation: Floats
    translation_A: Floats
    mirrored: bool

    def within(self, limit_deg: float) -> float:
        """Share of the particles with an angular error of at most ``limit_deg``."""
        return float((self.angle_deg <= limit_deg).mean())

    def summary(self) -> str:
        """One line for the user."""
        return (
            f"orientations: median error {np.median(self.angle_deg):.2f} degrees, "
            f"{100 * self.within(5):.1f} % within 5; "
            f"shifts: median error {np.median(self.shift_A):.2f} A"
        )


def rotation_angle_deg(rotation: NDArray) -> Floats:
    """Angle of rotation matrices (..., 3, 3), accurate near 0, in degrees (...)."""
    # |R - 1| = 2 sqrt(2) sin(angle / 2): better than acos of the trace for small angles
    distance = np.sqrt(((rotation - np.eye(3)) ** 2).sum(axis=(-2, -1)))
    return np.asarray(np.rad2deg(2.0 * np.arcsin(np.clip(distance / np.sqrt(8.0), 0.0, 1.0))))


def score_poses(
    estimated: NDArray,
    true: NDArray,
    estimated_origin_A: NDArray | None = None,
    true_origin_A: NDArray | None = None,
    operators: NDArray | None = None,
    align: bool = True,
    allow_mirror: bool = False,
) -> PoseScore:
    """Compare poses with the truth.

    Parameters
    ----------
    estimated, true : (n, 3, 3) float64, object to image coordinates
    estimated_origin_A, true_origin_A : (n, 2), RELION's origins (none: 0)
    operators : (g, 3, 3), point group of the true map, the identity among them (none: C1)
    align : find the rotation and translation of the whole map that explain the estimates best; False scores
        the poses as they are
    allow_mirror : also try the map of the other hand

    Returns
    -------
    PoseScore
    """
    n = len(true)
    group = np.eye(3)[None] if operators is None else np.asarray(operators, dtype=np.float64)
    best = _Frame(estimated, true, group, align)
    if allow_mirror:
        # a mirrored map seen along the mirrored direction gives the same image
        other = _Frame(estimated, _MIRROR @ true @ _MIRROR, _MIRROR @ group @ _MIRROR, align)
        if np.median(other.angle_deg) < np.median(best.angle_deg):
            best = other
    zero = np.zeros((n, 2))
    moved = np.asarray(zero if estimated_origin_A is None else estimated_origin_A) - np.asarray(
        zero if true_origin_A is None else true_origin_A
    )
    translation = _translation(moved, estimated, best.angle_deg) if align else np.zeros(3)
    residual = moved - (estimated @ translation)[:, :2]
    return PoseScore(
        angle_deg=best.angle_deg,
        shift_A=np.hypot(residual[:, 0], residual[:, 1]),
        rotation=best.rotation.T,
        translation_A=translation,
        mirrored=best.true is not true,
    )


class _Frame:
    """Global rotation G with estimated = true S G, S the nearest symmetry operator of each particle."""

    def __init__(self, estimated: NDArray, true: NDArray, group: Floats, align: bool) -> None:
        self.estimated, self.true, self.group = estimated, true, group
        self.rotation = np.eye(3)
        if align:
            self.rotation = self._searched(self.rotation)
            for _ in range(8):
                self.rotation = self._refined(self.rotation)
        self.angle_deg, _ = self._errors(self.rotation, np.arange(len(true)))

    def _errors(self, rotation: Floats, rows: NDArray) -> tuple[Floats, NDArray[np.int64]]:
        """Angle to the nearest mate, and which mate, for some particles."""
        mates = self.group @ rotation
        # true^T estimated G^T S^T = 1 for a perfect pose
        turn = np.swapaxes(self.true[rows], 1, 2) @ self.estimated[rows]
        angles = np.stack([rotation_angle_deg(turn @ mate.T) for mate in mates], axis=1)
        nearest = angles.argmin(axis=1)
        return np.asarray(angles[np.arange(len(rows)), nearest]), nearest

    def _searched(self, start: Floats, candidates: int = 48, judges: int = 200) -> Floats:
        """The best of the rotations that single particles suggest, by the median error of a sample."""
        rng = np.random.default_rng(0)
        n = len(self.true)
        judge = rng.choice(n, min(n, judges), replace=False)
        suggested = rng.choice(n, min(n, candidates), replace=False)
        trials = [start, *(self.true[i].T @ self.estimated[i] for i in suggested)]
        errors = [float(np.median(self._errors(trial, judge)[0])) for trial in trials]
        return np.asarray(trials[int(np.argmin(errors))])

    def _refined(self, rotation: Floats) -> Floats:
        """Mean rotation (in the Frobenius sense) over the particles that agree with the present one."""
        errors, nearest = self._errors(rotation, np.arange(len(self.true)))
        good = errors <= max(3.0 * float(np.median(errors)), 0.5)
        mates = self.group[nearest[good]]
        suggested = np.swapaxes(self.true[good] @ mates, 1, 2) @ self.estimated[good]
        u, _, vt = np.linalg.svd(suggested.sum(axis=0))
        return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def _translation(moved: Floats, estimated: NDArray, angle_deg: Floats) -> Floats:
    """Least-squares shift t of the map from origins moved by (A t)_xy, over particles with good angles."""
    good = angle_deg <= max(2.0 * float(np.median(angle_deg)), 3.0)
    rows = estimated[good][:, :2, :].reshape(-1, 3)
    # the view directions of a single-axis set leave a component open: least squares makes it 0
    return np.asarray(np.linalg.lstsq(rows, moved[good].reshape(-1), rcond=1e-6)[0])


@dataclass(frozen=True)
class MapScore:
    """Agreement of a map with the true one: FSC by shell, and where it falls to 0.5 and 0.143."""

    fsc: Floats
    frequency_invA: Floats
    resolution_half_A: float
    resolution_0143_A: float
    mean_fsc: float

    def summary(self) -> str:
        """One line for the user."""
        return f"map against truth: FSC 0.5 at {self.resolution_half_A:.2f} A, mean FSC {self.mean_fsc:.3f}"


def score_map(
    volume: NDArray,
    true: NDArray,
    pixel_size_A: float,
    diameter_A: float | None = None,
    pose: PoseScore | None = None,
) -> MapScore:
    """Fourier shell correlation of a map with the truth.

    Parameters
    ----------
    volume, true : (box, box, box) float32
    pixel_size_A : of both
    diameter_A : of the soft spherical mask put on both (none: no mask)
    pose : the true map is first turned and moved as the poses say (none: compared as it is)

    Raises
    ------
    InputError
        The boxes differ.
    """
    from mpiapp.testing.projections import FourierSampler

    if volume.shape != true.shape:
        raise InputError(
            f"map of {volume.shape[0]} voxels against a truth of {true.shape[0]}: give maps of one box"
        )
    box = volume.shape[0]
    if pose is not None:
        source = true[::-1] if pose.mirrored else true
        source = np.roll(source, 1, axis=0) if pose.mirrored else source
        x, y, z = (float(t) / pixel_size_A for t in pose.translation_A)
        true = FourierSampler(source).rotated(pose.rotation, (x, y, z))
    if diameter_A is not None:
        mask = soft_sphere(box, min(diameter_A / 2 / pixel_size_A, box / 2 - 4.0))
        volume, true = volume * mask, true * mask
    fsc = shell_correlation(volume, true)
    return MapScore(
        fsc=fsc,
        frequency_invA=np.arange(len(fsc)) / (box * pixel_size_A),
        resolution_half_A=resolution_at(fsc, box, pixel_size_A, 0.5),
        resolution_0143_A=resolution_at(fsc, box, pixel_size_A, 0.143),
        mean_fsc=float(fsc[1:].mean()),
    )


@dataclass(frozen=True)
class ClassScore:
    """Share of particles in their class under the best assignment of labels, and the table behind it.

    ``confusion`` is (true classes, found classes) counts; ``matched[k]`` the found class (0-based) of true
    class k, -1 where there is none.
    """

    accuracy: float
    confusion: NDArray[np.int64]
    matched: NDArray[np.int64]


def score_classes(estimated: NDArray, true: NDArray) -> ClassScore:
    """Compare class numbers (n,), 1-based, with the truth; labels are matched one to one as fits best."""
    from scipy.optimize import linear_sum_assignment

    estimated, true = np.asarray(estimated, np.int64) - 1, np.asarray(true, np.int64) - 1
    shape = (int(true.max()) + 1, int(estimated.max()) + 1)
    confusion = np.bincount(true * shape[1] + estimated, minlength=shape[0] * shape[1]).reshape(shape)
    rows, columns = linear_sum_assignment(-confusion)
    matched = np.full(shape[0], -1, np.int64)
    matched[rows] = columns
    return ClassScore(float(confusion[rows, columns].sum() / len(true)), confusion, matched)


def score_star(data_star: Path | str, truth_star: Path | str, symmetry: str = "C1") -> PoseScore:
    """Score the poses of a data.star against a truth.star; particles are matched by image name.

    Raises
    ------
    InputError
        A column is missing, or no particle of the one is in the other.
    """
    from mpiapp.testing.objects import group_operators

    found, true = _matched(Path(data_star), Path(truth_star))
    return score_poses(
        _rotations(found),
        _rotations(true),
        found[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(np.float64),
        true[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(np.float64),
        operators=group_operators(symmetry),
    )


def _rotations(table: pd.DataFrame) -> Floats:
    from mpiapp.model.rotations import euler_to_matrix

    angles = (table[name].to_numpy(np.float64) for name in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"))
    return np.asarray(euler_to_matrix(*angles))


def _matched(data_star: Path, truth_star: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Particle tables of two files, rows brought to the same particles in the same order."""
    from mpiapp.io.star import read_star

    tables = []
    for path in (data_star, truth_star):
        table = read_star(path).get("particles")
        if table is None or isinstance(table, dict):
            raise InputError(
                f"{path}: no table data_particles; give a particles STAR file of RELION 3.1 or newer"
            )
        needed = {
            "rlnImageName",
            "rlnAngleRot",
            "rlnAngleTilt",
            "rlnAnglePsi",
            "rlnOriginXAngst",
            "rlnOriginYAngst",
        }
        missing = sorted(needed - set(table.columns))
        if missing:
            raise InputError(f"{path}: no column {missing[0]}; give a file with refined poses")
        tables.append(table.set_index(table["rlnImageName"].map(_image_key)))
    found, true = tables
    common = found.index[found.index.isin(true.index)]
    if len(common) == 0:
        raise InputError(
            f"{data_star}: none of its images is in {truth_star}; are they of the same data set?"
        )
    return found.loc[common], true.loc[common]


def _image_key(name: str) -> str:
    """Image number and stack without folder: the same image, wherever the files were moved."""
    number, _, stack = str(name).partition("@")
    return f"{int(number)}@{Path(stack).name}"
