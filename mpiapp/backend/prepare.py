"""Reading and preparing the images of one batch on the CPU (refinement.md 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mpiapp.backend.base import HalfModel, ImagingSetup, ReadImages
from mpiapp.backend.reach import image_radius, map_pixels
from mpiapp.kernels.arguments import Images
from mpiapp.kernels.preparation import mask_images, move_images, read_pixels, sum_shells
from mpiapp.model.aberrations import demodulation, magnify
from mpiapp.model.fourier import axis_frequencies
from mpiapp.model.images import padded_planes
from mpiapp.model.interpolation import plane_radius
from mpiapp.model.masks import apply_soft_mask, inscribed_circle, mask_noise, soft_circle
from mpiapp.model.noise import spectrum_to_group
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.pixels import pixel_list, round_half_away


@dataclass(frozen=True)
class PreparedBatch:
    """Images of one batch, and what the sums need of them."""

    images: Images
    rows: NDArray[np.float32]  # (n, 2, n_pix) unmasked transforms at the pixels of the image
    old_A: NDArray[np.float64]  # (n, 2) whole-pixel offsets that were applied, in A
    power: NDArray[np.float64]  # (n, L / 2 + 1) |X|^2 by shell of the image, norm correction applied
    bad: NDArray[np.bool_]  # (n,) images that hold NaN or infinity


def prepare_batch(
    setup: ImagingSetup, model: HalfModel, r_max: int, data: ParticleData, poses: Poses, read: ReadImages
) -> PreparedBatch:
    """Read, shift by whole pixels, mask and transform the images of particles with one box size."""
    optics = setup.optics[int(data.optics[0])]
    raw = read(data.stack_index, data.image_index)
    bad = np.asarray(~np.isfinite(raw).all(axis=(1, 2)))
    if bad.any():
        raw = np.where(bad[:, None, None], np.float32(0), raw)
    shift = round_half_away(poses.origin_A / optics.pixel_size_A)
    gain = (model.average_norm / poses.norm).astype(np.float32)
    unmasked = np.empty_like(raw)
    move_images(raw, shift, gain, unmasked)
    masked = _mask(setup, model, optics, unmasked, data)
    radius = max(image_radius(setup.optics[int(g)], r_max) for g in np.unique(data.optics))
    power = _shell_power(masked)
    _demodulate(masked, data, setup)
    plane = padded_planes(masked, radius)
    images = Images(
        plane.reshape(len(data), -1).view(np.float32),
        plane_radius(radius),
        np.ones(len(data), np.float32),
        np.maximum(model.scale[data.group], 0.001).astype(np.float32),
        data.ctf.astype(np.float32),
        data.optics,
        np.array([setup.optics[int(g)].premultiplied for g in data.optics]),
    )
    rows = unmasked_rows(setup, optics, unmasked, data, r_max)
    old_A: NDArray[np.float64] = shift * np.float64(optics.pixel_size_A)
    return PreparedBatch(images, rows, old_A, power, bad)


def _mask(
    setup: ImagingSetup,
    model: HalfModel,
    optics: OpticsModel,
    images: NDArray[np.float32],
    data: ParticleData,
) -> NDArray[np.float32]:
    """Images inside a soft circle; the surroundings become their own mean, or noise of the estimated colour."""
    circle = _circle(optics.box, setup.particle_diameter_A / (2 * optics.pixel_size_A), setup.mask_edge)
    if setup.zero_mask:
        return _masked(images, circle)
    fill = np.empty_like(images)
    for g in np.unique(data.optics):
        rows = np.flatnonzero(data.optics == g)
        spectrum = spectrum_to_group(model.sigma2[g], optics.box // 2 + 1, optics.ratio)
        fill[rows] = mask_noise(setup.seed, data.particle_id[rows], spectrum, optics.box)
    return np.asarray(apply_soft_mask(images, circle, fill), np.float32)


@lru_cache(maxsize=8)
def _circle(box: int, radius: float, edge: float) -> NDArray[np.float32]:
    return soft_circle(box, radius, edge)


@lru_cache(maxsize=8)
def _inscribed_circle(box: int) -> NDArray[np.float32]:
    return inscribed_circle(box)


def _masked(images: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """As :func:`mpiapp.model.masks.apply_soft_mask`, with the images' own means."""
    out = np.empty_like(images)
    mask_images(images, mask, out)
    return out


def _shell_power(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """As :func:`mpiapp.model.images.shell_power`."""
    box = images.shape[-1]
    index, starts = _shells(box)
    out = np.empty((len(images), starts.size - 1))
    sum_shells(fft.rfft2(images).reshape(len(images), -1), index, starts, 1 / float(box) ** 4, out)
    return out


@lru_cache(maxsize=8)
def _shells(box: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Elements of a half transform shell by shell, and where each shell begins."""
    pixels = pixel_list(box // 2, whole_shells=True, box=box)
    return pixels.half_index(box), pixels.shell_start.copy()


def unmasked_rows(
    setup: ImagingSetup,
    optics: OpticsModel,
    images: NDArray[np.float32],
    data: ParticleData,
    r_max: int,
    *,
    corners: bool = False,
) -> NDArray[np.float32]:
    """Transforms of the unmasked images at their own pixels, real and imaginary parts apart.

    Unless ``corners``, the corners outside the inscribed circle are taken away first.
    """
    if not corners:
        images = _masked(images, _inscribed_circle(optics.box))
    transform = fft.rfft2(images).reshape(len(images), -1)
    pixels = map_pixels(setup, optics.box, optics.pixel_size_A, r_max)
    sign = (1 - 2 * ((pixels.kx + pixels.ky) % 2)).astype(np.float32) / np.float32(optics.box**2)
    rows = np.empty((len(images), 2, len(pixels)), np.float32)
    read_pixels(transform, pixels.half_index(optics.box), sign, rows)
    for g in np.unique(data.optics):
        group = setup.optics[int(g)]
        if any(group.odd_zernike):
            unit = 1.0 / (group.box * group.pixel_size_A)
            x, y = np.asarray(group.magnification).reshape(2, 2) @ (np.stack([pixels.kx, pixels.ky]) * unit)
            mine = np.flatnonzero(data.optics == g)
            values = (rows[mine, 0] + 1j * rows[mine, 1]) * demodulation(group.odd_zernike, x, y)
            rows[mine, 0], rows[mine, 1] = values.real, values.imag
    return rows


def _demodulate(images: NDArray[np.float32], data: ParticleData, setup: ImagingSetup) -> None:
    """Take the phase of odd aberrations out of masked images, in place (refinement.md 3.5).

    Done on the images' own pixels, before they are divided by the transform of the interpolation window:
    afterwards the phase would move what was divided, an error of a percent where it moves by a pixel.
    """
    for g in np.unique(data.optics):
        optics = setup.optics[int(g)]
        if not any(optics.odd_zernike):
            continue
        rows = np.flatnonzero(data.optics == g)
        unit = 1.0 / (optics.box * optics.pixel_size_A)
        kx, ky = np.meshgrid(np.arange(optics.box // 2 + 1) * unit, axis_frequencies(optics.box) * unit)
        phase = demodulation(optics.odd_zernike, *magnify(kx, ky, optics.magnification))
        images[rows] = fft.irfft2(fft.rfft2(images[rows]) * phase, s=images.shape[1:])
