"""Noise spectra: first estimate, gaps, optics groups of other pixel and box sizes, and noise drawn from them.

sigma2(s) is the variance of the real or of the imaginary part of a transform's pixel in shell s. With
transforms divided by L^2, white noise of variance v per pixel has sigma2 = v / (2 L^2).
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.fourier import forward_2d, half_radius, inverse_2d
from mpiapp.model.pixels import round_half_away

FloatArray = NDArray[Any]


def particle_generator(run_seed: int, purpose: str, particle_id: int) -> np.random.Generator:
    """Random stream of one particle for one purpose; it depends on neither rank nor batch.

    Parameters
    ----------
    run_seed : seed of the run, any integer
    purpose : a few words, such as "mask noise"; streams of different purposes are independent
    particle_id : identity of the particle, >= 0

    Returns
    -------
    numpy.random.Generator
    """
    seed = run_seed & 0xFFFF_FFFF_FFFF_FFFF
    return np.random.default_rng([seed, crc32(purpose.encode()), particle_id])


def colour_noise(white: FloatArray, sigma2: FloatArray) -> NDArray[np.float32]:
    """Give white noise images the spectrum sigma2.

    Shaping drawn images keeps the symmetry and the full power of the column k_x = 0, which drawing
    coefficients one by one would not.

    Parameters
    ----------
    white : (..., L, L) normal deviates of variance 1
    sigma2 : (n_shells,) variance per component on the image's shells; corners beyond the last shell get 0

    Returns
    -------
    (..., L, L) float32
    """
    box = white.shape[-1]
    gain = np.zeros(max(len(sigma2), box + 1), np.float32)
    gain[: len(sigma2)] = np.sqrt(2.0 * box * box * np.maximum(sigma2, 0.0))
    transforms = forward_2d(white, centre=False)
    transforms *= gain[round_half_away(half_radius(box, 2))]
    return inverse_2d(transforms, centre=False).astype(np.float32, copy=False)


def replace_negative(spectrum: FloatArray) -> NDArray[np.float64]:
    """Replace values that are not positive by the positive one of the shell before, else of the next.

    Parameters
    ----------
    spectrum : (..., n_shells)

    Returns
    -------
    float64 array of that shape; a row without any positive value becomes 0.
    """
    values = np.asarray(spectrum, dtype=np.float64)
    index = np.arange(values.shape[-1])
    positive = values > 0
    before = np.maximum.accumulate(np.where(positive, index, -1), axis=-1)
    after = np.minimum.accumulate(np.where(positive, index, index.size)[..., ::-1], axis=-1)[..., ::-1]
    source = np.where(before >= 0, before, after)
    filled = np.take_along_axis(values, np.minimum(source, index.size - 1), axis=-1)
    return np.where(source < index.size, filled, 0.0)


def fill_gaps(spectrum: FloatArray, smallest: float = 1e-14) -> NDArray[np.float64]:
    """Give shells s > 0 below `smallest` the value of shell s - 1 (rescaling between groups leaves gaps).

    Parameters
    ----------
    spectrum : (..., n_shells)

    Returns
    -------
    float64 array of that shape.
    """
    values = np.asarray(spectrum, dtype=np.float64)
    index = np.arange(values.shape[-1])
    full = (values >= smallest) | (index == 0)
    source = np.maximum.accumulate(np.where(full, index, 0), axis=-1)
    return np.take_along_axis(values, source, axis=-1)


def initial_sigma2(
    mean_power: FloatArray, average_power: FloatArray, counts: NDArray[Any]
) -> NDArray[np.float64]:
    """First noise estimate: half the mean power of single images less half that of their average.

    Parameters
    ----------
    mean_power : (n_groups, n_shells) mean over a group's images of their per-shell power, with the
        duplicates of k_x = 0 counted (`fourier.power_spectrum(..., duplicates=True)`), on the model's shells
    average_power : (n_shells,) the same spectrum of the average image over all groups
    counts : (n_groups,) images that went into each group's mean

    Returns
    -------
    (n_groups, n_shells) float64 sigma2, positive where a group has images, zeros for an empty group.
    """
    sigma2 = replace_negative(0.5 * (np.asarray(mean_power) - np.asarray(average_power)))
    return np.where(np.asarray(counts)[:, None] > 0, sigma2, 0.0)


def shell_ratio(box_o: int, pixel_o_A: float, box: int, pixel_A: float) -> float:
    """Return m_o = (pixel_o box_o) / (pixel box): the shells of a group's image in one shell of the model."""
    return (pixel_o_A * box_o) / (pixel_A * box)


def to_model_shell(image_shell: Any, ratio: float) -> NDArray[np.int64]:
    """Model shell of an image shell: round(s_o / m_o)."""
    return round_half_away(np.asarray(image_shell) / ratio)


def spectrum_to_group(spectrum: FloatArray, n_shells: int, ratio: float, beyond: float = 0.0) -> FloatArray:
    """Read a spectrum of the model on the shells of a group's images.

    Parameters
    ----------
    spectrum : (n_model_shells,)
    n_shells : shells wanted, 0..n_shells - 1 of the image
    ratio : m_o of `shell_ratio`
    beyond : value for image shells finer than the last of the model

    Returns
    -------
    (n_shells,) array in the dtype of `spectrum`.
    """
    source = to_model_shell(np.arange(n_shells), ratio)
    inside = source < len(spectrum)
    return np.where(inside, spectrum[np.minimum(source, len(spectrum) - 1)], beyond).astype(spectrum.dtype)


def sums_to_model(sums: FloatArray, n_shells: int, ratio: float) -> NDArray[np.float64]:
    """Add sums over the shells of a group's images into the shells of the model.

    Parameters
    ----------
    sums : (n_image_shells,)
    n_shells : shells of the model; image shells that map beyond are dropped
    ratio : m_o of `shell_ratio`

    Returns
    -------
    (n_shells,) float64
    """
    target = to_model_shell(np.arange(len(sums)), ratio)
    inside = target < n_shells
    return np.bincount(target[inside], np.asarray(sums)[inside], minlength=n_shells).astype(np.float64)
