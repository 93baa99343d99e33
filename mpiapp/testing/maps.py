"""Small operations on density maps that the simulator and the scores need: resampling, filters, masks, FSC.

Maps are (z, y, x) with the origin at voxel ``box // 2``. Nothing here is shared with the refinement engine.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Volume = NDArray[np.float32]


def radial_frequency(box: int) -> NDArray[np.float32]:
    """Distance from the origin in Fourier pixels, for a half transform of a cubic box.

    Returns
    -------
    (box, box, box//2 + 1) float32
    """
    full = np.fft.fftfreq(box, 1.0 / box).astype(np.float32)
    half = np.arange(box // 2 + 1, dtype=np.float32)
    squared = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    radius: NDArray[np.float32] = np.sqrt(squared)
    return radius


def cosine_edge(value: NDArray, start: float, width: float) -> NDArray[np.float32]:
    """1 up to ``start``, 0 from ``start + width``, half a cosine period between."""
    fraction = np.clip((value - start) / max(width, 1e-6), 0.0, 1.0)
    return (0.5 + 0.5 * np.cos(np.pi * fraction)).astype(np.float32)


def low_pass(volume: Volume, pixel_size_A: float, resolution_A: float, edge_pixels: float = 3.0) -> Volume:
    """Low-pass a map, with a cosine edge of ``edge_pixels`` Fourier pixels centred on ``resolution_A``."""
    box = volume.shape[0]
    cut = box * pixel_size_A / resolution_A
    gain = cosine_edge(radial_frequency(box), cut - edge_pixels / 2, edge_pixels)
    return _filtered(volume, gain)


def apply_bfactor(volume: Volume, pixel_size_A: float, bfactor_A2: float) -> Volume:
    """Multiply the transform of a map by exp(-B s^2 / 4), s in 1/A."""
    s = radial_frequency(volume.shape[0]) / (volume.shape[0] * pixel_size_A)
    return _filtered(volume, np.exp(-0.25 * bfactor_A2 * s**2))


def _filtered(volume: Volume, gain: NDArray) -> Volume:
    transform = scipy.fft.rfftn(volume.astype(np.float32)) * gain
    return np.asarray(scipy.fft.irfftn(transform, s=volume.shape), dtype=np.float32)


def soft_sphere(box: int, radius_px: float, edge_px: float = 3.0) -> Volume:
    """Spherical mask about voxel ``box // 2``: 1 inside, a cosine edge outside ``radius_px``."""
    axis = np.arange(box, dtype=np.float32) - box // 2
    squared = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    return cosine_edge(np.sqrt(squared), radius_px, edge_px)


def disc(box: int, radius_px: float) -> NDArray[np.bool_]:
    """(box, box) bool, True within ``radius_px`` of pixel ``box // 2``: particle, not background."""
    axis = np.arange(box, dtype=np.float64) - box // 2
    inside: NDArray[np.bool_] = axis[:, None] ** 2 + axis[None, :] ** 2 <= radius_px**2
    return inside


def resize(volume: Volume, box: int) -> Volume:
    """Crop or zero-pad a map in real space to a cube, keeping the origin on voxel ``box // 2``."""
    out = np.zeros((box,) * 3, np.float32)
    source, target = [], []
    for length in volume.shape:
        offset = box // 2 - length // 2
        start = max(offset, 0)
        count = min(box - start, length - max(-offset, 0))
        target.append(slice(start, start + count))
        source.append(slice(max(-offset, 0), max(-offset, 0) + count))
    out[tuple(target)] = volume[tuple(source)]
    return out


def resample(volume: Volume, pixel_size_A: float, new_pixel_size_A: float) -> Volume:
    """Bring a cubic map of even box to another pixel size, exactly, by interpolating its transform.

    The extent in real space changes by less than two voxels; density values are kept.

    Returns
    -------
    (new box,)*3 float32, new box even and at least ``box * pixel_size_A / new_pixel_size_A``
    """
    from mpiapp.testing.projections import FourierSampler

    box = volume.shape[0]
    new = 2 * int(np.ceil(box * pixel_size_A / new_pixel_size_A / 2))
    axis = np.fft.fftfreq(new) * (pixel_size_A / new_pixel_size_A)
    half = np.arange(new // 2 + 1) / new * (pixel_size_A / new_pixel_size_A)
    z, y, x = np.meshgrid(axis, axis, half, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    edge = radial_frequency(new).ravel() < new // 2
    values = np.zeros(len(points), np.complex64)
    values[edge] = FourierSampler(volume).at(points[edge])
    values *= np.float32((pixel_size_A / new_pixel_size_A) ** 3)
    out = scipy.fft.irfftn(values.reshape(new, new, new // 2 + 1), s=(new,) * 3)
    return np.fft.fftshift(out).astype(np.float32)


def symmetrise(volume: Volume, operators: NDArray[np.float64]) -> tuple[Volume, float]:
    """Average a map over rotations about its origin.

    Parameters
    ----------
    volume : (box, box, box) float32
    operators : (g, 3, 3) float64, rotations of the group, the identity among them

    Returns
    -------
    the averaged map, and its correlation with the input (low when the map's axes lie differently)
    """
    from mpiapp.testing.projections import FourierSampler

    sampler = FourierSampler(volume)
    average = np.zeros_like(volume, dtype=np.float64)
    for operator in operators:
        average += sampler.rotated(operator)
    mean = (average / len(operators)).astype(np.float32)
    return mean, correlation(mean, volume)


def correlation(a: NDArray, b: NDArray) -> float:
    """Pearson correlation of two arrays of the same shape."""
    x = a.astype(np.float64).ravel()
    y = b.astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-300))


def shell_correlation(a: Volume, b: Volume) -> NDArray[np.float64]:
    """Fourier shell correlation of two maps of the same even box.

    Returns
    -------
    (box//2 + 1,) float64; shell s lies at s / (box * pixel size)
    """
    box = a.shape[0]
    fa = scipy.fft.rfftn(a.astype(np.float64))
    fb = scipy.fft.rfftn(b.astype(np.float64))
    shell = np.rint(radial_frequency(box)).astype(np.int64)
    # planes that the half transform leaves out count twice
    twice = np.full(fa.shape, 2.0)
    twice[..., 0] = 1.0
    twice[..., -1] = 1.0
    inside = shell <= box // 2

    def total(value: NDArray) -> NDArray[np.float64]:
        sums = np.bincount(shell[inside], weights=(twice * value)[inside], minlength=box // 2 + 1)
        return np.asarray(sums, dtype=np.float64)

    cross = total((fa * fb.conj()).real)
    power = total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2)
    return cross / np.sqrt(np.maximum(power, 1e-300))


def resolution_at(fsc: NDArray[np.float64], box: int, pixel_size_A: float, threshold: float) -> float:
    """Resolution in A where an FSC curve first falls below ``threshold``, linear between shells.

    Nyquist if it never does.
    """
    below = np.flatnonzero(fsc[1:] < threshold)
    if len(below) == 0:
        return 2.0 * pixel_size_A
    s = int(below[0]) + 1
    high, low = fsc[s - 1], fsc[s]
    shell = s - 1 + (high - threshold) / (high - low) if s > 1 and high > low else float(s)
    return float(box * pixel_size_A / shell)
