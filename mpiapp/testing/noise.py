"""Coloured noise of simulated images: the filter that makes it from white noise, and measured spectra."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mpiapp.testing.projections import image_frequencies


def noise_filter(box: int, pixel_size_A: float, amplitude: float, corner_A: float) -> NDArray[np.float32]:
    """Amplitude filter of noise with power ``1 + amplitude / (1 + (s corner)^2)``, s in 1/A.

    Noise of real images falls with frequency like this: structural noise of the ice on white shot noise.
    The filter keeps the variance: white noise of variance 1 stays at variance 1.

    Parameters
    ----------
    box, pixel_size_A : of the images
    amplitude : power at the origin over that of the white floor, minus 1; 0 is white noise
    corner_A : where the coloured part has fallen to a half

    Returns
    -------
    (box, box//2 + 1) float32
    """
    fx, fy = image_frequencies(box)
    s2 = (fx**2 + fy**2) / pixel_size_A**2
    power = 1.0 + amplitude / (1.0 + s2 * corner_A**2)
    # the half transform stands for all box^2 pixels: inner columns count twice
    twice = np.full(power.shape, 2.0)
    twice[:, [0, -1]] = 1.0
    power *= box**2 / (power * twice).sum()
    return np.sqrt(power).astype(np.float32)


def colour(white: NDArray[np.float32], gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter white noise images (n, box, box) with :func:`noise_filter`'s (box, box//2 + 1)."""
    transform = scipy.fft.rfft2(white) * gain
    return np.asarray(scipy.fft.irfft2(transform, s=white.shape[-2:]), dtype=np.float32)


def power_spectrum(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rotationally averaged power of images, mean over images of |X|^2 with the transform divided by box^2.

    Returns
    -------
    (box//2 + 1,) float64, by shell; white noise of variance v gives v / box^2
    """
    box = images.shape[-1]
    power = (np.abs(scipy.fft.rfft2(images.astype(np.float64)) / box**2) ** 2).mean(axis=0)
    fx, fy = image_frequencies(box)
    shell = np.rint(np.hypot(fx, fy) * box).astype(np.int64)
    twice = np.full(power.shape, 2.0)
    twice[:, [0, -1]] = 1.0
    inside = shell <= box // 2
    total = np.bincount(shell[inside], weights=(power * twice)[inside], minlength=box // 2 + 1)
    count = np.bincount(shell[inside], weights=twice[inside], minlength=box // 2 + 1)
    return total / count
