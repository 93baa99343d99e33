"""Gradient steps against closed forms: residual, moments, signal share, step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from strict_arrays import StrictArray, strict_module

from mpiapp.model.averages import hermitian_sum_planes, insert_planes
from mpiapp.model.gradient import (
    Moments,
    descend,
    gradient,
    reference_of,
    shell_mean,
    signal_share,
    stepped,
    transform_of,
)
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius, insert_slices, slice_volume, transform_reference
from mpiapp.model.reconstruct import hermitian_sum
from mpiapp.model.rotations import euler_to_matrix, rotation_z
from mpiapp.model.scores import transform_at

BOX, R_MAX, PADDING, N_SHELLS = 24, 9, 2.0, 13
RADIUS = grid_radius(R_MAX, PADDING)
PLANE, VOLUME = (2 * RADIUS + 1, RADIUS + 1), (2 * RADIUS + 1, 2 * RADIUS + 1, RADIUS + 1)


def blob(ndim: int, centre: tuple[float, ...] = (2.0, 1.0, -1.0), width: float = 2.0) -> NDArray[np.float64]:
    """A Gaussian beside the centre; x first."""
    axes = np.meshgrid(*[np.arange(BOX) - BOX // 2] * ndim, indexing="ij")
    distance2 = sum((a - c) ** 2 for a, c in zip(axes[::-1], centre[:ndim], strict=True))
    return np.asarray(np.exp(-distance2 / (2 * width**2)))


def centre_distance(ndim: int) -> NDArray[np.float64]:
    return np.sqrt(sum(a**2 for a in np.meshgrid(*[np.arange(BOX) - BOX // 2] * ndim, indexing="ij")))


@pytest.mark.parametrize("ndim", [2, 3])
def test_transform_of_a_reference_and_back(ndim: int) -> None:
    image = blob(ndim)
    found = reference_of(transform_of(image, BOX // 2, PADDING), BOX, PADDING)
    inside = centre_distance(ndim) < BOX / 2 - 4
    np.testing.assert_allclose(found[inside], image[inside], atol=2e-3)


def plane_sums(image: NDArray[np.float64], turns_deg: NDArray, weight: float) -> NDArray[np.float64]:
    """Sums of exact images of an average that is turned, each the transform at the frequencies that it sees."""
    pixels = pixel_list(R_MAX)
    k = np.stack([pixels.kx, pixels.ky]).astype(float)
    turns = rotation_z(turns_deg)
    values = np.stack([transform_at(image, t[:2, :2].T @ k) for t in turns])
    sums = insert_planes(weight * values, np.full(values.shape, weight), RADIUS, PADDING, turns, *k)
    hermitian_sum_planes(sums)
    return sums


def volume_sums(
    volume: NDArray[np.float64], matrices: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Sums of exact slices of a map."""
    pixels = pixel_list(R_MAX)
    transform = transform_reference(volume, R_MAX + 1, PADDING)
    values = slice_volume(transform, PADDING, matrices, pixels.kx, pixels.ky)
    data, weights = insert_slices(
        weight * values, np.full(values.shape, weight), RADIUS, PADDING, matrices, pixels.kx, pixels.ky
    )
    sums = np.stack([data.real, data.imag, weights], axis=-1)
    hermitian_sum(sums)
    return sums


@pytest.mark.parametrize("ndim", [2, 3])
def test_gradient_is_that_of_the_residual_images(ndim: int, rng: np.random.Generator) -> None:
    """Taking the reference off the sums is taking its projections off the images; it vanishes when they are equal."""
    image, reference = blob(ndim), blob(ndim, (-1.0, 2.0, 0.5), 2.5)
    if ndim == 2:
        turns = rng.uniform(0, 360, 1000)

        def sums_of(array: NDArray[np.float64]) -> NDArray[np.float64]:
            return plane_sums(array, turns, 50.0)
    else:
        matrices = euler_to_matrix(
            rng.uniform(0, 360, 2000),
            np.degrees(np.arccos(rng.uniform(-1, 1, 2000))),
            rng.uniform(0, 360, 2000),
        )

        def sums_of(array: NDArray[np.float64]) -> NDArray[np.float64]:
            return volume_sums(array, matrices, 50.0)

    sums, residual = sums_of(image), sums_of(image - reference)
    expected = (residual[..., 0] + 1j * residual[..., 1]) / np.maximum(residual[..., 2], 1)
    found = gradient(sums, transform_of(reference, R_MAX, PADDING))
    # images have no samples between the origin and the first frequency, padded frequency 2
    mine = np.hypot(
        np.hypot(*np.ogrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1])[..., None], np.arange(RADIUS + 1)
    )
    mine = (mine if ndim == 3 else mine[RADIUS]) >= 2
    size = np.linalg.norm(expected[mine])
    assert np.linalg.norm((found - expected)[mine]) < 0.1 * size
    assert np.linalg.norm(gradient(sums, transform_of(image, R_MAX, PADDING))[mine]) < 0.1 * size


def test_weights_below_one_count_as_one() -> None:
    sums = np.zeros((*PLANE, 3))
    sums[..., 0], sums[..., 1], sums[..., 2] = 3.0, -1.0, 0.25
    transform = np.full(PLANE, 2.0 + 4.0j, np.complex64)
    np.testing.assert_allclose(gradient(sums, transform), (3 - 1j) - 0.25 * (2 + 4j), rtol=1e-6)
    sums[..., 2] = 4.0
    np.testing.assert_allclose(gradient(sums, transform), (3 - 1j) / 4 - (2 + 4j), rtol=1e-6)


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex64]:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("shape", [PLANE, VOLUME])
def test_moments_after_three_gradients(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    g = [(draw(rng, shape), draw(rng, shape)) for _ in range(3)]
    moments = Moments.none(len(shape))
    for pair in g:
        moments, found = descend(moments, pair, PADDING, N_SHELLS)
    axes = [np.arange(-RADIUS, RADIUS + 1)] * (len(shape) - 1) + [np.arange(RADIUS + 1)]
    r2 = sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))
    inside = r2 < (RADIUS - 1) ** 2
    means = [0.81 * g[0][h] + 0.09 * g[1][h] + 0.1 * g[2][h] for h in (0, 1)]
    ratio = [abs(b - a) ** 2 / (abs((a + b) / 2) ** 2 + 1e-12) for a, b in g]
    second = 0.999**3 + 0.001 * (0.999**2 * ratio[0] + 0.999 * ratio[1] + ratio[2])
    expected = np.where(inside, (means[0] + means[1]) / 2 / np.sqrt(second), 0)
    np.testing.assert_allclose(found.direction, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moments.first[1][inside], means[1][inside], rtol=1e-4, atol=1e-6)
    assert not moments.first[:, ~inside].any()
    assert (moments.second[~inside] == 1).all()
    shell = np.floor(np.sqrt(r2) / PADDING + 0.5).astype(int)
    for s in (0, 3, R_MAX - 1):
        mine = inside & (shell == s)
        assert found.noise[s] == pytest.approx(abs(means[0] - means[1])[mine].mean(), rel=1e-4)
    assert found.strength == pytest.approx((abs(expected) ** 2).mean(), rel=1e-4)


def test_frequencies_that_are_new_begin_with_their_gradient(rng: np.random.Generator) -> None:
    small = RADIUS - 6
    first = [draw(rng, (2 * small + 1, small + 1)) for _ in (0, 1)]
    second = [draw(rng, PLANE) for _ in (0, 1)]
    moments, _ = descend(Moments.none(2), (first[0], first[1]), PADDING, N_SHELLS)
    moments, _ = descend(moments, (second[0], second[1]), PADDING, N_SHELLS)
    assert moments.radius == RADIUS
    axis = np.arange(-RADIUS, RADIUS + 1)
    r2 = axis[:, None] ** 2 + np.arange(RADIUS + 1) ** 2
    new = (r2 >= (small - 1) ** 2) & (r2 < (RADIUS - 1) ** 2)
    np.testing.assert_array_equal(moments.first[0][new], second[0][new])
    centre = 0.9 * first[0][small, 0] + 0.1 * second[0][RADIUS, 0]
    assert moments.first[0][RADIUS, 0] == pytest.approx(centre, rel=1e-5)
    # a smaller mini-batch leaves what it does not reach
    before = moments.first.copy()
    moments, found = descend(moments, (first[1], first[0]), PADDING, N_SHELLS)
    np.testing.assert_array_equal(moments.first[0][new], before[0][new])
    assert found.direction.shape == first[0].shape


def test_share_of_signal_and_step() -> None:
    """|F| = 0.5 and noise 0.2 s: f = 2 T 0.5 / (0.2 s + 2 T 0.5); a shell without noise has no share to tell."""
    transform = np.full(PLANE, 0.3 + 0.4j, np.complex64)
    noise = 0.2 * np.arange(N_SHELLS)
    share = signal_share(transform, noise, 2.0, PADDING)
    s = np.arange(1, R_MAX)
    np.testing.assert_allclose(share[s], 2.0 / (2.0 + noise[s]), rtol=1e-5)
    assert share[0] == 0
    direction = np.full(PLANE, 1.0 - 2.0j, np.complex64)
    found = stepped(transform, direction, share, 0.3, PADDING)
    f = share[2]
    expected = (0.3 + 0.4j) + 0.3 * (f * (1 - 2j) - (1 - f) * (0.3 + 0.4j))
    assert found[RADIUS, 4] == pytest.approx(expected, rel=1e-5)  # padded frequency 4 is shell 2


def test_means_by_shell() -> None:
    axis = np.arange(-RADIUS, RADIUS + 1)
    r2 = axis[:, None] ** 2 + np.arange(RADIUS + 1) ** 2
    found = shell_mean(r2.astype(float), PADDING, N_SHELLS)
    shell = np.floor(np.sqrt(r2) / PADDING + 0.5)
    assert found[5] == pytest.approx(r2[shell == 5].mean())
    assert found[N_SHELLS - 1] == 0


def test_moments_move_with_the_reference() -> None:
    there = transform_of(np.roll(blob(2), (2, -3), axis=(0, 1)), R_MAX, PADDING)
    here = transform_of(blob(2), R_MAX, PADDING)
    moments = Moments(np.stack([here, here]), np.ones(PLANE, np.float32), RADIUS)
    moved = moments.moved(np.array([-3.0, 2.0]), int(PADDING * BOX))
    # the damping does not move along
    assert np.linalg.norm(moved.first[0] - there) < 0.03 * np.linalg.norm(there)
    assert np.linalg.norm(here - there) > 0.5 * np.linalg.norm(there)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_device_computes_the_same(ndim: int, rng: np.random.Generator) -> None:
    """The whole step, on arrays that refuse to meet host arrays."""
    xp = strict_module().xp
    reference = blob(ndim).astype(np.float32)
    shape = PLANE if ndim == 2 else VOLUME
    halves = [
        np.concatenate([rng.normal(size=(*shape, 2)), np.full((*shape, 1), 3.0)], axis=-1) for _ in (0, 1)
    ]

    def step(convert: Callable[[NDArray], NDArray]) -> tuple[NDArray, Moments]:
        transform = transform_of(convert(reference), R_MAX, PADDING)
        pair = tuple(gradient(convert(h), transform) for h in halves)
        moments, found = descend(Moments.none(ndim), pair, PADDING, N_SHELLS)
        moments = moments.moved(np.arange(ndim), int(PADDING * BOX)).damped()
        share = signal_share(transform, found.noise, 2.0, PADDING)
        assert 0 < share[3] < 1
        return reference_of(stepped(transform, found.direction, share, 0.3, PADDING), BOX, PADDING), moments

    here, host = step(lambda a: a)
    there, device = step(xp.asarray)
    assert isinstance(there, StrictArray)
    assert isinstance(device.first, StrictArray)
    np.testing.assert_allclose(there.get(), here, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(device.first.get(), host.first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(device.second.get(), host.second, rtol=1e-5)
