"""The first noise spectra of a refinement, from the images and the starting reference (refinement.md 5.8)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup, ReadImages
from mpiapp.model.ctf import ctf
from mpiapp.model.images import shell_power
from mpiapp.model.masks import apply_soft_mask, soft_circle
from mpiapp.model.noise import initial_sigma2, particle_generator, sums_to_model
from mpiapp.model.particles import OpticsModel, ParticleData
from mpiapp.model.pixels import pixel_list, shell_pixels, shell_sums

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# Particles of an optics group whose CTFs are averaged
CTF_SAMPLE = 200
# Images that a thread looks at together: few, so that all threads have work for a thousand images
BATCH = 8
# Noise keeps at least this share of the power of the images, however strong the reference is
LEAST_SHARE = 0.3


def without_signal(setup: ImagingSetup, data: ParticleData, tau2: F64, sigma2: F64) -> F64:
    """Noise spectra less the signal that the starting reference explains: (n_optics, n_shells).

    The power of the images is noise and signal. Taking it all for noise makes the first posterior flat where the
    signal is strong; RELION 3 had spectra by micrograph there, which hid this. Not for references of unknown grey scale.

    Parameters
    ----------
    tau2 : (n_shells,) signal power of the reference.
    """
    pixels = pixel_list(setup.box // 2)
    unit = 1 / (setup.box * setup.pixel_size_A)
    count = np.maximum(shell_sums(np.ones(len(pixels)), pixels), 1)
    out = sigma2.copy()
    for g in range(len(out)):
        sample = data.ctf[data.optics == g][:CTF_SAMPLE]
        contrast2 = np.ones(setup.n_shells)
        if sample.size and sample[:, 6].any():
            power = (ctf(pixels.kx * unit, pixels.ky * unit, sample) ** 2).mean(0)
            contrast2 = shell_sums(power, pixels) / count
        out[g] = np.maximum(out[g] - contrast2 * tau2, LEAST_SHARE * out[g])
    return out


def first_noise(
    setup: ImagingSetup, data: ParticleData, read: ReadImages, per_group: int, seed: int, workers: int
) -> F64:
    """Noise spectra of the optics groups from their images (refinement.md 5.8): (n_optics, n_shells)."""
    mean = np.zeros((len(setup.optics), setup.n_shells))
    average = np.zeros(setup.n_shells)
    counts = np.zeros(len(setup.optics))
    for g, optics in enumerate(setup.optics):
        rows = np.flatnonzero(data.optics == g)
        rng = particle_generator(seed, "noise sample", g)
        rows = np.sort(rng.permutation(rows)[:per_group])
        if not rows.size:
            continue
        total, image_sum, n = _power_of(setup, optics, data.take(rows), read, workers)
        pixels = sums_to_model(shell_pixels(optics.box).astype(float), setup.n_shells, optics.ratio)
        pixels = np.maximum(pixels, 1)
        mean[g] = sums_to_model(total, setup.n_shells, optics.ratio) / pixels / max(n, 1)
        spectrum = shell_power((image_sum / max(n, 1))[None].astype(np.float32))[0]
        average += rows.size * sums_to_model(spectrum, setup.n_shells, optics.ratio) / pixels
        counts[g] = rows.size
    return np.asarray(initial_sigma2(mean, average / counts.sum(), counts))


def _power_of(
    setup: ImagingSetup, optics: OpticsModel, data: ParticleData, read: ReadImages, workers: int
) -> tuple[F64, F64, int]:
    """Summed shell power and summed image of some particles, and their number; bad images are left out."""
    circle = soft_circle(optics.box, setup.particle_diameter_A / (2 * optics.pixel_size_A), setup.mask_edge)

    def part(start: int) -> tuple[F64, F64, int]:
        images = read(data.stack_index[start : start + BATCH], data.image_index[start : start + BATCH])
        images = images[np.isfinite(images).all(axis=(1, 2))]
        if not len(images):
            return np.zeros(optics.box // 2 + 1), np.zeros((optics.box, optics.box)), 0
        masked = np.asarray(apply_soft_mask(images, circle), np.float32)
        return shell_power(masked).sum(0), masked.sum(0, dtype=float), len(images)

    with ThreadPoolExecutor(workers) as pool:
        power, image, count = zip(*pool.map(part, range(0, len(data), BATCH)), strict=True)
    return np.sum(power, axis=0), np.sum(image, axis=0), sum(count)
