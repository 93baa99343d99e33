"""Local neighbourhoods against a brute-force loop over particles, directions and mates."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mpiapp.model import local_search
from mpiapp.model.local_search import local_neighbourhoods
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg, psi_between, rotation_z
from mpiapp.model.sampling import direction_grid, direction_matrices
from mpiapp.model.symmetry import point_group


def brute_force(matrix, grid, group, sigma, perturbation, cutoff=3.0):
    """{direction: (delta in degrees, psi centre)} of one particle, by the rule as it is written."""
    d = direction_matrices(grid.rot_deg, grid.tilt_deg, perturbation)
    mates = matrix @ group.operators
    dots = d[:, 2] @ mates[:, 2].T
    best = dots.argmax(axis=1)
    delta = np.rad2deg(np.arccos(np.clip(dots.max(axis=1), -1, 1)))
    psi = psi_between(mates[best], d) % 360
    near = np.flatnonzero(delta < cutoff * sigma)
    if near.size == 0:
        near, delta = np.array([delta.argmin()]), np.zeros(d.shape[0])
    return {int(i): (delta[i], psi[i]) for i in near}


def check_against_brute_force(prior, grid, group, sigma, perturbation=0.0):
    found = local_neighbourhoods(prior, grid, group, sigma, perturbation_deg=perturbation)
    assert found.offsets[-1] == found.direction.size == found.log_prior.size == found.psi_center_deg.size
    for i, matrix in enumerate(prior):
        rows = slice(found.offsets[i], found.offsets[i + 1])
        expected = brute_force(matrix, grid, group, sigma, perturbation)
        direction, psi = found.direction[rows], found.psi_center_deg[rows]
        assert sorted(direction) == sorted(expected)
        assert np.all(np.diff(psi) >= 0)
        delta, center = np.array([expected[k] for k in direction]).T
        assert np.allclose(found.log_prior[rows], -0.5 * (delta / sigma) ** 2, atol=1e-4)
        assert np.abs((psi - center + 180) % 360 - 180).max() < 1e-3
    return found


@pytest.mark.parametrize(("name", "order"), [("C1", 3), ("C4", 3), ("D7", 3), ("T", 3), ("O", 4), ("I2", 4)])
def test_neighbours_are_those_of_the_rule(name, order):
    prior = Rotation.random(60, rng=11).as_matrix()
    found = check_against_brute_force(prior, direction_grid(order, name), point_group(name), 4.0)
    assert found.psi_center_deg.min() >= 0
    assert found.psi_center_deg.max() < 360


@pytest.mark.parametrize("name", ["C1", "C4", "O"])
def test_neighbours_of_a_perturbed_grid(name):
    prior = Rotation.random(60, rng=13).as_matrix()
    check_against_brute_force(prior, direction_grid(3, name), point_group(name), 4.0, 3.7)


def test_chunks_do_not_change_the_result(monkeypatch):
    prior = Rotation.random(40, rng=12).as_matrix()
    grid, group = direction_grid(3, "D2"), point_group("D2")
    whole = local_neighbourhoods(prior, grid, group, 5.0)
    monkeypatch.setattr(local_search, "_CHUNK_NEIGHBOURS", 100)
    pieces = local_neighbourhoods(prior, grid, group, 5.0)
    for name in ("offsets", "direction", "log_prior", "psi_center_deg"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name))


@pytest.mark.parametrize("name", ["C1", "O"])
def test_narrow_prior_keeps_the_nearest_direction(name):
    prior = Rotation.random(50, rng=13).as_matrix()
    grid = direction_grid(2, name)
    found = check_against_brute_force(prior, grid, point_group(name), 0.01)
    assert np.all(np.diff(found.offsets) == 1)
    assert np.all(found.log_prior == 0)


def test_particles_with_and_without_neighbours_mix():
    grid, group = direction_grid(2, "C1"), point_group("C1")
    on_grid = direction_matrices(grid.rot_deg[5:8], grid.tilt_deg[5:8])
    prior = np.concatenate([Rotation.random(5, rng=3).as_matrix(), rotation_z(40.0) @ on_grid])
    found = check_against_brute_force(prior, grid, group, 0.5)
    assert found.direction[-3:].tolist() == [5, 6, 7]
    assert np.allclose(found.psi_center_deg[-3:], 40)


def test_wide_prior_keeps_everything_and_no_particles_give_empty_rows():
    grid, group = direction_grid(1, "C1"), point_group("C1")
    wide = local_neighbourhoods(np.eye(3)[None], grid, group, 90.0)
    assert sorted(wide.direction) == list(range(48))
    empty = local_neighbourhoods(np.empty((0, 3, 3)), grid, group, 5.0)
    assert empty.offsets.tolist() == [0]
    assert empty.direction.size == 0


@pytest.mark.parametrize("tilt", [0.0, 0.3, 90.0, 179.9])
def test_window_holds_the_nearest_grid_orientation_also_at_the_poles(tilt):
    """The best orientation of the whole grid is among the kept directions, inside their psi windows."""
    grid, group, sigma = direction_grid(3, "C1"), point_group("C1"), 3.75
    prior = euler_to_matrix(np.linspace(-170, 170, 9), tilt, np.linspace(0, 300, 9))
    found = local_neighbourhoods(prior, grid, group, sigma)
    d = direction_matrices(grid.rot_deg, grid.tilt_deg)
    for i, matrix in enumerate(prior):
        distance = geodesic_deg((rotation_z(grid.psi_deg) @ d[:, None]), matrix)
        direction, psi = np.unravel_index(distance.argmin(), distance.shape)
        rows = slice(found.offsets[i], found.offsets[i + 1])
        entry = np.flatnonzero(found.direction[rows] == direction)
        assert entry.size == 1
        offset = (grid.psi_deg[psi] - found.psi_center_deg[rows][entry] + 180) % 360 - 180
        assert np.abs(offset) < 3 * sigma


def test_every_mate_keeps_all_images_of_a_view_along_the_axis():
    """A particle seen along the fourfold axis: true orientations around it are reached from every mate."""
    grid, group, sigma = direction_grid(4, "C4"), point_group("C4"), 3.75
    along = euler_to_matrix(0.0, 0.0, 10.0)[None]
    closest = local_neighbourhoods(along, grid, group, sigma)
    every = local_neighbourhoods(along, grid, group, sigma, every_mate=True)
    assert closest.direction.size == np.unique(closest.direction).size
    counts = np.bincount(every.direction, minlength=grid.n_directions)
    assert set(counts[closest.direction]) == {4}
    centers = np.sort(every.psi_center_deg[every.direction == closest.direction[0]])
    assert np.allclose(np.diff(centers), 90, atol=1e-3)


def test_ten_thousand_particles_at_order_five_take_seconds():
    prior = Rotation.random(10_000, rng=14).as_matrix()
    grid, group = direction_grid(5, "C1"), point_group("C1")
    start = time.perf_counter()
    found = local_neighbourhoods(prior, grid, group, 3.75)
    assert time.perf_counter() - start < 20
    # The cap of 11.25 degrees holds this share of the sphere.
    expected = 12288 * 0.5 * (1 - np.cos(np.deg2rad(11.25)))
    assert np.diff(found.offsets).mean() == pytest.approx(expected, rel=0.01)


def test_grid_and_group_have_to_match():
    with pytest.raises(ValueError, match="grid is of group C1"):
        local_neighbourhoods(np.eye(3)[None], direction_grid(1, "C1"), point_group("C2"), 3.0)
    with pytest.raises(ValueError, match="positive"):
        local_neighbourhoods(np.eye(3)[None], direction_grid(1, "C1"), point_group("C1"), 0.0)
