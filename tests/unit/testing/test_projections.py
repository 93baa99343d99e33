"""The simulator's projector against closed forms, exact sums and RELION's own projector."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mpiapp.io.mrc import read_map, write_map
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.testing.maps import correlation
from mpiapp.testing.phantoms import phantom_map
from mpiapp.testing.points import PointModel, density
from mpiapp.testing.projections import FourierSampler, project


def random_angles(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rng.uniform(-180, 180, n), rng.uniform(0, 180, n), rng.uniform(-180, 180, n)])


@pytest.mark.parametrize(("width", "limit"), [(6, 8e-5), (7, 1.5e-5)])
def test_transform_equals_the_sum_over_voxels(rng, width, limit):
    box = 16
    volume = rng.standard_normal((box,) * 3).astype(np.float32)
    points = rng.uniform(-0.5, 0.5, (400, 3))
    axis = np.arange(box) - box // 2
    x, y, z = (np.exp(-2j * np.pi * np.outer(points[:, i], axis)) for i in range(3))
    exact = np.einsum("mz,my,mx,zyx->m", z, y, x, volume.astype(np.float64), optimize=True)
    found = FourierSampler(volume, width=width).at(points)
    assert np.abs(found - exact).max() < limit * np.sqrt((np.abs(exact) ** 2).mean())


def test_off_centre_gaussian_lands_at_the_rotated_place(rng):
    """Projection of a Gaussian at x is the 2D Gaussian at the first two components of A x."""
    box, sigma = 32, 2.0
    place = np.array([5.3, -3.1, 4.4])
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    squared = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
    volume = np.exp(-squared / (2 * sigma**2))
    rotations = euler_to_matrix(*random_angles(10, rng))
    shifts = rng.normal(0, 2, (10, 2))
    images = project(volume, rotations, shifts)
    centre = (rotations @ place)[:, :2] + shifts
    iy, ix = np.meshgrid(axis, axis, indexing="ij")
    squared = (ix - centre[:, 0, None, None]) ** 2 + (iy - centre[:, 1, None, None]) ** 2
    expected = np.sqrt(2 * np.pi) * sigma * np.exp(-squared / (2 * sigma**2))
    assert np.abs(images - expected).max() < 2e-4 * expected.max()


def test_identity_projection_is_the_sum_over_z():
    volume = phantom_map(32, 4.0, seed=3)
    image = project(volume, np.eye(3)[None])[0]
    total = volume.sum(axis=0)
    assert np.abs(image - total).max() < 1e-3 * total.max()


def test_rotated_map_has_the_same_projections(rng):
    """Turning the map by R and projecting along A is projecting the map along A R; the shift goes along."""
    volume = phantom_map(32, 4.0, seed=4, bfactor_A2=800)
    a, r = euler_to_matrix(*random_angles(2, rng))
    shift = np.array([1.5, -2.25, 0.7])
    turned = FourierSampler(volume).rotated(r, tuple(shift))
    images = project(turned, a[None])
    expected = project(volume, (a @ r)[None], (a @ shift)[None, :2])
    assert np.abs(images - expected).max() < 2e-3 * expected.max()


def test_odd_box_is_refused():
    with pytest.raises(ValueError, match="even box"):
        FourierSampler(np.zeros((15, 15, 15), np.float32))


def test_points_between_voxels_make_the_gaussians_they_stand_for():
    """A map of points with a B-factor against the closed form: sigma^2 = B / (8 pi^2), integral = weight."""
    box, pixel, bfactor = 32, 2.0, 1200.0
    places = np.array([[3.3, -8.1, 5.5], [-6.2, 2.7, 0.4]])
    weights = np.array([2.0, 1.0])
    model = PointModel(places, weights, np.zeros(2, np.int64))
    volume = density(model, box, pixel, bfactor)
    axis = (np.arange(box) - box // 2) * pixel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    variance = bfactor / (8 * np.pi**2)
    expected = np.zeros_like(volume)
    for place, weight in zip(places, weights, strict=True):
        squared = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        expected += weight * np.exp(-squared / (2 * variance)) / (2 * np.pi * variance) ** 1.5
    assert np.abs(volume - expected).max() < 1e-5 * expected.max()


@pytest.mark.relion
def test_agrees_with_relion_project(relion: Path, tmp_path: Path, rng):
    volume = phantom_map(48, 4.0, seed=5)
    write_map(tmp_path / "map.mrc", volume, 4.0)
    for rot, tilt, psi in random_angles(3, rng).T:
        angles = ["--rot", f"{rot:.6f}", "--tilt", f"{tilt:.6f}", "--psi", f"{psi:.6f}"]
        offsets = ["--xoff", "2.5", "--yoff", "-1.25"]
        subprocess.run(
            [relion / "relion_project", "--i", "map.mrc", "--o", "p.mrc", "--angpix", "4", *angles, *offsets],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            timeout=60,
        )
        theirs, _ = read_map(tmp_path / "p.mrc")
        # RELION's origin is what brings the particle back to the centre
        ours = project(volume, euler_to_matrix(rot, tilt, psi)[None], np.array([[-2.5, 1.25]]))[0]
        assert correlation(theirs.reshape(ours.shape), ours) > 0.9995
