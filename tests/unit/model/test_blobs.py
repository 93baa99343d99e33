"""Random blobs as first class averages."""

from __future__ import annotations

import numpy as np
import pytest

from mpiapp.model.blobs import blobs_like


def test_blobs_are_as_strong_as_the_image_and_lie_where_it_is() -> None:
    y, x = np.mgrid[:64, :64] - 32
    image = 3.0 * (np.hypot(x, y) < 20)
    first, again = (blobs_like(image, 40.0, np.random.default_rng(7)) for _ in (0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.std() == pytest.approx(image.std(), rel=1e-5)
    assert first.min() < 0 < first.max()
    # centres scatter by a seventh of the diameter: little is far from the middle
    assert np.abs(first[np.hypot(x, y) > 28]).max() < 0.02 * np.abs(first).max()
    other = blobs_like(image, 40.0, np.random.default_rng(8))
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.95


def test_one_blob_has_the_width_and_height_that_are_asked_for() -> None:
    """Two sets of one blob each, at y = 32 and x = 20 and 44, the second taken off at half its height."""

    class Fixed:
        centres = iter([[[32.5, 20.5]], [[32.5, 44.5]]])

        def normal(self, *_: object) -> np.ndarray:
            return np.array(next(self.centres))

    image = np.zeros((64, 64))
    image[32, 20], image[32, 44] = -2.0, 4.0
    found = blobs_like(image, 50.0, Fixed())  # type: ignore[arg-type]
    y, x = np.mgrid[:64, :64]
    shape = 2 * np.exp(-((x - 20.5) ** 2 + (y - 32.5) ** 2) / 25)
    shape -= 0.5 * 4 * np.exp(-((x - 44.5) ** 2 + (y - 32.5) ** 2) / 25)
    np.testing.assert_allclose(found, shape * image.std() / shape.std(), atol=1e-5)


def test_an_image_without_signal_gives_none() -> None:
    assert not blobs_like(np.zeros((16, 16)), 10.0, np.random.default_rng(1)).any()
