"""Expected accuracies of the classes (refinement.md 6.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, ImagingSetup
from mpiapp.engine.accuracy import accuracies_of_sample, rotation_errors, sample_weights, shift_errors
from mpiapp.engine.state import UNKNOWN, HalfState
from mpiapp.model.arrays import module_of
from mpiapp.model.noise import particle_generator
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.pixels import pixel_list
from mpiapp.model.rotations import euler_to_matrix

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
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
    large = np.flatnonzero(half.class_prior >= LEAST_SHARE)
    if planar:
        accuracy[large] = _of_averages(
            backend, setup, references, large, current_size, half.sigma2, sample, angles
        )
        return replace(half, accuracy=accuracy)
    for k in large:
        found = accuracies_of_sample(
            backend, setup, references[k], current_size, half.sigma2, sample, angles, workers
        )
        accuracy[k] = found.rot_deg, found.trans_A
    return replace(half, accuracy=accuracy)


def _of_averages(
    backend: Backend,
    setup: ImagingSetup,
    references: F32,
    classes: I64,
    size: int,
    sigma2: F64,
    data: ParticleData,
    poses: Poses,
) -> F64:
    """Mean errors of rotations in the plane (degrees) and of shifts (A) of some class averages: (n, 2).

    Every particle of the sample with every class is one pair; all pairs are looked at together.
    """
    pixels, n = pixel_list(size // 2), len(data)
    if not classes.size:
        return np.zeros((0, 2))
    planes = [_padded_transform(backend.to_device(references[k]), size // 2) for k in classes]
    xp = module_of(planes[0]).xp
    stack, put = xp.stack(planes), backend.to_device
    kx, ky = put(pixels.kx.astype(np.float32)), put(pixels.ky.astype(np.float32))

    def slicer(matrices: F64, pairs: I64) -> Any:
        m = put(np.ascontiguousarray(matrices, np.float32))
        return _turned(xp, stack, put(pairs // n), m, kx, ky)

    rot, tilt, psi = (np.tile(a, classes.size) for a in (poses.rot_deg, poses.tilt_deg, poses.psi_deg))
    angles = (rot, tilt, psi)
    weight = xp.tile(sample_weights(setup, pixels, sigma2, data, put), (classes.size, 1))
    first = slicer(euler_to_matrix(*angles), np.arange(classes.size * n))
    draws = np.array([particle_generator(setup.seed, "accuracy", int(i)).random(2) for i in data.particle_id])
    in_plane = np.ones(classes.size * n)
    rot, _ = rotation_errors(slicer, first, angles, weight, in_plane, pixels)
    trans = shift_errors(first, weight, np.tile(draws[:, 1], classes.size), pixels, setup.box)
    rot, trans = (e.reshape(classes.size, n).mean(axis=1) for e in (rot, trans))
    return np.stack([rot, trans * setup.pixel_size_A], axis=1)


def _padded_transform(image: F32, r_max: int) -> Any:
    """Transform of an average in a padded box: (2 R + 1, R + 2) complex64, origin at (R, 0)."""
    arrays, box, size = module_of(image), image.shape[0], PLANE_PADDING * image.shape[0]
    xp, radius = arrays.xp, PLANE_PADDING * (r_max + 1)
    centred = xp.zeros((size, size), np.float32)
    start = size // 2 - box // 2
    centred[start : start + box, start : start + box] = image
    half = arrays.fft.rfft2(xp.fft.ifftshift(centred)) / np.float32(box**2)
    y, x = xp.arange(-radius, radius + 1), xp.arange(radius + 2)
    return half[y % size][:, xp.minimum(x, size // 2)].astype(np.complex64)


def _turned(xp: Any, planes: Any, plane_of: Any, m: Any, kx: Any, ky: Any) -> Any:
    """Padded transforms (k, 2 R + 1, R + 2) read at turned frequencies, linearly interpolated: (n, 2, n_pix) float32."""
    radius = planes.shape[2] - 2
    x = PLANE_PADDING * (m[:, 0, 0, None] * kx + m[:, 1, 0, None] * ky)
    y = PLANE_PADDING * (m[:, 0, 1, None] * kx + m[:, 1, 1, None] * ky)
    mirror = xp.where(x < 0, np.float32(-1), np.float32(1))
    x, y = x * mirror, y * mirror
    x0, y0 = xp.floor(x), xp.floor(y)
    fx, fy = x - x0, y - y0
    flat = planes.reshape(-1)
    first = (plane_of[:, None] * planes.shape[1] + y0.astype(np.int64) + radius) * (radius + 2) + x0.astype(
        np.int64
    )
    value = (1 - fy) * ((1 - fx) * flat[first] + fx * flat[first + 1])
    first += radius + 2
    value = value + fy * ((1 - fx) * flat[first] + fx * flat[first + 1])
    return xp.stack([value.real, value.imag * mirror], axis=1).astype(np.float32)
