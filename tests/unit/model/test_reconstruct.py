"""From accumulators to maps and spectra (checklist items 3, 4, 10 and 11), in closed forms and by round trips."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mpiapp.model.fsc import fsc_of_half_grids
from mpiapp.model.masks import soft_sphere
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import (
    grid_radius,
    insert_slices,
    shell_index,
    squared_radius,
    transform_reference,
)
from mpiapp.model.reconstruct import (
    complex_data,
    downsampled_average,
    hermitian_sum,
    real_space_map,
    spectra_from_fsc,
    spectra_from_reference,
    wiener,
)
from mpiapp.model.rotations import euler_to_matrix

BOX, R_MAX, PADDING = 32, 13, 2.0
RADIUS = grid_radius(R_MAX, PADDING)
SHAPE = (2 * RADIUS + 1, 2 * RADIUS + 1, RADIUS + 1)
N_SHELLS = BOX // 2 + 1
INSIDE = squared_radius(RADIUS) < (RADIUS - 1) ** 2
SHELLS = shell_index(RADIUS, PADDING)


def grid(data: NDArray | complex, weight: NDArray | float) -> NDArray[np.float64]:
    """Accumulators from D and W, 0 outside the sphere."""
    data, weight = np.broadcast_to(data, SHAPE), np.broadcast_to(weight, SHAPE)
    return (
        np.stack([data.real, data.imag, weight], axis=-1)
        * (squared_radius(RADIUS) <= (RADIUS - 1) ** 2)[..., None]
    )


def blobs(rng: np.random.Generator) -> NDArray[np.float32]:
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
    volume = np.zeros((BOX,) * 3)
    for cx, cy, cz in rng.uniform(-7, 7, size=(25, 3)):
        volume += rng.uniform(0.5, 1.5) * np.exp(
            -((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * 1.2**2)
        )
    return volume.astype(np.float32)


def voxel_sections(volume: NDArray, matrices: NDArray) -> NDArray[np.complex128]:
    """Exact sections of a map: sums over its voxels at the pixels of each orientation."""
    pixels = pixel_list(R_MAX)
    plane = np.stack([pixels.kx, pixels.ky, np.zeros(len(pixels))], axis=1)
    axis = np.arange(BOX) - BOX // 2
    out = []
    for m in matrices:
        px, py, pz = (np.exp(-2j * np.pi / BOX * np.outer((plane @ m)[:, c], axis)) for c in range(3))
        first = np.einsum("zyx,nx->nzy", volume.astype(float), px, optimize=True)
        out.append(np.einsum("nzy,ny,nz->n", first, py, pz) / BOX**2)
    return np.stack(out)


def test_map_from_exact_sections(rng: np.random.Generator) -> None:
    """Item 3: sections at many orientations, back-projected without a prior, give the map back."""
    volume = blobs(rng)
    n = 150
    angles = (
        rng.uniform(-180, 180, n),
        np.degrees(np.arccos(rng.uniform(-1, 1, n))),
        rng.uniform(-180, 180, n),
    )
    matrices = euler_to_matrix(*angles)
    pixels = pixel_list(R_MAX)
    sections = voxel_sections(volume, matrices)
    data, weight = insert_slices(
        sections, np.ones(sections.shape), RADIUS, PADDING, matrices, pixels.kx, pixels.ky
    )
    sums = np.stack([data.real, data.imag, weight], axis=-1)
    hermitian_sum(sums)
    found = real_space_map(wiener(sums, None, PADDING), BOX, PADDING)
    limited = real_space_map(
        transform_reference(volume, R_MAX, PADDING, correct_gridding=False),
        BOX,
        PADDING,
        correct_gridding=False,
    )
    inside = soft_sphere(BOX, 0.9 * BOX / 2, 0) > 0
    a, b = found[inside].astype(float), limited[inside].astype(float)
    correlation = np.corrcoef(a, b)[0, 1]
    amplitude = np.polyfit(b, a, 1)[0]
    # measured: 0.9995 and 0.996
    assert correlation > 0.995
    assert amplitude == pytest.approx(1.0, abs=0.02)


def test_transform_and_back_is_the_map(rng: np.random.Generator) -> None:
    volume = blobs(rng) * soft_sphere(BOX, 0.7 * BOX / 2, 2)
    whole = transform_reference(volume, BOX // 2, PADDING, correct_gridding=False)
    found = real_space_map(whole, BOX, PADDING, correct_gridding=False)
    # frequencies in the corners of the cube are left out
    assert np.std(found - volume) < 0.01 * np.std(volume)


def test_hermitian_sum_adds_both_copies(rng: np.random.Generator) -> None:
    """Item 4: every pair of the plane x = 0 becomes the sum and its conjugate; nothing else changes."""
    sums = rng.normal(size=(*SHAPE, 3))
    before, after = sums.copy(), sums
    hermitian_sum(after)
    d, w = complex_data(before)[:, :, 0], before[:, :, 0, 2]
    expected = d + d[::-1, ::-1].conj()
    expected[RADIUS, RADIUS] = d[RADIUS, RADIUS]
    np.testing.assert_allclose(complex_data(after)[:, :, 0], expected)
    off_origin = np.ones(w.shape, bool)
    off_origin[RADIUS, RADIUS] = False
    np.testing.assert_allclose(after[:, :, 0, 2][off_origin], (w + w[::-1, ::-1])[off_origin])
    np.testing.assert_array_equal(after[RADIUS, RADIUS, 0], before[RADIUS, RADIUS, 0])
    np.testing.assert_array_equal(after[:, :, 1:], before[:, :, 1:])


def test_summed_halves_are_the_transform_of_a_real_map(rng: np.random.Generator) -> None:
    """Item 4: the inverse transform of the whole grid, mirror half included, has no imaginary part."""
    sums = grid(rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE), 1.0)
    hermitian_sum(sums)
    sums[RADIUS, RADIUS, 0, 1] = 0
    half = complex_data(sums)
    full = np.concatenate([half[::-1, ::-1, :0:-1].conj(), half], axis=2)
    real_map = np.fft.ifftn(np.fft.ifftshift(full))
    assert np.abs(real_map.imag).max() < 1e-12 * np.abs(real_map).max()


def test_real_space_map_is_the_inverse_transform(rng: np.random.Generator) -> None:
    sums = grid(rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE), 1.0)
    hermitian_sum(sums)
    sums[RADIUS, RADIUS, 0, 1] = 0
    half = complex_data(sums).astype(np.complex64)
    found = real_space_map(half, BOX, PADDING, correct_gridding=False)
    axis = np.arange(-RADIUS, RADIUS + 1)
    place = np.array([[3, -2, 5], [0, 0, 0], [-6, 7, -1], [10, 0, 4]])  # x, y, z, inside the spherical mask
    full = np.concatenate([half[::-1, ::-1, :0:-1].conj(), half], axis=2).astype(complex)
    for x, y, z in place:
        waves = [np.exp(2j * np.pi / (PADDING * BOX) * axis * r) for r in (z, y, x)]
        expected = np.einsum("zyx,z,y,x->", full, *waves).real / (PADDING**3 * BOX)
        assert found[z + BOX // 2, y + BOX // 2, x + BOX // 2] == pytest.approx(expected, rel=1e-4)


def test_wiener_gain() -> None:
    """Item 10: W / (W + 1 / (p^3 T tau2)) times D / W."""
    weight, data, fudge = 5.0, 2.0 - 1.0j, 1.5
    tau2 = np.geomspace(0.2, 1e-4, N_SHELLS)
    found = wiener(grid(weight * data, weight), tau2, PADDING, tau2_fudge=fudge, minres_map=5)
    gain = weight / (weight + 1 / (PADDING**3 * fudge * tau2[np.minimum(SHELLS, N_SHELLS - 1)]))
    gain[SHELLS < 5] = 1
    np.testing.assert_allclose(found[INSIDE], (data * gain)[INSIDE], rtol=1e-5)
    assert not found[~INSIDE].any()


def test_without_prior_the_average_is_left() -> None:
    found = wiener(grid(6.0j, 3.0), None, PADDING)
    np.testing.assert_allclose(found[INSIDE], 2.0j, rtol=1e-6)


def test_shells_without_signal_power() -> None:
    """The guard of the specification adds 1 / (0.001 W), which damps little where W is large."""
    tau2 = np.zeros(N_SHELLS)
    found = wiener(grid(100.0, 100.0), tau2, PADDING)
    np.testing.assert_allclose(found[INSIDE & (SHELLS >= 5)], 100.0 / (100.0 + 10.0), rtol=1e-5)


def test_rare_views_are_not_blown_up() -> None:
    """The denominator is at least a thousandth of its mean over the ring."""
    weight = np.full(SHAPE, 2.0)
    lone = (RADIUS + 7, RADIUS - 5, 9)
    weight[lone] = 1e-9
    found = wiener(grid(1.0, weight), None, PADDING)
    ring = (np.sqrt(squared_radius(RADIUS)) / PADDING).astype(int)
    mean = weight[INSIDE & (ring == ring[lone])].mean()
    assert found[lone].real == pytest.approx(1000 / mean, rel=1e-5)


def test_fsc_gives_the_prior() -> None:
    """Item 11: tau2 / sigma2_ref = f / (1 - f), with f held between 0.001 and 0.999."""
    fsc = np.linspace(1.0, -0.2, N_SHELLS)
    spectra = spectra_from_fsc(grid(0, 4.0), fsc, PADDING)
    sampled = np.unique(SHELLS[INSIDE])
    f = np.clip(fsc, 0.001, 0.999)[sampled]
    np.testing.assert_allclose(spectra.sigma2_ref[sampled], 1 / (PADDING**3 * 4.0))
    np.testing.assert_allclose(spectra.data_vs_prior[sampled], f / (1 - f))
    np.testing.assert_allclose(spectra.tau2[sampled], f / (1 - f) * spectra.sigma2_ref[sampled])
    # an element is covered where W p^3 tau2 >= 1, here where f >= 0.5
    np.testing.assert_array_equal(spectra.coverage[sampled], (f >= 0.5).astype(float))


def test_joined_halves_count_twice_the_data() -> None:
    """Item 11: sqrt(2 f / (1 + f)) takes the place of f, so 0.143 becomes 0.5."""
    fsc = np.full(N_SHELLS, 1 / 7)
    spectra = spectra_from_fsc(grid(0, 4.0), fsc, PADDING, joined=True, tau2_fudge=2.0)
    np.testing.assert_allclose(spectra.data_vs_prior[:R_MAX], 2.0, rtol=1e-12)


def test_noise_in_the_map_is_the_inverse_mean_weight(rng: np.random.Generator) -> None:
    weight = rng.uniform(0, 5, SHAPE)
    spectra = spectra_from_fsc(grid(0, weight), np.full(N_SHELLS, 0.5), PADDING)
    for s in (1, 6, R_MAX - 1):
        mean = weight[INSIDE & (s == SHELLS)].mean()
        assert spectra.sigma2_ref[s] == pytest.approx(1 / (PADDING**3 * mean))
    # nothing is measured beyond the sphere
    assert spectra.sigma2_ref[-1] == spectra.tau2[-1] == spectra.data_vs_prior[-1] == 0


def test_spectra_of_one_reference(rng: np.random.Generator) -> None:
    weight = rng.uniform(0, 5, SHAPE)
    tau2 = np.geomspace(1.0, 1e-3, N_SHELLS)
    spectra = spectra_from_reference(grid(0, weight), tau2, PADDING, tau2_fudge=4.0)
    for s in (1, 6, R_MAX - 1):
        ratio = weight[INSIDE & (s == SHELLS)] * PADDING**3 * 4.0 * tau2[s]
        assert spectra.data_vs_prior[s] == pytest.approx(ratio.mean())
        assert spectra.coverage[s] == pytest.approx((ratio >= 1).mean())
    np.testing.assert_array_equal(spectra.tau2, tau2)
    assert not spectra.data_vs_prior[R_MAX + 1 :].any()


def test_downsampled_average() -> None:
    """Item of 2.7: padded elements average into the unpadded one they round to, D and W apart."""
    data, weight = np.zeros(SHAPE, complex), np.zeros(SHAPE)
    # x, y, z of padded elements around the unpadded element (2, -3, 1): halves round away from zero
    for (x, y, z), d, w in [((4, -6, 2), 2.0, 1.0), ((3, -6, 2), 3.0j, 2.0), ((4, -5, 1), -1.0, 0.5)]:
        data[z + RADIUS, y + RADIUS, x], weight[z + RADIUS, y + RADIUS, x] = d, w
    average = downsampled_average(grid(data, weight), R_MAX, PADDING)
    small = R_MAX + 1
    assert average.shape == (2 * small + 1, 2 * small + 1, small + 1)
    assert average[1 + small, -3 + small, 2] == pytest.approx((1.0 + 3.0j) / 3.5)
    assert np.count_nonzero(average) == 1


def test_fsc_of_independent_noise_in_the_sums(rng: np.random.Generator) -> None:
    """Signal to noise s in both halves: FSC = s / (1 + s), whatever the weights."""
    volume = rng.normal(size=(BOX,) * 3).astype(np.float32)
    signal = transform_reference(volume, R_MAX, PADDING, correct_gridding=False)
    # white noise on the unpadded grid, so that neighbours of the padded one carry the same
    noise = [
        transform_reference(rng.normal(size=(BOX,) * 3), R_MAX, PADDING, correct_gridding=False)
        for _ in range(2)
    ]
    halves = [downsampled_average(grid(3.0 * (signal + n), 3.0), R_MAX, PADDING) for n in noise]
    fsc = fsc_of_half_grids(halves[0], halves[1], R_MAX, N_SHELLS)
    assert fsc[5 : R_MAX - 1].mean() == pytest.approx(0.5, abs=0.05)
    assert fsc[0] == 1
    assert not fsc[R_MAX + 1 :].any()
