"""Keeping a refinement in the frame of its starting reference.

Nothing in the likelihood holds the frame of a map: a small common error of all orientations in one iteration is the
frame of the next, so map and poses wander, by about a degree in ten iterations at coarse sampling. The maps of the
first iteration come from poses found with the starting reference itself, so each later half map is compared with their
mean; in the next expectation step it is read turned and shifted back by the difference, and poses and the next map are
in the first frame again. (The starting reference is no good standard itself: where its contrast at low resolution
differs from the data's, it pulled maps by a tenth of a pixel.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.particles import Poses
from mpiapp.model.registration import small_motion
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg, matrix_to_euler
from mpiapp.model.symmetry import PointGroup

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# A larger motion is no drift: the map has become another one
LARGEST_DEG = 10.0


@dataclass(frozen=True)
class Drift:
    """Rotation G with A_now = A_first G, and the shift in A that takes the map back."""

    rotation: F64  # (3, 3)
    shift_A: F64  # (3,)

    @classmethod
    def none(cls) -> Drift:
        """No drift."""
        return cls(np.eye(3), np.zeros(3))

    @property
    def angle_deg(self) -> float:
        """Size of the rotation."""
        return float(geodesic_deg(self.rotation, np.eye(3)))


def leaves_frame_free(group: PointGroup) -> bool:
    """Whether a symmetry leaves a motion free: with more than one axis it fixes the frame."""
    return group.order == 1 or group.name.upper().startswith("C")


def estimate_drift(
    volume: F32, start: F64, pixel_size_A: float, resolution_A: float, group: PointGroup
) -> Drift:
    """Motion of a map away from the map whose frame is kept, where the symmetry leaves one free.

    Cyclic groups fix all but the turn about and the shift along z.

    Parameters
    ----------
    volume : (N, N, N) float32.
    start : (n, n, n) float64, the map whose frame is kept, as `registration.low_passed` makes it.
    """
    from scipy.spatial.transform import Rotation

    turn, shift = small_motion(volume, start, pixel_size_A, resolution_A, axial=group.order > 1)
    if np.rad2deg(np.linalg.norm(turn)) > LARGEST_DEG:
        return Drift.none()
    return Drift(Rotation.from_rotvec(-turn).as_matrix(), -shift * pixel_size_A)


def undo(poses: Poses, drift: Drift) -> Poses:
    """The same poses in the first frame: A G^T, and offsets that centre the map moved back."""
    a = euler_to_matrix(poses.rot_deg, poses.tilt_deg, poses.psi_deg)
    moved = poses.take(np.arange(len(a)))
    moved.rot_deg, moved.tilt_deg, moved.psi_deg = matrix_to_euler(a @ drift.rotation.T)
    moved.origin_A = poses.origin_A + (a @ drift.shift_A)[:, :2]
    return moved
