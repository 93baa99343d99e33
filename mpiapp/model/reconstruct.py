"""From the sums of the expectation step to a map (refinement.md 2.5-2.7, 5.1, 5.2).

The sums are one float64 array (2 R + 1, 2 R + 1, R + 1, 3): real part of D, imaginary part of D, and W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.filters import gridding_correction
from mpiapp.model.masks import apply_soft_mask, soft_sphere
from mpiapp.model.pixels import round_half_away
from mpiapp.model.projection import centred, padded_box, shell_index, squared_radius

Sums = NDArray[np.float64]


def hermitian_sum(sums: Sums) -> None:
    """Add the two stored copies of the plane x = 0 (refinement.md 2.5), in place; the origin is left alone."""
    radius = sums.shape[2] - 1
    plane = sums[:, :, 0]
    mirrored = plane[::-1, ::-1].copy()
    mirrored[..., 1] *= -1
    origin = plane[radius, radius].copy()
    plane += mirrored
    plane[radius, radius] = origin


def complex_data(sums: Sums) -> NDArray[np.complex128]:
    """D as a complex array."""
    data: NDArray[np.complex128] = (sums[..., 0] + 1j * sums[..., 1]).astype(np.complex128)
    return data


def _coarse_index(radius: int, r_max: int, padding: float, xp: Any) -> NDArray[np.int64]:
    """Flat index in the grid of size 2 (r_max + 1) + 1 that every padded element averages into."""
    small = r_max + 1
    axis = xp.asarray(np.clip(round_half_away(centred(radius) / padding), -small, small) + small)
    half = xp.asarray(np.clip(round_half_away(np.arange(radius + 1) / padding), 0, small))
    index = (axis[:, None, None] * (2 * small + 1) + axis[:, None]) * (small + 1) + half
    flat: NDArray[np.int64] = index.ravel()
    return flat


def downsampled_average(sums: Sums, r_max: int, padding: float) -> NDArray[np.complex128]:
    """Unregularised average on the unpadded grid, for the gold-standard FSC (refinement.md 2.7).

    Returns
    -------
    (2 (r_max + 1) + 1, same, r_max + 2) complex128, origin at (r_max + 1, r_max + 1, 0).
    """
    small = r_max + 1
    shape = (2 * small + 1, 2 * small + 1, small + 1)
    arrays = module_of(sums)
    xp = arrays.xp
    index = _coarse_index(sums.shape[2] - 1, r_max, padding, xp)
    size = int(np.prod(shape))
    real, imaginary, weight = (arrays.bincount(index, sums[..., c].ravel(), size) for c in range(3))
    average = xp.where(weight > 0, real + 1j * imaginary, 0) / xp.where(weight > 0, weight, 1)
    out: NDArray[np.complex128] = average.reshape(shape)
    return out


def _shell_sum(values: Any, shells: Any, n: int) -> NDArray[np.float64]:
    """Sums by shell, in host memory."""
    return np.asarray(to_host(module_of(shells).bincount(shells, values, n)), np.float64)


@dataclass(frozen=True)
class Spectra:
    """Spectra of one reference, per shell 0 .. N/2, float64."""

    sigma2_ref: NDArray[np.float64]  # noise power in the reconstruction
    tau2: NDArray[np.float64]  # signal power
    data_vs_prior: NDArray[np.float64]
    coverage: NDArray[np.float64]  # fraction of elements where the data outweigh the prior

    def packed(self) -> NDArray[np.float64]:
        """(4, n_shells), such that ``Spectra(*packed)`` is the inverse."""
        return np.stack([self.sigma2_ref, self.tau2, self.data_vs_prior, self.coverage])


def _weight_and_noise(
    sums: Sums, padding: float, n: int
) -> tuple[Any, Any, NDArray[np.float64], NDArray[np.float64]]:
    """Elements inside the sphere: their weight and shell; number of elements and sigma2_ref of n shells."""
    radius, xp = sums.shape[2] - 1, module_of(sums).xp
    inside = squared_radius(radius, xp) < (radius - 1) ** 2
    weight, shells = sums[..., 2][inside], shell_index(radius, padding, xp)[inside]
    count = _shell_sum(None, shells, n)
    total = _shell_sum(padding**3 * weight, shells, n)
    return weight, shells, count, np.where(total > 0, count / np.where(total > 0, total, 1), 0.0)


def spectra_from_fsc(
    sums: Sums, fsc: NDArray[np.float64], padding: float, *, tau2_fudge: float = 1.0, joined: bool = False
) -> Spectra:
    """Spectra of a half map, or of the joined halves, from the FSC between halves (refinement.md 5.1)."""
    n, xp, scale = fsc.size, module_of(sums).xp, padding**3
    weight, shells, count, sigma2_ref = _weight_and_noise(sums, padding, n)
    f = np.maximum(fsc, 0.001)
    if joined:
        f = np.sqrt(2 * f / (f + 1))
    f = np.minimum(f, 0.999)
    ssnr = tau2_fudge * f / (1 - f)
    ssnr[sigma2_ref == 0] = 0
    tau2 = ssnr * sigma2_ref
    tau2_of = xp.asarray(tau2)[xp.minimum(shells, n - 1)]
    covered = (scale * weight * tau2_fudge * tau2_of >= 1).astype(np.float64)
    coverage = _shell_sum(covered, shells, n) / np.maximum(count, 1)
    return Spectra(sigma2_ref, tau2, ssnr, coverage)


def spectra_from_reference(
    sums: Sums, tau2: NDArray[np.float64], padding: float, *, tau2_fudge: float = 1.0
) -> Spectra:
    """Spectra when halves are not split: tau2 stays that of the reference (refinement.md 5.1)."""
    n, xp, scale = tau2.size, module_of(sums).xp, padding**3
    weight, shells, count, sigma2_ref = _weight_and_noise(sums, padding, n)
    tau2_of = xp.asarray(tau2)[xp.minimum(shells, n - 1)]
    inverse = xp.where(
        tau2_of > 0, 1 / xp.where(tau2_of > 0, scale * tau2_fudge * tau2_of, 1), 0.001 * weight
    )
    ratio = xp.where(inverse > 0, weight / xp.where(inverse > 0, inverse, 1), 0)
    data_vs_prior = np.where(count > 0, _shell_sum(ratio, shells, n) / np.maximum(count, 1), 999.0)
    coverage = _shell_sum((ratio >= 1).astype(float), shells, n) / np.maximum(count, 1)
    r_max = int((sums.shape[2] - 2) / padding)
    data_vs_prior[r_max + 1 :] = 0
    return Spectra(sigma2_ref, tau2.copy(), data_vs_prior, coverage)


def wiener(
    sums: Sums,
    tau2: NDArray[np.float64] | None,
    padding: float,
    *,
    tau2_fudge: float = 1.0,
    minres_map: int = 5,
) -> NDArray[np.complex64]:
    """Regularised transform D / (W + prior) with a floor on the denominator (refinement.md 5.2).

    Parameters
    ----------
    tau2 : (n_shells,) float64, or None for no prior (unfiltered half maps).
    """
    arrays = module_of(sums)
    xp, radius = arrays.xp, sums.shape[2] - 1
    inside = squared_radius(radius, xp) < (radius - 1) ** 2
    weight = sums[..., 2][inside]
    denominator = weight.copy()
    if tau2 is not None:
        shells = shell_index(radius, padding, xp)[inside]
        tau2_of = xp.asarray(tau2)[xp.minimum(shells, tau2.size - 1)]
        # without signal power the added term damps little, as in the specification
        guard = xp.where(weight > 1e-20, 1 / xp.where(weight > 1e-20, 0.001 * weight, 1), 0)
        prior = xp.where(tau2_of > 0, 1 / xp.where(tau2_of > 0, padding**3 * tau2_fudge * tau2_of, 1), guard)
        denominator += xp.where(shells >= minres_map, prior, 0).astype(denominator.dtype)
    r_max = max(int((radius - 1) / padding), 1)
    ring = xp.minimum((xp.sqrt(squared_radius(radius, xp)[inside]) / padding).astype(np.int32), r_max - 1)
    mean = arrays.bincount(ring, denominator, r_max) / xp.maximum(arrays.bincount(ring, None, r_max), 1)
    denominator = xp.maximum(denominator, mean[ring] / 1000)
    out: NDArray[np.complex64] = xp.zeros(inside.shape, np.complex64)
    data = sums[inside]
    out[inside] = (data[:, 0] + 1j * data[:, 1]) / xp.where(denominator > 0, denominator, 1)
    return out


def real_space_map(
    transform: NDArray[np.complex64],
    box: int,
    padding: float,
    *,
    correct_gridding: bool = True,
    workers: int = 1,
) -> NDArray[np.float32]:
    """Map of box N from a padded half transform (refinement.md 5.2, steps 1-4); only what is kept is transformed."""
    arrays = module_of(transform)
    xp, fft = arrays.xp, arrays.fft
    radius = transform.shape[2] - 1
    size = padded_box(box, padding)
    p = size / box
    k = centred(radius)
    kept = np.flatnonzero((np.abs(k) <= size // 2) & (k != -size // 2))
    turn = xp.asarray(np.exp(-2j * np.pi * k * (box // 2) / size).astype(np.complex64))
    data: Any = transform
    for axis in (0, 1):
        shape = list(data.shape)
        shape[axis] = size
        buffer = xp.zeros(shape, np.complex64)
        where: list[Any] = [slice(None)] * 3
        where[axis] = xp.asarray(k[kept] % size)
        phase = turn[xp.asarray(kept)].reshape([-1 if a == axis else 1 for a in range(3)])
        buffer[tuple(where)] = xp.take(data, xp.asarray(kept), axis=axis) * phase
        data = fft.ifft(buffer, axis=axis, norm="forward", overwrite_x=True, workers=workers)
        data = data[(slice(None),) * axis + (slice(box),)]
    columns = min(radius + 1, size // 2 + 1)
    data = data[:, :, :columns] * turn[radius : radius + columns]
    volume = fft.irfft(data, n=size, axis=2, norm="forward", workers=workers)[:, :, :box]
    volume = volume / np.float32(p**3 * box)
    volume = apply_soft_mask(volume[None], soft_sphere(box, box / 2, 3.0, xp))[0]
    if correct_gridding:
        volume = volume / gridding_correction(box, size, xp=xp)
    out: NDArray[np.float32] = volume.astype(np.float32)
    return out
