"""Coverage and conical FSC against cases whose answer is known."""

from __future__ import annotations

import healpix
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from mpiapp.model.fourier import forward_3d
from mpiapp.model.fsc import fsc_of_transforms, resolution_at, solvent_corrected_fsc
from mpiapp.model.masks import soft_sphere
from mpiapp.model.orientation_quality import (
    _faces_of_rings,
    conical_fsc,
    coverage,
    sphericity,
    tells_directions,
)
from mpiapp.model.symmetry import point_group
from mpiapp.report.orientation import orientation_warnings

C1 = point_group("C1")


def even_views(n: int) -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(n) + 0.5
    return np.degrees(k * np.pi * (3 - np.sqrt(5))) % 360, np.degrees(np.arccos(1 - 2 * k / n))


def half_maps(box: int, seed: int, without_deg: float = 0.0) -> list[np.ndarray]:
    """A ball of random density in white noise: FSC 0.89 in the lowest shells, 0.5 at two thirds of Nyquist.

    No signal within `without_deg` of the z axis.
    """
    rng = np.random.default_rng(seed)
    axis, last = np.fft.fftfreq(box) * 2, np.fft.rfftfreq(box) * 2
    kz, ky, kx = np.meshgrid(axis, axis, last, indexing="ij")
    k = np.sqrt(kx**2 + ky**2 + kz**2)
    ball = soft_sphere(box, box / 4, 3)
    density = rng.normal(size=ball.shape) * ball / np.sqrt((ball**2).mean())
    signal = np.fft.rfftn(density) * np.sqrt(8 * np.exp(-np.log(8) * (1.5 * k) ** 2))
    signal[np.degrees(np.arccos(np.abs(kz) / np.maximum(k, 1e-9))) < without_deg] = 0
    common = np.fft.irfftn(signal, s=ball.shape, axes=(0, 1, 2))
    return [(common + rng.normal(size=ball.shape)).astype(np.float32) for _ in range(2)]


def hemisphere(order: int) -> np.ndarray:
    """Pixel centres of a HEALPix grid with z > 0, (n, 3)."""
    points = np.stack(healpix.pix2vec(2**order, np.arange(12 * 4**order), nest=True), axis=1)
    return points[points[:, 2] > 0]


def test_even_views_cover_evenly() -> None:
    found = coverage(*even_views(20000), C1)
    assert found.factor == pytest.approx(1, abs=0.01)
    assert found.empty == 0
    assert found.density.std() < 0.05


def test_side_views_have_the_factor_of_the_literature() -> None:
    """rho = 2/(pi sin) at an angle from the axis: 1/<1/rho> over the sphere is (2/pi)(4/pi) = 8/pi^2."""
    rot = np.linspace(0, 360, 20000, endpoint=False)
    found = coverage(rot, np.full(rot.size, 90.0), C1)
    assert found.factor == pytest.approx(8 / np.pi**2, abs=0.02)


def test_top_views_leave_most_of_space_empty() -> None:
    rng = np.random.default_rng(1)
    found = coverage(rng.uniform(0, 360, 5000), rng.uniform(0, 5, 5000), C1)
    assert found.empty > 0.7
    assert found.factor < 0.2


@pytest.mark.parametrize("n", [5, 20, 50, 100])
def test_few_views_from_all_sides_are_not_preferred(n: int) -> None:
    """Thin slices of 50 even views leave 8 % of the directions between them."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rot = rng.uniform(0, 360, n)
        for group in (C1, point_group("C4"), point_group("D2")):
            even = coverage(rot, np.degrees(np.arccos(rng.uniform(-1, 1, n))), group)
            assert orientation_warnings(even) == []
        if n >= 20:
            top = coverage(rot, rng.uniform(0, 10, n), C1)
            assert any("Preferred orientation" in line for line in orientation_warnings(top))


def test_symmetry_fills_space() -> None:
    """A cube's mates of one slanted view cover far more than the view alone."""
    rng = np.random.default_rng(1)
    rot, tilt = rng.normal(20, 4, 3000), rng.normal(35, 4, 3000)
    assert coverage(rot, tilt, point_group("O")).factor > 3 * coverage(rot, tilt, C1).factor


def test_sphericity_of_an_ellipsoid() -> None:
    """Oblate spheroid 1 : 1 : 1/2; its area and volume in closed form."""
    points = hemisphere(4)
    assert sphericity(points, np.ones(len(points))) == pytest.approx(1, abs=2e-3)
    c = 0.5
    radius = 1 / np.sqrt(points[:, 0] ** 2 + points[:, 1] ** 2 + (points[:, 2] / c) ** 2)
    e = np.sqrt(1 - c**2)
    area = 2 * np.pi * (1 + (1 - e**2) / e * np.arctanh(e))
    expected = np.pi ** (1 / 3) * (6 * 4 / 3 * np.pi * c) ** (2 / 3) / area
    assert sphericity(points, radius) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("order", "tolerance"), [(0, 1e-12), (1, 1e-12), (2, 2e-4), (3, 2e-4), (4, 1e-4)])
def test_surface_of_rings_is_nearly_the_convex_hull(order: int, tolerance: float) -> None:
    """Near the equator of fine grids the hull joins every second ring, which lies closer than the next point does."""
    axes = hemisphere(order)
    points = np.concatenate([axes, -axes])
    hull = ConvexHull(points)
    expected = np.pi ** (1 / 3) * (6 * hull.volume) ** (2 / 3) / hull.area
    assert sphericity(axes, np.ones(len(axes))) == pytest.approx(expected, abs=tolerance)
    assert len(_faces_of_rings(points)) == len(hull.simplices) == 2 * len(points) - 4  # closed, without holes


def test_cones_find_the_direction_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signal everywhere but within 35 degrees of z: the cone along z finds none."""
    rng = np.random.default_rng(4)
    box = 40
    signal = np.fft.rfftn(rng.normal(size=(box,) * 3))
    k = np.fft.fftfreq(box)
    kz, ky, kx = np.meshgrid(k, k, np.fft.rfftfreq(box), indexing="ij")
    angle = np.degrees(np.arccos(np.abs(kz) / np.maximum(np.sqrt(kx**2 + ky**2 + kz**2), 1e-9)))
    signal[angle < 35] = 0
    common = np.fft.irfftn(signal)
    halves = [forward_3d(common + 0.3 * rng.normal(size=common.shape), centre=False) for _ in range(2)]
    found = conical_fsc(*halves, 2.0)
    along = found.direction[:, 2] > np.cos(np.radians(10))
    across = found.direction[:, 2] < np.cos(np.radians(60))
    assert np.median(found.resolution_A[along]) > 15
    assert np.median(found.resolution_A[across]) < 4.5
    assert found.sphericity < 0.9
    monkeypatch.setattr("mpiapp.model.orientation_quality.ENOUGH", box // 3)  # one in three coefficients
    monkeypatch.setattr("mpiapp.model.orientation_quality.ALL_BELOW", 4)
    fewer = conical_fsc(*halves, 2.0, workers=2)
    assert np.median(fewer.resolution_A[along]) > 15
    assert np.median(fewer.resolution_A[across]) < 4.5
    even = [forward_3d(common + 0.3 * rng.normal(size=common.shape), centre=False) for _ in range(1)] * 2
    assert conical_fsc(*even, 2.0).sphericity > 0.99


@pytest.mark.parametrize("box", [48, 64])
@pytest.mark.parametrize("seed", range(3))
def test_weak_coefficients_of_low_shells_are_no_missing_views(box: int, seed: int) -> None:
    """Cones of a few coefficients fall below 0.143 by chance, here in the second or third shell."""
    transforms = [forward_3d(half, centre=False) for half in half_maps(box, seed)]
    found = conical_fsc(*transforms, 2.0)
    resolution = resolution_at(fsc_of_transforms(*transforms), 0.143, 2.0, box)
    assert (found.curves[:, 1:8] < 0.143).any()
    assert tells_directions(box, 2.0, resolution)
    assert found.sphericity > 0.77
    assert found.missing(resolution) == 0
    transforms = [forward_3d(half, centre=False) for half in half_maps(box, seed, without_deg=45)]
    assert conical_fsc(*transforms, 2.0).missing(resolution) > 0.05


def test_directions_are_told_where_cones_hold_enough() -> None:
    assert tells_directions(64, 2.0, 128 / 18)
    assert not tells_directions(64, 2.0, 128 / 17)
    assert not tells_directions(64, 2.0, 999.0)


def test_cones_of_masked_maps_are_corrected_for_the_mask() -> None:
    """A hard mask spreads what is in the low shells over all others: there the cones correlate as well."""
    box, start = 64, 8
    rng = np.random.default_rng(3)
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(box) * box] * 3, indexing="ij", sparse=True)))
    common = np.fft.ifftn(np.fft.fftn(rng.normal(size=(box,) * 3)) * (k < start)).real
    halves = [(common + 0.03 * rng.normal(size=common.shape)).astype(np.float32) for _ in range(2)]
    mask = (soft_sphere(box, 16, 0) > 0.5).astype(np.float32)
    solvent = solvent_corrected_fsc(*halves, mask, 1, randomise_from=start, clip=False)
    bare = conical_fsc(*solvent.masked_transforms, 2.0)
    found = conical_fsc(
        *solvent.masked_transforms, 2.0, randomised=solvent.randomised, randomise_from=solvent.randomise_from
    )
    assert np.median(bare.resolution_A) < 5
    assert np.median(found.resolution_A) == resolution_at(solvent.corrected, 0.143, 2.0, box) > 14
    np.testing.assert_array_equal(found.curves[:, : start + 2], bare.curves[:, : start + 2])
