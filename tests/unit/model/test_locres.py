"""Local resolution: windows find where a map is known better, and filter it accordingly."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.engine.locres import Geometry, scan
from mpiapp.model.filters import lowpass_map
from mpiapp.model.fsc import fsc
from mpiapp.model.locres import (
    crossing,
    filtered_window,
    make_window,
    pair_fsc,
    sample_points,
    sphere_at,
    window_box,
)
from mpiapp.model.masks import soft_sphere
from mpiapp.model.random_phases import randomise_phases

PIXEL = 2.0


def test_curves_of_a_window_are_the_fsc(rng: np.random.Generator) -> None:
    a = rng.normal(size=(20, 20, 20)).astype(np.float32)
    b = a + rng.normal(size=a.shape).astype(np.float32)
    window = make_window(20, 4.0, 3.0)
    found = pair_fsc(np.fft.rfftn(a), np.fft.rfftn(b), window)
    expected = fsc(a, b)
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-5)
    assert found[0] == 1


def test_windows_hold_the_sphere() -> None:
    box = window_box(6.0, 12.0)
    assert box >= 36
    assert box % 2 == 0
    np.testing.assert_allclose(sphere_at(16, (8, 8, 8), 3.0, 2.0), soft_sphere(16, 3.0, 2.0), atol=1e-6)
    assert sphere_at(16, (2, 5, 9), 3.0, 0.0)[2, 5, 9] == 1


def test_points_lie_within_the_sphere() -> None:
    points = sample_points(32, 6, 4.0)
    assert points.min() >= 4
    assert np.linalg.norm(points - 16, axis=1).max() < 12
    assert {6, 12, 18} <= set(points[:, 0].tolist())


def test_crossing_between_shells() -> None:
    curve = np.array([1.0, 0.9, 0.243, 0.043, 0.5])
    assert crossing(curve, 80.0, 50.0) == pytest.approx(80 / 2.5)
    assert crossing(curve, 80.0, 50.0, whole_shells=True) == 40
    assert crossing(curve, 80.0, 30.0) == 30
    assert crossing(np.ones(5), 80.0, 50.0) == 20
    assert crossing(np.array([1.0, 0.0, 0.0]), 80.0, 50.0) == 50


def test_a_window_is_filtered_at_its_resolution(rng: np.random.Generator) -> None:
    part = rng.normal(size=(24, 24, 24)).astype(np.float32)
    window = make_window(24, 5.0, 5.0)
    found = filtered_window(part, np.ones(13), 8.0, 48.0, window, 2.0)
    expected = lowpass_map(part, 2.0, 8.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_the_better_half_of_a_map_is_found(exact: bool) -> None:
    """Both halves of the box hold the same signal to 6 A and to 16 A; seen through spheres of 20 A."""
    rng = np.random.default_rng(7)
    box = 64
    white = rng.normal(size=(box,) * 3).astype(np.float32)
    fine, coarse = (lowpass_map(white, PIXEL, resolution, 1.0) for resolution in (6.0, 16.0))
    signal = np.where(np.arange(box)[:, None, None] < box // 2, fine, coarse)
    signal *= soft_sphere(box, 26, 4)
    maps = np.stack([signal + 0.3 * rng.normal(size=signal.shape) for _ in range(2)]).astype(np.float32)
    random = np.stack([randomise_phases(m, int(box * PIXEL / 25), rng) for m in maps])
    geometry = Geometry(box, PIXEL, 6.0, 6.0, 8, 25.0, 50.0, 2.0, exact)
    points = sample_points(box, geometry.step, geometry.radius)
    points = points[np.abs(points[:, 1:] - 32).max(1) <= 8]
    found = scan(maps, random, maps.mean(0), points, geometry, 2)
    low, high = found.resolution_A[points[:, 0] == 16], found.resolution_A[points[:, 0] == 48]
    assert low.size
    assert high.size
    assert abs(np.median(low) - 6.0) < 1.2  # a sphere blurs the edge of a filter
    assert 10.0 < np.median(high) < 18.0
    assert found.weight.shape == (box,) * 3
    resolution = found.weight[16, 32, 32] / found.inverse_resolution[16, 32, 32]
    assert abs(resolution - 6.0) < 1.2


def test_windows_add_up_the_same_in_any_number_of_threads(rng: np.random.Generator) -> None:
    maps = rng.normal(size=(2, 32, 32, 32)).astype(np.float32)
    geometry = Geometry(32, PIXEL, 4.0, 4.0, 8, 25.0, 50.0, 2.0, False)
    points = sample_points(32, 8, 4.0)
    one, three = (scan(maps, maps[::-1], maps[0], points, geometry, n) for n in (1, 3))
    np.testing.assert_array_equal(one.resolution_A, three.resolution_A)
    np.testing.assert_allclose(one.filtered, three.filtered, atol=1e-5)
