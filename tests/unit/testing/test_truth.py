"""Scores against truth, on estimates whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.errors import InputError
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.testing.maps import low_pass
from mpiapp.testing.objects import group_operators
from mpiapp.testing.phantoms import phantom_map
from mpiapp.testing.projections import FourierSampler, project
from mpiapp.testing.truth import rotation_angle_deg, score_classes, score_map, score_poses


def random_rotations(n: int, rng: np.random.Generator) -> np.ndarray:
    tilt = np.rad2deg(np.arccos(rng.uniform(-1, 1, n)))
    return euler_to_matrix(rng.uniform(-180, 180, n), tilt, rng.uniform(-180, 180, n))


def turned_by(angle_deg: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotations by given angles about random axes (Rodrigues' formula)."""
    n = len(angle_deg)
    axis = rng.standard_normal((n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    k = np.zeros((n, 3, 3))
    k[:, 0, 1], k[:, 0, 2], k[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    k -= np.swapaxes(k, 1, 2)
    t = np.deg2rad(angle_deg)[:, None, None]
    return np.eye(3) + np.sin(t) * k + (1 - np.cos(t)) * k @ k


@pytest.mark.parametrize("angle", [1e-5, 0.3, 30.0, 120.0, 179.9])
def test_rotation_angle(rng, angle):
    assert rotation_angle_deg(turned_by(np.full(4, angle), rng)) == pytest.approx(angle, rel=1e-4)


@pytest.mark.parametrize("symmetry", ["C1", "C4", "D2", "O"])
def test_known_errors_are_found_whatever_the_mate_and_the_alignment(rng, symmetry):
    n = 400
    group = group_operators(symmetry)
    true = random_rotations(n, rng)
    error = np.abs(rng.normal(0, 2.0, n))
    error[:20] = 90.0
    offset = euler_to_matrix(20.0, 31.0, 5.0)
    mates = group[rng.integers(0, len(group), n)]
    estimated = turned_by(error, rng) @ true @ mates @ offset
    score = score_poses(estimated, true, operators=group)
    good = slice(20, None)
    assert np.abs(score.angle_deg[good] - error[good]).max() < 0.6
    assert np.median(score.angle_deg) == pytest.approx(np.median(error), rel=0.05)
    unaligned = score_poses(estimated, true, operators=group, align=False)
    assert np.median(unaligned.angle_deg) > 10.0


def test_alignment_found_from_poses_is_that_of_the_map(rng):
    """A map turned and moved, its poses and origins changed to make the same images: both scores say so."""
    n, pixel = 60, 4.0
    true_map = phantom_map(40, pixel, diameter_A=110, seed=8, bfactor_A2=400)
    turn = euler_to_matrix(10.0, 20.0, -40.0)
    move_A = np.array([6.0, -3.0, 8.0])
    found_map = FourierSampler(true_map).rotated(turn, tuple(move_A / pixel))
    true = random_rotations(n, rng)
    estimated = true @ turn.T
    true_origin = rng.normal(0, 5, (n, 2))
    origin = true_origin + (estimated @ move_A)[:, :2]
    # the images are indeed the same
    a = project(true_map, true[:5], -true_origin[:5] / pixel)
    b = project(found_map, estimated[:5], -origin[:5] / pixel)
    assert np.abs(a - b).max() < 0.01 * a.max()

    score = score_poses(estimated, true, origin, true_origin)
    assert score.angle_deg.max() < 1e-4
    assert score.shift_A.max() < 1e-4
    assert np.allclose(score.rotation, turn, atol=1e-6)
    assert np.allclose(score.translation_A, move_A, atol=1e-4)
    assert not score.mirrored
    assert score_map(found_map, true_map, pixel).mean_fsc < 0.5
    assert score_map(found_map, true_map, pixel, 120.0, score).fsc[:-2].min() > 0.99


def test_other_hand_is_recognised(rng):
    pixel = 4.0
    true_map = phantom_map(40, pixel, diameter_A=110, seed=8, bfactor_A2=400)
    mirror = np.diag([1.0, 1.0, -1.0])
    found_map = np.roll(true_map[::-1], 1, axis=0)
    true = random_rotations(50, rng)
    estimated = mirror @ true @ mirror
    a, b = project(true_map, true[:5]), project(found_map, estimated[:5])
    assert np.abs(a - b).max() < 0.01 * a.max()
    score = score_poses(estimated, true, allow_mirror=True)
    assert score.mirrored
    assert score.angle_deg.max() < 1e-4
    assert score_map(found_map, true_map, pixel, 120.0, score).fsc[:-2].min() > 0.99
    assert np.median(score_poses(estimated, true).angle_deg) > 10.0


def test_map_score_finds_the_resolution_of_a_filtered_noisy_map(rng):
    """Where signal and noise have equal power the FSC with the truth is sqrt(1/2), beyond a filter 0."""
    true = rng.standard_normal((48, 48, 48)).astype(np.float32)
    noise = rng.standard_normal(true.shape).astype(np.float32)
    low = low_pass(true, 3.0, 12.0, edge_pixels=1.0)
    high_noise = noise - low_pass(noise, 3.0, 12.0, edge_pixels=1.0)
    score = score_map(low + high_noise, true, 3.0)
    assert score.resolution_half_A == pytest.approx(12.0, abs=0.7)
    equal = score_map(true + noise, true, 3.0)
    assert equal.fsc[8:].mean() == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert equal.frequency_invA[-1] == pytest.approx(1 / 6.0)


def test_maps_of_different_boxes_are_refused():
    with pytest.raises(InputError, match="one box"):
        score_map(np.zeros((8, 8, 8)), np.zeros((10, 10, 10)), 1.0)


def test_class_accuracy_ignores_the_labels():
    true = np.array([1, 1, 1, 2, 2, 3, 3, 3])
    found = np.array([3, 3, 1, 1, 1, 2, 2, 2])
    score = score_classes(found, true)
    assert score.accuracy == pytest.approx(7 / 8)
    assert score.matched.tolist() == [2, 0, 1]
    assert score.confusion[0].tolist() == [1, 0, 2]
