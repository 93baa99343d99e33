"""The log weights of an image in float64: refinement.md 3.6, 4.6 and 4.8 as they stand there.

The kernels are held against these equations. They sum over points of an image's transform, which may be

* the integer pixels of the image, as RELION does (:func:`image_samples`), or
* the integer pixels of the model plane, turned in plane, as the kernels do (:func:`model_samples`).

Both sums are quadratures of one integral over the plane; on the second no interpolation is left between these
equations and the kernels, because :func:`transform_at` is the discrete Fourier transform itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.aberrations import even_gamma, magnify, odd_phase
from mpiapp.model.ctf import ctf
from mpiapp.model.fourier import axis_frequencies
from mpiapp.model.particles import OpticsModel
from mpiapp.model.pixels import pixel_list, round_half_away
from mpiapp.model.projection import slice_volume
from mpiapp.model.rotations import rotation_z

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]


@dataclass(frozen=True)
class Samples:
    """Points of the half plane at which an image is compared with its reference."""

    q: F64  # (2, n) x and y in pixels of the model, in the axes of the image
    k: F64  # (2, n) the same points in pixels of the image's own transform: k = m M^-1 q
    shell: NDArray[np.int64]  # (n,) shell of the model
    density: float  # image pixels that one point stands for


@dataclass(frozen=True)
class Observation:
    """One image at its samples, and what the instrument makes of a projection there."""

    samples: Samples
    transform: C128  # (n,) X, or Y of the unmasked image; aberrations of odd order removed
    contrast: F64  # (n,) a CTF, or a CTF^2 for premultiplied images: Ref = contrast * P
    ctf_power: (
        F64  # (n,) a^2 CTF^2, or a CTF^2 for premultiplied images: the weight of a back-projected image
    )
    inverse_sigma2: F64  # (n,) density / sigma2, with the origin
    cycles_per_A: float  # of one pixel of k, for a shift of 1 A

    @property
    def score_weight(self) -> F64:
        """1 / sigma2 without the origin, which carries no weight in the likelihood (refinement.md 4.5)."""
        return np.where(self.samples.shell > 0, self.inverse_sigma2, 0.0)


def image_samples(optics: OpticsModel, radius: int) -> Samples:
    """Integer pixels of an image that lie inside a radius of the model plane."""
    pixels = pixel_list(optics.box // 2)
    k = np.stack([pixels.kx, pixels.ky]).astype(float)
    q = np.linalg.inv(optics.turn) @ k
    inside = np.hypot(*q) <= radius + 1e-6
    q, k = q[:, inside], k[:, inside]
    return Samples(q, k, round_half_away(np.hypot(*k) / optics.ratio), 1.0)


def model_samples(optics: OpticsModel, radius: int, psi_deg: float) -> Samples:
    """Integer pixels of the model plane of a direction, seen in an image that is turned by psi."""
    pixels = pixel_list(radius)
    q = rotation_z(psi_deg)[:2, :2] @ np.stack([pixels.kx, pixels.ky])
    return Samples(q, optics.turn @ q, pixels.shell.astype(np.int64), optics.density)


def transform_at(image: NDArray[np.floating[Any]], k: F64) -> C128:
    """Discrete Fourier transform of a centred image at any frequencies, divided by the number of pixels.

    Parameters
    ----------
    image : (L, L), centre at pixel L / 2;  k : (2, n) x and y in pixels of the transform.

    Returns
    -------
    (n,) complex128
    """
    box = image.shape[0]
    position = np.arange(box) - box // 2
    along_x, along_y = (np.exp(-2j * np.pi / box * np.outer(position, f)) for f in k)
    return np.asarray(((image @ along_x) * along_y).sum(0) / box**2)


def demodulated(image: NDArray[np.floating[Any]], optics: OpticsModel) -> F64:
    """An image without its odd aberrations: integer pixels times exp(-i psi_odd) (refinement.md 3.5)."""
    box = optics.box
    kx, ky = np.arange(box // 2 + 1), axis_frequencies(box)[:, None]
    sx, sy = magnify(kx / (box * optics.pixel_size_A), ky / (box * optics.pixel_size_A), optics.magnification)
    factor = np.exp(-1j * odd_phase(optics.odd_zernike, sx, sy))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(image) * factor, s=image.shape))


def observe(
    image: NDArray[np.floating[Any]],
    samples: Samples,
    optics: OpticsModel,
    ctf_coefficients: F64,
    sigma2: F64,
    scale: float,
) -> Observation:
    """Terms of the likelihood of one prepared image (refinement.md 3, 4.5).

    Parameters
    ----------
    image : (L, L) shifted by whole pixels, masked or not, norm correction applied.
    ctf_coefficients : (8,) of ``model.ctf``; scale 0 for no CTF.
    sigma2 : (n_shells,) noise of the optics group on the shells of the model.
    scale : intensity scale a of the reference.
    """
    cycles_per_A = 1.0 / (optics.box * optics.pixel_size_A)
    kx, ky = samples.k * cycles_per_A
    sx, sy = magnify(kx, ky, optics.magnification)
    contrast = np.ones(sx.size)
    if ctf_coefficients[6] != 0:
        even = even_gamma(optics.even_zernike, sx, sy)
        contrast = ctf(sx, sy, ctf_coefficients[None], even_gamma=even, dtype=np.float64)[0]
    power = scale**2 * contrast**2
    if optics.premultiplied:
        contrast = contrast**2
        power = scale * contrast
    transform = transform_at(demodulated(image, optics), samples.k)
    variance = sigma2[np.minimum(samples.shell, sigma2.size - 1)]
    known = (variance > 0) & (np.hypot(*samples.k) <= optics.box / 2 + 1e-6)
    weight = np.where(known, samples.density / np.where(known, variance, 1.0), 0.0)
    return Observation(samples, transform, scale * contrast, power, weight, cycles_per_A)


def references(observation: Observation, volume: NDArray[Any], padding: float, matrices: F64) -> C128:
    """Ref = a CTF P of every orientation at the samples of an image: (n_rot, n)."""
    sections = slice_volume(volume, padding, matrices, *observation.samples.q)
    return np.asarray(observation.contrast * sections)


def shifted(observation: Observation, shifts_A: F64) -> C128:
    """The image moved by each translation: X exp(-2 pi i k.t / L), (n_shift, n)."""
    cycles = shifts_A @ observation.samples.k * observation.cycles_per_A
    return np.asarray(observation.transform * np.exp(-2j * np.pi * cycles))


def log_weights(
    observation: Observation, volume: NDArray[Any], padding: float, matrices: F64, shifts_A: F64
) -> F64:
    """-diff2 of every orientation and translation, but for the constant of the image (engine.md 2).

    The sum of Re(conj(Ref) X_t) - |Ref|^2 / 2 over sigma2. What is left out, |X|^2 / 2, belongs to the
    integer pixels of the image: summed over turned ones it would vary a little with the in-plane angle.

    Parameters
    ----------
    volume : padded transform of the reference (``model.projection``).
    matrices : (n_rot, 3, 3) object to image coordinates;  shifts_A : (n_shift, 2).

    Returns
    -------
    (n_rot, n_shift) float64, without priors.
    """
    images, weight = shifted(observation, shifts_A), observation.score_weight
    refs = references(observation, volume, padding, matrices)
    product = ((weight * refs.conj()) @ images.T).real
    power = np.abs(refs) ** 2 @ weight
    return np.asarray(product - 0.5 * power[:, None])


def correlations(
    observation: Observation, volume: NDArray[Any], padding: float, matrices: F64, shifts_A: F64
) -> F64:
    """Normalised cross-correlation of every state (refinement.md 4.7), (n_rot, n_shift)."""
    flat = observation.samples.shell > 0
    images = shifted(observation, shifts_A)[:, flat]
    refs = references(observation, volume, padding, matrices)[:, flat]
    norm = np.linalg.norm(refs, axis=1)[:, None] * np.linalg.norm(images, axis=1)
    return np.asarray((refs.conj() @ images.T).real / norm)


def log_offset_prior(offset_A: F64, sigma_A: float) -> F64:
    """Gaussian prior of a particle's whole offset (refinement.md 4.8): (..., 2) to (...)."""
    return np.asarray(-(offset_A**2).sum(-1) / (2 * sigma_A**2))
