"""Class averages: transforms of 2D references, and averages from the sums of the expectation step (refinement.md 2, 5).

The sums are one float64 array (..., 2 R + 1, R + 1, 3) over y and x >= 0, origin at (R, 0): real part of D,
imaginary part of D, and W, for any number of classes at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.filters import gridding_correction, lowpass_weight
from mpiapp.model.masks import apply_soft_mask, soft_circle
from mpiapp.model.projection import centred, grid_radius, padded_box
from mpiapp.model.reconstruct import Spectra

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def transform_average(image: NDArray[np.floating[Any]], r_max: int) -> NDArray[np.complex64]:
    """Transforms of images (..., box, box) on whole frequencies: (..., 2 r + 1, r + 1) complex64, r = r_max + 1.

    The origin is at (r, 0). Scores read averages at whole frequencies and turn the images instead: no padding.
    """
    arrays = module_of(image)
    xp, box = arrays.xp, image.shape[-1]
    radius = min(r_max, box // 2)
    size = r_max + 1
    half = arrays.fft.rfft2(xp.asarray(image, np.float32)) / np.float32(box**2)
    ky = xp.arange(-radius, radius + 1)
    kx = xp.arange(radius + 1)
    sign = (1 - 2 * ((ky[:, None] + kx) % 2)).astype(np.float32)
    out: NDArray[np.complex64] = xp.zeros((*image.shape[:-2], 2 * size + 1, size + 1), np.complex64)
    out[..., size - radius : size + radius + 1, : radius + 1] = half[..., ky % box, :][..., kx] * sign
    out *= xp.asarray((squared_radius_planes(size) <= r_max * r_max).astype(np.float32))
    return out


@lru_cache(maxsize=8)
def squared_radius_planes(radius: int) -> NDArray[np.int64]:
    """|u|^2 of every element of a half transform of this radius, (2 R + 1, R + 1)."""
    r2: NDArray[np.int64] = centred(radius)[:, None] ** 2 + np.arange(radius + 1) ** 2
    r2.setflags(write=False)
    return r2


def average_spectrum(transform: NDArray[np.complexfloating[Any, Any]], n_shells: int) -> F64:
    """Signal power per component and shell of an average, mean |F|^2 / 2 (refinement.md 2.2 step 6): (n_shells,)."""
    transform = to_host(transform)
    radius = transform.shape[1] - 1
    r2 = squared_radius_planes(radius)
    inside = r2 <= (radius - 1) ** 2
    shells = (np.sqrt(r2[inside]) + 0.5).astype(np.int64)
    power = np.abs(transform[inside]).astype(np.float64) ** 2
    count = np.bincount(shells, minlength=n_shells)[:n_shells]
    return np.asarray(np.bincount(shells, power, n_shells)[:n_shells] / np.maximum(count, 1) / 2)


def insert_planes(
    values: NDArray[np.complexfloating[Any, Any]],
    weights: NDArray[np.floating[Any]],
    radius: int,
    padding: float,
    matrices: F64,
    kx: NDArray[np.floating[Any]],
    ky: NDArray[np.floating[Any]],
) -> F64:
    """Sums of images at in-plane orientations by bilinear insertion, in float64: (2 R + 1, R + 1, 3).

    Parameters
    ----------
    values, weights : (n, n_pix);  matrices : (n, 2, 2) or (n, 3, 3), whose upper rows place a frequency.
    """
    m = np.asarray(matrices, np.float64) * padding
    q = m[:, 0, :2, None] * np.asarray(kx, float) + m[:, 1, :2, None] * np.asarray(ky, float)
    mirror = q[:, 0] < 0
    q = np.where(mirror[:, None], -q, q)
    values = np.where(mirror, np.conj(values), values)
    low = np.floor(q).astype(np.int64)
    f = q - low
    out = np.zeros(((2 * radius + 1) * (radius + 1), 3))
    for dy in (0, 1):
        for dx in (0, 1):
            c = (f[:, 0] if dx else 1 - f[:, 0]) * (f[:, 1] if dy else 1 - f[:, 1])
            index = ((low[:, 1] + dy + radius) * (radius + 1) + low[:, 0] + dx).ravel()
            for column, part in enumerate((values.real, values.imag, weights)):
                out[:, column] += np.bincount(index, (c * part).ravel(), len(out))
    return out.reshape(2 * radius + 1, radius + 1, 3)


def hermitian_sum_planes(sums: F64) -> None:
    """Add the two stored copies of the column x = 0 (refinement.md 2.5), in place; the origin is left alone."""
    radius = sums.shape[-2] - 1
    column = sums[..., 0, :]
    mirrored = column[..., ::-1, :].copy()
    mirrored[..., 1] *= -1
    origin = column[..., radius, :].copy()
    column += mirrored
    column[..., radius, :] = origin


@dataclass(frozen=True)
class _Plane:
    """Elements inside the circle: which, the shell round(|u| / p) and the ring floor(|u| / p) of each."""

    inside: NDArray[np.bool_]
    shell: NDArray[np.int64]
    ring: NDArray[np.int64]


def _plane(radius: int, padding: float, xp: Any = np) -> _Plane:
    plane = _host_plane(radius, padding)
    return plane if xp is np else _Plane(*(xp.asarray(getattr(plane, f.name)) for f in fields(plane)))


@lru_cache(maxsize=8)
def _host_plane(radius: int, padding: float) -> _Plane:
    r2 = squared_radius_planes(radius)
    inside = r2 < (radius - 1) ** 2
    r = np.sqrt(r2[inside]) / padding
    r_max = max(int((radius - 1) / padding), 1)
    return _Plane(inside, (r + 0.5).astype(np.int64), np.minimum(r.astype(np.int64), r_max - 1))


def average_spectra(sums: F64, tau2: F64, padding: float, *, tau2_fudge: float = 1.0) -> Spectra:
    """Spectra of one class average, tau2 being that of its reference (refinement.md 5.1).

    Parameters
    ----------
    sums : (2 R + 1, R + 1, 3);  tau2 : (n_shells,)
    """
    arrays = module_of(sums)
    xp, n, scale = arrays.xp, tau2.size, padding**2
    plane = _plane(sums.shape[-2] - 1, padding, xp)
    weight = sums[..., 2][plane.inside].astype(np.float64)
    shells = plane.shell
    host = _host_plane(sums.shape[-2] - 1, padding)
    count = np.bincount(host.shell, minlength=n)[:n]
    tau2_of = xp.asarray(tau2)[xp.minimum(shells, n - 1)]
    # without signal power the data are set against a thousandth of themselves, as in the specification
    ratio = xp.where(tau2_of > 0, scale * weight * tau2_fudge * tau2_of, xp.where(weight > 0, 1000.0, 0.0))
    covered = (ratio >= 1).astype(np.float64)
    by_shell = xp.stack([arrays.bincount(shells, v, n) for v in (scale * weight, ratio, covered)])
    total, ratios, cover = np.asarray(to_host(by_shell))
    sigma2_ref = np.where(total > 0, count / np.where(total > 0, total, 1), 0.0)
    data_vs_prior = np.where(count > 0, ratios / np.maximum(count, 1), 999.0)
    coverage = cover / np.maximum(count, 1)
    data_vs_prior[int((sums.shape[-2] - 2) / padding) + 1 :] = 0
    return Spectra(sigma2_ref, tau2.copy(), data_vs_prior, coverage)


def damped_average(image: NDArray[np.floating[Any]], r_max: int, padding: float) -> NDArray[np.complex64]:
    """What the sums of noiseless images of an average come to, D / W: (2 R + 1, R + 1) complex64.

    That is the padded transform of the average times the damping of the interpolation; up to frequency r_max. Inverse
    of :func:`average_of_transform`, but for the corners of the box.
    """
    arrays = module_of(image)
    xp, box = arrays.xp, image.shape[0]
    size, radius = padded_box(box, padding), grid_radius(r_max, padding)
    reach = min(radius, size // 2)
    k = np.arange(-reach, reach + 1)
    turn = xp.asarray(np.exp(2j * np.pi * k * (box // 2) / size))
    half = arrays.fft.rfft2(image * gridding_correction(box, size, 2, xp), s=(size, size)) / box**2
    out: NDArray[np.complex64] = xp.zeros((2 * radius + 1, radius + 1), np.complex64)
    part = half[xp.asarray(k % size), : reach + 1] * turn[:, None] * turn[reach:]
    out[radius - reach : radius + reach + 1, : reach + 1] = part
    out *= xp.asarray((squared_radius_planes(radius) < (radius - 1) ** 2).astype(np.float32))
    return out


def average_from_sums(
    sums: F64, tau2: F64, box: int, padding: float, *, tau2_fudge: float = 1.0, minres_map: int = 5
) -> F32:
    """Class average with the prior that tau2 (n_shells,) gives: (box, box) float32 (refinement.md 5.2)."""
    arrays = module_of(sums)
    xp, radius = arrays.xp, sums.shape[-2] - 1
    plane, host = _plane(radius, padding, xp), _host_plane(radius, padding)
    data = sums[plane.inside].astype(np.float64)
    weight = data[:, 2]
    tau2_of = xp.asarray(tau2)[xp.minimum(plane.shell, tau2.size - 1)]
    guard = xp.where(weight > 1e-20, 1 / xp.where(weight > 1e-20, 0.001 * weight, 1), 0)
    prior = xp.where(tau2_of > 0, 1 / xp.where(tau2_of > 0, padding**2 * tau2_fudge * tau2_of, 1), guard)
    denominator = weight + xp.where(plane.shell >= minres_map, prior, 0)
    count = np.bincount(host.ring)
    mean = arrays.bincount(plane.ring, denominator, count.size) / xp.asarray(np.maximum(count, 1))
    denominator = xp.maximum(denominator, mean[plane.ring] / 1000)
    transform = xp.zeros(plane.inside.shape, np.complex64)
    transform[plane.inside] = (data[:, 0] + 1j * data[:, 1]) / xp.where(denominator > 0, denominator, 1)
    return average_of_transform(transform, box, padding)


def plain_average(sums: F64, box: int, padding: float) -> F32:
    """Class average without a prior: (box, box) float32. A thousandth of the mean weight keeps holes at bay."""
    weight = sums[..., 2]
    floor = 1e-3 * weight[weight > 0].mean() if weight.any() else 1.0
    transform = (sums[..., 0] + 1j * sums[..., 1]) / np.maximum(weight, floor)
    return average_of_transform(transform.astype(np.complex64), box, padding)


def average_of_transform(transform: NDArray[np.complex64], box: int, padding: float) -> F32:
    """Image of box N, (box, box) float32, from a padded half transform (refinement.md 5.2, steps 1-4)."""
    arrays = module_of(transform)
    xp, radius, size = arrays.xp, transform.shape[1] - 1, padded_box(box, padding)
    reach = min(radius, size // 2)
    k = np.arange(-reach, reach + 1)
    turn = xp.asarray(np.exp(-2j * np.pi * k * (box // 2) / size))
    part = transform[radius - reach : radius + reach + 1, : reach + 1] * turn[:, None] * turn[reach:]
    half = xp.zeros((size, size // 2 + 1), np.complex128)
    half[xp.asarray(k % size), : reach + 1] = part
    # transforms of images are divided by N^2
    image = arrays.fft.irfft2(half, s=(size, size), norm="forward")[:box, :box] * (box / size) ** 2
    image = apply_soft_mask(image[None], soft_circle(box, box / 2, 3.0, xp))[0]
    out: F32 = (image / gridding_correction(box, size, 2, xp)).astype(np.float32)
    return out


def lowpass_average(image: NDArray[np.floating[Any]], pixel_size_A: float, resolution_A: float) -> F32:
    """Low-pass an average (box, box), as --ini_high does to starting references."""
    arrays, box = module_of(image), image.shape[0]
    ky, kx = np.meshgrid(np.fft.fftfreq(box) * box, np.arange(box // 2 + 1), indexing="ij")
    weight = arrays.xp.asarray(lowpass_weight(np.hypot(ky, kx), box * pixel_size_A / resolution_A))
    return arrays.xp.asarray(arrays.fft.irfft2(arrays.fft.rfft2(image) * weight, s=image.shape), np.float32)


def centre_of_mass(image: NDArray[np.floating[Any]]) -> F64:
    """Offset in pixels, x first, of the centre of the positive density from the centre of an image or a map."""
    xp = module_of(image).xp
    density = xp.maximum(xp.asarray(image, np.float64), 0)
    total = float(density.sum())
    if total <= 0:
        return np.zeros(density.ndim)
    axes = [np.arange(n) - n // 2 for n in density.shape]
    others = [tuple(b for b in range(density.ndim) if b != a) for a in range(density.ndim)]
    moments = [
        float((to_host(density.sum(axis=o)) * axis).sum()) / total
        for o, axis in zip(others, axes, strict=True)
    ]
    return np.array(moments[::-1])
