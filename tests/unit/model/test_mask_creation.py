"""Masks against their definition, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.mask_creation import (
    automatic_threshold,
    central_part,
    combine,
    extend,
    largest_piece,
    shell_mask,
    soft_edge,
)
from mpiapp.model.masks import centre_distance

BOX = 20


def distances(binary: np.ndarray) -> np.ndarray:
    """Distance of every voxel to the nearest set voxel, by comparing with all of them."""
    places = np.argwhere(np.ones_like(binary))
    inside = np.argwhere(binary)
    d = np.sqrt(((places[:, None] - inside[None]) ** 2).sum(2)).min(1)
    return d.reshape(binary.shape)


@pytest.fixture
def blobs(rng: np.random.Generator) -> np.ndarray:
    binary = np.zeros((BOX,) * 3, bool)
    binary[tuple(rng.integers(0, BOX, (3, 12)))] = True
    return binary


@pytest.mark.parametrize("pixels", [1.0, 2.0, 2.5, 3.0])
def test_extension_is_strict_in_distance(blobs: np.ndarray, pixels: float) -> None:
    np.testing.assert_array_equal(extend(blobs, pixels), distances(blobs) < pixels)
    large = extend(blobs, 3.0)
    np.testing.assert_array_equal(extend(large, -pixels), large & ~(distances(~large) < pixels))
    np.testing.assert_array_equal(extend(blobs, 0.0), blobs)


def test_soft_edge_is_a_raised_cosine(blobs: np.ndarray) -> None:
    d = distances(blobs)
    expected = np.where(blobs, 1, np.where(d < 4, 0.5 + 0.5 * np.cos(np.pi * d / 4), 0))
    np.testing.assert_allclose(soft_edge(blobs, 4.0), expected, atol=1e-6)
    np.testing.assert_array_equal(soft_edge(blobs, 0.0), blobs.astype(np.float32))
    assert soft_edge(np.zeros_like(blobs), 3.0).max() == 0


def test_logic_of_two_maps() -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert combine(a, b, "and").tolist() == [True, False, False, False]
    assert combine(a, b, "or").tolist() == [True, True, True, False]
    assert combine(a, b, "and_not").tolist() == [False, True, False, False]
    assert combine(a, b, "or_not").tolist() == [True, True, False, True]


def test_shell_off_the_centre() -> None:
    mask = shell_mask(24, 3.0, 7.0, 2.0, (2.0, 0.0, -1.0))
    assert mask[12 - 1, 12, 12 + 2] == 0  # its centre
    assert mask[12 - 1, 12, 12 + 2 + 3] == 1
    assert mask[12 - 1, 12, 12 + 2 + 6] == 1
    assert mask[12 - 1, 12, 12 + 2 + 8] == pytest.approx(0.5)
    assert mask[12 - 1, 12 + 2, 12 + 2] == pytest.approx(0.5)  # one pixel inside the inner radius
    assert mask[12 - 1, 12, 12 + 2 + 9] == 0


def test_central_part_of_a_helix() -> None:
    kept = central_part(np.ones((20, 4, 4), np.float32), 0.5, 2.0)
    assert kept[:, 0, 0] == pytest.approx([0] * 4 + [0.5] + [1] * 11 + [0.5] + [0] * 3, abs=1e-6)


def test_automatic_threshold_keeps_the_particle_and_drops_the_noise(rng: np.random.Generator) -> None:
    r = centre_distance(40, 3)
    density = (r < 10) * 1.0 + 0.1 * rng.normal(size=r.shape)
    threshold = automatic_threshold(density)
    assert 0.25 < threshold < 0.4
    binary = density > threshold
    binary[1, 1, 1] = True
    piece = largest_piece(binary)
    assert not piece[1, 1, 1]
    assert (piece == (r < 10)).mean() > 0.999
    assert automatic_threshold((r < 10) * 1.0) == pytest.approx(0.05)
