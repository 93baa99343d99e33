"""Expected accuracies of the classes (refinement.md 6.2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from mpiapp.backend.base import Backend, ImagingSetup
from mpiapp.engine.accuracy import (
    Accuracies,
    Slicer,
    accuracies_of_sample,
    expected_accuracies,
    sample_weights,
)
from mpiapp.engine.state import UNKNOWN, HalfState
from mpiapp.model.noise import particle_generator
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.pixels import PixelList, pixel_list

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
SAMPLE, PLANE_SAMPLE = 100, 10
# Smaller classes are left out
LEAST_SHARE = 0.01
# Padding of an average whose transform is read between frequencies by linear interpolation
PLANE_PADDING = 4


def class_accuracies(
    backend: Backend,
    setup: ImagingSetup,
    references: F32,
    half: HalfState,
    current_size: int,
    data: ParticleData,
    poses: Poses,
    workers: int,
) -> HalfState:
    """The parameters with new expected accuracies of every class."""
    planar = references.ndim == 3
    rng = particle_generator(setup.seed, "accuracy sample", 0)
    rows = np.sort(rng.permutation(len(data))[: PLANE_SAMPLE if planar else SAMPLE])
    sample, angles = data.take(rows), poses.take(rows)
    accuracy = np.full((half.n_class, 2), UNKNOWN)
    for k in np.flatnonzero(half.class_prior >= LEAST_SHARE):
        if planar:
            found = _of_average(setup, references[k], current_size, half.sigma2, sample, angles)
        else:
            found = accuracies_of_sample(
                backend, setup, references[k], current_size, half.sigma2, sample, angles, workers
            )
        accuracy[k] = found.rot_deg, found.trans_A
    return replace(half, accuracy=accuracy)


def _of_average(
    setup: ImagingSetup, image: F32, size: int, sigma2: F64, data: ParticleData, poses: Poses
) -> Accuracies:
    pixels = pixel_list(size // 2)
    return expected_accuracies(
        _plane_slicer(image, pixels),
        pixels,
        (poses.rot_deg, poses.tilt_deg, poses.psi_deg),
        sample_weights(setup, pixels, sigma2, data),
        np.full(len(data), setup.pixel_size_A),
        setup.box,
        setup.seed,
        data.particle_id,
        in_plane=True,
    )


def _plane_slicer(image: F32, pixels: PixelList) -> Slicer:
    """Turned transforms of an average, by linear interpolation in its padded transform."""
    box, size = image.shape[0], PLANE_PADDING * image.shape[0]
    centred = np.zeros((size, size))
    start = size // 2 - box // 2
    centred[start : start + box, start : start + box] = image
    transform = fft.fftshift(fft.fft2(fft.ifftshift(centred))) / box**2

    def slicer(matrices: F64) -> F32:
        q = matrices[:, 0, :2, None] * pixels.kx + matrices[:, 1, :2, None] * pixels.ky
        at = [PLANE_PADDING * q[:, 1] + size // 2, PLANE_PADDING * q[:, 0] + size // 2]
        parts = [ndimage.map_coordinates(part, at, order=1) for part in (transform.real, transform.imag)]
        return np.stack(parts, axis=1).astype(np.float32)

    return slicer
