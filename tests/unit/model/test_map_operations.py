"""Hand and symmetry of maps, on blobs at known places."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.map_operations import invert_hand, symmetrise_map
from mpiapp.model.symmetry import point_group

BOX = 32


def blobs(points: np.ndarray) -> np.ndarray:
    """Gaussians of 2 pixels at points (n, 3) x, y, z relative to element N/2."""
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    grid = np.stack([x, y, z], -1)
    return sum(np.exp(-((grid - p) ** 2).sum(-1) / 8) for p in points)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["C3", "D2", "T", "O"])
def test_average_over_a_group(name: str) -> None:
    """One blob becomes one at each of its mates, each with its share."""
    group = point_group(name)
    start = np.array([6.0, 3.0, 4.0])
    mates = np.array([operator @ start for operator in group.operators])
    found = symmetrise_map(blobs(start[None]), group)
    expected = blobs(mates) / len(mates)
    assert np.abs(found - expected).max() < 0.01 * expected.max()


def test_hand_is_inverted_about_the_origin() -> None:
    found = invert_hand(blobs(np.array([[5.0, 2.0, 3.0]])))
    np.testing.assert_allclose(found, blobs(np.array([[-5.0, 2.0, 3.0]])), atol=1e-6)
    np.testing.assert_array_equal(invert_hand(found), invert_hand(invert_hand(invert_hand(found))))
