"""The motion between two maps, found by one linear fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mpiapp.model.registration import low_passed, small_motion

BOX, PIXEL_A, RESOLUTION_A = 48, 2.0, 16.0
BLOBS = np.random.default_rng(4).normal(0, 6, (40, 3))  # x, y, z in pixels from the centre


def blobs(turn: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Gaussian blobs, moved as a rigid body: x -> R x + c."""
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3)
    for place in Rotation.from_rotvec(turn).apply(BLOBS) + shift:
        volume += np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2) / 8)
    return volume.astype(np.float32)


@pytest.mark.parametrize("axial", [False, True])
def test_a_small_motion_is_found(axial: bool) -> None:
    turn, shift = np.deg2rad([0.8, -0.5, 1.0]), np.array([0.3, -0.2, 0.4])
    if axial:
        turn[:2] = shift[:2] = 0
    fixed = low_passed(blobs(np.zeros(3), np.zeros(3)), PIXEL_A, RESOLUTION_A)
    found, moved = small_motion(3 * blobs(turn, shift), fixed, PIXEL_A, RESOLUTION_A, axial=axial)
    np.testing.assert_allclose(np.rad2deg(found), np.rad2deg(turn), atol=0.05)
    np.testing.assert_allclose(moved, shift, atol=0.03)


def test_what_is_compared_is_small() -> None:
    """The box of 96 A holds 6 shells of 16 A: half as much again, and room for the edge."""
    assert low_passed(np.zeros((BOX,) * 3, np.float32), PIXEL_A, RESOLUTION_A).shape == (22, 22, 22)


def test_a_flat_map_does_not_move() -> None:
    flat = low_passed(np.zeros((BOX,) * 3, np.float32), PIXEL_A, RESOLUTION_A)
    turn, shift = small_motion(blobs(np.zeros(3), np.zeros(3)), flat, PIXEL_A, RESOLUTION_A)
    assert not turn.any()
    assert not shift.any()
