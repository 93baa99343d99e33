"""The first noise spectra leave out images that are not finite, whole batches of them included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.engine.noise import BATCH, first_noise
from mpiapp.model.particles import OpticsModel, ParticleData
from mpiapp.model.symmetry import point_group

BOX = 16


def test_a_batch_without_any_finite_image() -> None:
    """The spectra are those of the finite images alone."""
    n = 3 * BATCH
    images = np.random.default_rng(2).normal(size=(n, BOX, BOX)).astype(np.float32)
    spoilt = images.copy()
    spoilt[BATCH : 2 * BATCH] = np.nan
    optics = OpticsModel(BOX, 2.0, 1.0, (1.0, 0.0, 0.0, 1.0), (), (), False)
    setup = ImagingSetup(BOX, 2.0, 2.0, 24.0, 2.0, True, [optics], 1, point_group("C1"), 1)

    def noise(stack: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        zero = np.zeros(len(rows), np.int32)
        data = ParticleData(rows, zero, zero, np.zeros((len(rows), 8)), zero, rows)
        return np.asarray(first_noise(setup, data, lambda _, k: stack[k], n, 1, 2))

    finite = np.concatenate([np.arange(BATCH), np.arange(2 * BATCH, n)])
    np.testing.assert_allclose(noise(spoilt, np.arange(n)), noise(images, finite), rtol=1e-5)
