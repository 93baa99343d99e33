"""Radial filters of images and maps: low-pass, B-factor, and the gridding correction of interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of
from mpiapp.model.fourier import forward_3d, half_radius, inverse_3d
from mpiapp.model.masks import radial_map

FloatArray = NDArray[Any]


def lowpass_weight(radius: FloatArray, cutoff: float, edge: float = 2.0) -> NDArray[np.float32]:
    """Raised-cosine low-pass at radii in Fourier pixels.

    Parameters
    ----------
    radius : |k|, any shape
    cutoff : centre of the edge, in Fourier pixels (N px / resolution, not rounded)
    edge : width of the edge; 1 below cutoff - edge/2, 0 above cutoff + edge/2

    Returns
    -------
    float32 array of that shape.
    """
    low = max(cutoff - edge / 2, 0.0)
    high = cutoff + edge / 2
    r = np.asarray(radius)
    if high <= low:
        return (r <= cutoff).astype(np.float32)
    weight = (r <= low).astype(np.float32)
    edge_here = (r > low) & (r < high)
    fall = (r[edge_here].astype(np.float64) - low) / (high - low)
    weight[edge_here] = 0.5 + 0.5 * np.cos(np.pi * fall)
    return weight


def filter_map(volume: FloatArray, weights: FloatArray, *, workers: int = 1) -> NDArray[np.float32]:
    """Multiply the transform of a map by real weights of shape (N, N, N//2 + 1); (N, N, N) float32 out."""
    transform = forward_3d(volume, centre=False, workers=workers)
    transform *= module_of(transform).xp.asarray(weights)
    return inverse_3d(transform, centre=False, workers=workers).astype(np.float32, copy=False)


def lowpass_map(
    volume: FloatArray, pixel_size_A: float, resolution_A: float, edge: float = 2.0, *, workers: int = 1
) -> NDArray[np.float32]:
    """Low-pass a map, as --ini_high does to starting references.

    Parameters
    ----------
    volume : (z, y, x) map, cubic and even
    pixel_size_A : pixel size
    resolution_A : centre of the edge, angstrom
    edge : width of the edge in Fourier pixels

    Returns
    -------
    (z, y, x) float32
    """
    box = volume.shape[0]
    cutoff = box * pixel_size_A / resolution_A
    return filter_map(volume, lowpass_weight(half_radius(box, 3), cutoff, edge), workers=workers)


def whole_shell_A(box: int, pixel_size_A: float, resolution_A: float) -> float:
    """Resolution of the whole shell nearest to a cutoff.

    Filters of masks and of finished maps are centred on shells, those of starting references are not: it is
    so in RELION, and masks agree voxel by voxel only with the same cutoff.
    """
    return box * pixel_size_A / max(1, int(box * pixel_size_A / resolution_A + 0.5))


def bfactor_weight(
    radius: FloatArray, box: int, pixel_size_A: float, bfactor_A2: float
) -> NDArray[np.float32]:
    """Return exp(-B/4 s^2) at radii in Fourier pixels, with s = radius/(box * pixel size).

    The corners beyond the Nyquist frequency get 0, or a sharpening B-factor (B < 0) would blow them up.
    """
    r = np.asarray(radius, dtype=np.float64)
    s2 = np.square(r / (box * pixel_size_A))
    return np.where(2 * r <= box, np.exp(-0.25 * bfactor_A2 * s2), 0.0).astype(np.float32)


def apply_bfactor(
    volume: FloatArray, pixel_size_A: float, bfactor_A2: float, *, workers: int = 1
) -> NDArray[np.float32]:
    """Damp (B > 0) or sharpen (B < 0) a map by a B-factor in angstrom^2."""
    box = volume.shape[0]
    weights = bfactor_weight(half_radius(box, 3), box, pixel_size_A, bfactor_A2)
    return filter_map(volume, weights, workers=workers)


def gridding_correction(box: int, padded_box: int, ndim: int = 3, xp: Any = np) -> NDArray[np.float32]:
    """Real-space damping of linear interpolation in a padded transform: sinc^2(r / padded box).

    A map is divided by it before slicing and after reconstruction. It is radial, an approximation of the
    product over axes that is the exact transform of trilinear interpolation.

    Parameters
    ----------
    box : edge of the map
    padded_box : edge of the padded map, P = padding * box
    ndim : 3 for maps, 2 for class averages
    xp : array module of the result

    Returns
    -------
    (box,) * ndim float32, 1 at the centre.
    """
    return radial_map(box, ndim, lambda r: xp.sinc(r / padded_box) ** 2, xp)


def shell_weights(radius: FloatArray, weights: FloatArray) -> FloatArray:
    """Spread one weight a shell over radii: weights[round(|k|)], 0 beyond the last shell."""
    shell = np.floor(np.asarray(radius) + 0.5).astype(np.int32)
    inside = shell < len(weights)
    return np.where(inside, weights[np.minimum(shell, len(weights) - 1)], weights.dtype.type(0))
