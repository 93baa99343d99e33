"""Euler angles and distances between orientations, against scipy's rotations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mpiapp.model.rotations import (
    angular_distance_rows_deg,
    euler_to_matrix,
    geodesic_deg,
    matrix_to_euler,
    psi_between,
    rotation_z,
)

any_angle = st.floats(-720.0, 720.0)
tilts = st.floats(0.01, 179.99)
IDENTITY = np.eye(3)[None]


@given(any_angle, any_angle, any_angle)
def test_matrix_is_the_transpose_of_the_intrinsic_zyz_rotation(rot, tilt, psi):
    expected = Rotation.from_euler("ZYZ", [rot, tilt, psi], degrees=True).as_matrix().T
    assert np.allclose(euler_to_matrix(rot, tilt, psi), expected, atol=1e-12)


@given(any_angle, any_angle, any_angle)
def test_matrix_survives_the_way_through_angles(rot, tilt, psi):
    matrix = euler_to_matrix(rot, tilt, psi)
    rot2, tilt2, psi2 = matrix_to_euler(matrix)
    assert abs(rot2) <= 180
    assert 0 <= tilt2 <= 180
    assert abs(psi2) <= 180
    # Closer than the pole tolerance to the pole, tilt is set to it.
    assert np.allclose(euler_to_matrix(rot2, tilt2, psi2), matrix, atol=3e-6)


@given(st.floats(-179.9, 179.9), tilts, st.floats(-179.9, 179.9))
def test_angles_survive_the_way_through_the_matrix(rot, tilt, psi):
    found = matrix_to_euler(euler_to_matrix(rot, tilt, psi))
    assert np.allclose(found, (rot, tilt, psi), atol=1e-8)


def test_pole_puts_the_whole_turn_into_psi():
    rot, tilt, psi = matrix_to_euler(euler_to_matrix([20.0, 20.0], [0.0, 180.0], [30.0, 30.0]))
    assert np.allclose(rot, 0)
    assert np.allclose(tilt, [0, 180])
    assert np.allclose(psi, [50, 10])


def test_third_row_is_the_viewing_direction():
    rot, tilt = np.deg2rad(40.0), np.deg2rad(70.0)
    expected = [np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)]
    assert np.allclose(euler_to_matrix(40.0, 70.0, -33.0)[2], expected)


def test_angles_broadcast():
    matrices = euler_to_matrix(np.zeros((4, 1)), np.arange(3.0), 5.0)
    assert matrices.shape == (4, 3, 3, 3)
    assert np.allclose(matrices[2, 1], euler_to_matrix(0.0, 1.0, 5.0))


def test_rotation_z_composes_with_a_direction(rng):
    rot, tilt, psi = rng.uniform(-180, 180, (3, 50))
    composed = rotation_z(psi) @ euler_to_matrix(rot, tilt, 0.0)
    assert np.allclose(composed, euler_to_matrix(rot, tilt, psi), atol=1e-14)


@given(any_angle, tilts, st.floats(-179, 179))
def test_psi_between_recovers_psi(rot, tilt, psi):
    direction = euler_to_matrix(rot, tilt, 0.0)
    assert psi_between(rotation_z(psi) @ direction, direction) == pytest.approx(psi, abs=1e-9)


def test_psi_between_maximises_the_overlap_of_different_directions():
    a = Rotation.random(20, rng=3).as_matrix()
    d = Rotation.random(20, rng=4).as_matrix()
    trials = np.arange(-180.0, 180.0, 0.05)
    overlap = np.einsum("pij,nik,njk->np", rotation_z(trials), a, d)
    best = trials[overlap.argmax(axis=1)]
    difference = (psi_between(a, d) - best + 180) % 360 - 180
    assert np.abs(difference).max() < 0.03


def test_geodesic_is_the_angle_of_the_relative_rotation():
    first, second = Rotation.random(200, rng=1), Rotation.random(200, rng=2)
    expected = np.rad2deg((first.inv() * second).magnitude())
    assert np.allclose(geodesic_deg(first.as_matrix(), second.as_matrix()), expected, atol=1e-6)


@given(st.floats(1e-9, 1e-3), any_angle, any_angle)
def test_geodesic_keeps_small_angles(angle, rot, tilt):
    a = euler_to_matrix(rot, tilt, 0.0)
    assert geodesic_deg(rotation_z(angle) @ a, a) == pytest.approx(angle, rel=1e-5)


@given(any_angle, tilts, st.floats(-180, 180))
def test_in_plane_turn_counts_two_rows_of_three(rot, tilt, psi):
    a = euler_to_matrix(rot, tilt, 0.0)[None]
    distance = angular_distance_rows_deg(rotation_z(psi) @ a, a, IDENTITY)
    # an arc cosine keeps half of the digits near 0 and 180 degrees
    assert distance[0] == pytest.approx(abs(psi) * 2 / 3, abs=1e-5)


def test_row_distance_follows_its_definition_and_the_closest_mate():
    a = Rotation.random(50, rng=5).as_matrix()
    b = Rotation.random(50, rng=6).as_matrix()
    fourfold = rotation_z(np.arange(4) * 90.0)
    each = [np.rad2deg(np.arccos(np.sum((a @ r) * b, axis=-1))).mean(axis=-1) for r in fourfold]
    assert np.allclose(angular_distance_rows_deg(a, b, fourfold), np.min(each, axis=0), atol=1e-6)
    assert np.allclose(angular_distance_rows_deg(a @ fourfold[3], a, fourfold), 0, atol=1e-6)
