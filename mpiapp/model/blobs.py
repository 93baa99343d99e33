"""Random blobs to start class averages from (refinement.md 7.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BLOBS = 40
# Scatter of the centres, and radius at which a blob has fallen to 1/e, as parts of the diameter
SCATTER, WIDTH = 1 / 7, 1 / 10
# Weight of the second set, which is taken off the first
NEGATIVE = 0.5


def blobs_like(
    image: NDArray[np.floating[Any]], diameter_px: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Random Gaussian blobs, some of them negative, with the standard deviation of an image.

    Parameters
    ----------
    image : (N, N), whose size at the centre of a blob is the height of that blob
    diameter_px : of the particle

    Returns
    -------
    (N, N) float32
    """
    blobs = _blobs(image, diameter_px, rng) - NEGATIVE * _blobs(image, diameter_px, rng)
    spread = blobs.std()
    return np.asarray(blobs * (image.std() / spread if spread > 0 else 1.0), np.float32)


def _blobs(
    image: NDArray[np.floating[Any]], diameter_px: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    box = len(image)
    centres = rng.normal(box / 2, SCATTER * diameter_px, (N_BLOBS, 2))
    centres = centres[(centres >= 0).all(axis=1) & (centres < box).all(axis=1)]
    y, x = np.floor(centres).astype(int).T
    heights = np.abs(image[y, x])
    axis = np.arange(box)
    rows, columns = (np.exp(-(((axis - c[:, None]) / (WIDTH * diameter_px)) ** 2)) for c in centres.T)
    return np.asarray(np.einsum("n,ny,nx->yx", heights, rows, columns))
