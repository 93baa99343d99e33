"""Averages to start a 2D classification from when there is no reference (refinement.md 7.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mpiapp.backend.base import ImagingSetup, ReadImages
from mpiapp.model.averages import hermitian_sum_planes, insert_planes, plain_average
from mpiapp.model.ctf import ctf
from mpiapp.model.masks import apply_soft_mask, soft_circle
from mpiapp.model.noise import particle_generator
from mpiapp.model.particles import ParticleData
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius
from mpiapp.model.rotations import rotation_z

F32 = NDArray[np.float32]
# Images that the averages are made of: at least so many for each class, and no more than so many in all
LEAST_PER_CLASS, MOST = 5, 1000
CHUNK = 64


def random_averages(
    setup: ImagingSetup, data: ParticleData, read: ReadImages, n_classes: int, shell: int, seed: int
) -> F32:
    """Averages of images at random in-plane angles, corrected for the CTF, up to a shell: (n, box, box) float32."""
    rng = particle_generator(seed, "random averages", 0)
    n = min(len(data), max(MOST, LEAST_PER_CLASS * n_classes))
    rows = rng.permutation(len(data))[:n]
    of_class = np.arange(n) % n_classes
    turns = rotation_z(rng.uniform(0, 360, n))
    radius = grid_radius(shell, setup.padding)
    sums = np.zeros((n_classes, 2 * radius + 1, radius + 1, 3))
    optics = data.optics[rows]
    for g in np.unique(optics):
        mine = np.flatnonzero(optics == g)
        for start in range(0, mine.size, CHUNK):
            part = mine[start : start + CHUNK]
            values, weights, k = _transforms(setup, data.take(rows[part]), read, int(g), shell)
            for i, row in enumerate(part):
                one = slice(i, i + 1)
                sums[of_class[row]] += insert_planes(
                    values[one], weights[one], radius, setup.padding, turns[row][None], *k
                )
    hermitian_sum_planes(sums)
    averages = [plain_average(s, setup.box, setup.padding) for s in sums]
    return np.asarray(averages, np.float32)


def _transforms(
    setup: ImagingSetup, data: ParticleData, read: ReadImages, g: int, shell: int
) -> tuple[NDArray[np.complex128], NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """c X and c^2 of the images of one optics group at their pixels, and these in frequencies of the model."""
    optics = setup.optics[g]
    images = read(data.stack_index, data.image_index)
    images = np.where(np.isfinite(images), images, 0)
    circle = soft_circle(optics.box, setup.particle_diameter_A / (2 * optics.pixel_size_A), setup.mask_edge)
    masked = np.asarray(apply_soft_mask(images, circle), np.float32)
    pixels = pixel_list(min(int(shell * optics.ratio), optics.box // 2))
    sign = 1 - 2 * ((pixels.kx + pixels.ky) % 2)
    half = fft.rfft2(masked).reshape(len(images), -1) / optics.box**2
    values = half[:, pixels.half_index(optics.box)] * sign
    contrast = np.ones(values.shape)
    if data.ctf[:, 6].any():
        unit = 1 / (optics.box * optics.pixel_size_A)
        contrast = ctf(pixels.kx * unit, pixels.ky * unit, data.ctf)
    return contrast * values, contrast**2, (pixels.kx / optics.ratio, pixels.ky / optics.ratio)
