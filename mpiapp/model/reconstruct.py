"""From the sums of the expectation step to a map (refinement.md 2.5-2.7, 5.1, 5.2).

The sums are one float64 array (2 R + 1, 2 R + 1, R + 1, 3): real part of D, imaginary part of D, and W.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import ArrayModule, binned, in_slabs, module_of, slabs_of, to_host
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


def _coarse_axes(radius: int, r_max: int, padding: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where padded coordinates -R .. R, and 0 .. R, lie on the axes of a grid of radius r_max + 1."""
    small = r_max + 1
    axis = np.clip(round_half_away(centred(radius) / padding), -small, small) + small
    half = np.clip(round_half_away(np.arange(radius + 1) / padding), 0, small)
    return axis.astype(np.int64), half.astype(np.int64)


def downsampled_average(sums: Sums, r_max: int, padding: float) -> NDArray[np.complex128]:
    """Unregularised average on the unpadded grid, for the gold-standard FSC (refinement.md 2.7).

    Returns
    -------
    (2 (r_max + 1) + 1, same, r_max + 2) complex128, origin at (r_max + 1, r_max + 1, 0).
    """
    side, columns = 2 * (r_max + 1) + 1, r_max + 2
    arrays = module_of(sums)
    xp = arrays.xp
    axis, half = _coarse_axes(sums.shape[2] - 1, r_max, padding)
    plane = xp.asarray(axis)[:, None] * columns + xp.asarray(half)
    average: NDArray[np.complex128] = xp.zeros((side, side, columns), np.complex128)
    weight = xp.zeros(average.shape, np.float64)
    for part in slabs_of(sums):
        planes = axis[part] - axis[part][0]
        to = slice(int(axis[part][0]), int(axis[part][-1]) + 1)
        shape = (to.stop - to.start, side, columns)
        index = (xp.asarray(planes * (side * columns))[:, None, None] + plane).ravel()
        for c, whole in enumerate((average.real, average.imag, weight)):
            found = arrays.bincount(index, sums[part][..., c].ravel(), int(np.prod(shape)))
            whole[to] += found.reshape(shape)
    average[weight <= 0] = 0
    average /= xp.where(weight > 0, weight, 1)
    return average


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


@dataclass(frozen=True)
class _Inside:
    """Elements of the sums inside the sphere, in slabs."""

    weight: list[Any]
    shells: list[Any]
    count: NDArray[np.float64]  # elements of each shell
    sigma2_ref: NDArray[np.float64]
    arrays: ArrayModule

    def shell_sum(self, values: Iterable[Any]) -> NDArray[np.float64]:
        """Sums by shell of values in the same slabs, in host memory."""
        found = binned(self.arrays, zip(self.shells, values, strict=True), self.count.size)
        return np.asarray(to_host(found), np.float64)


def _inside(sums: Sums, padding: float, n: int, workers: int) -> _Inside:
    """Weights and shells inside the sphere, and the noise power of n shells."""
    radius, arrays = sums.shape[2] - 1, module_of(sums)

    def of_planes(part: slice) -> tuple[Any, Any]:
        inside = squared_radius(radius, arrays.xp, part) < (radius - 1) ** 2
        return sums[part][..., 2][inside], shell_index(radius, padding, arrays.xp, part)[inside]

    weight, shells = map(list, zip(*in_slabs(of_planes, sums, workers), strict=True))
    count, total = (
        np.asarray(to_host(binned(arrays, zip(shells, values, strict=True), n)), np.float64)
        for values in ([None] * len(shells), weight)
    )
    total = total * padding**3
    sigma2_ref = np.where(total > 0, count / np.where(total > 0, total, 1), 0.0)
    return _Inside(weight, shells, count, sigma2_ref, arrays)


def spectra_from_fsc(
    sums: Sums,
    fsc: NDArray[np.float64],
    padding: float,
    *,
    tau2_fudge: float = 1.0,
    joined: bool = False,
    workers: int = 1,
) -> Spectra:
    """Spectra of a half map, or of the joined halves, from the FSC between halves (refinement.md 5.1)."""
    n, xp, scale = fsc.size, module_of(sums).xp, padding**3
    inside = _inside(sums, padding, n, workers)
    f = np.maximum(fsc, 0.001)
    if joined:
        f = np.sqrt(2 * f / (f + 1))
    f = np.minimum(f, 0.999)
    ssnr = tau2_fudge * f / (1 - f)
    ssnr[inside.sigma2_ref == 0] = 0
    tau2 = ssnr * inside.sigma2_ref
    power = xp.asarray(tau2)
    covered = inside.shell_sum(
        (scale * weight * tau2_fudge * power[xp.minimum(shells, n - 1)] >= 1).astype(np.float64)
        for weight, shells in zip(inside.weight, inside.shells, strict=True)
    )
    return Spectra(inside.sigma2_ref, tau2, ssnr, covered / np.maximum(inside.count, 1))


def spectra_from_reference(
    sums: Sums, tau2: NDArray[np.float64], padding: float, *, tau2_fudge: float = 1.0, workers: int = 1
) -> Spectra:
    """Spectra when halves are not split: tau2 stays that of the reference (refinement.md 5.1)."""
    n, xp, scale = tau2.size, module_of(sums).xp, padding**3
    inside = _inside(sums, padding, n, workers)
    power = xp.asarray(tau2)

    def ratio(weight: Any, shells: Any) -> Any:
        tau2_of = power[xp.minimum(shells, n - 1)]
        safe = xp.where(tau2_of > 0, scale * tau2_fudge * tau2_of, 1)
        inverse = xp.where(tau2_of > 0, 1 / safe, 0.001 * weight)
        return xp.where(inverse > 0, weight / xp.where(inverse > 0, inverse, 1), 0)

    ratios = list(map(ratio, inside.weight, inside.shells))
    count = np.maximum(inside.count, 1)
    data_vs_prior = np.where(inside.count > 0, inside.shell_sum(ratios) / count, 999.0)
    coverage = inside.shell_sum((r >= 1).astype(np.float64) for r in ratios) / count
    r_max = int((sums.shape[2] - 2) / padding)
    data_vs_prior[r_max + 1 :] = 0
    return Spectra(inside.sigma2_ref, tau2.copy(), data_vs_prior, coverage)


def wiener(
    sums: Sums,
    tau2: NDArray[np.float64] | None,
    padding: float,
    *,
    tau2_fudge: float = 1.0,
    minres_map: int = 5,
    workers: int = 1,
) -> NDArray[np.complex64]:
    """Regularised transform D / (W + prior) with a floor on the denominator (refinement.md 5.2).

    Parameters
    ----------
    tau2 : (n_shells,) float64, or None for no prior (unfiltered half maps).
    """
    arrays = module_of(sums)
    xp, radius = arrays.xp, sums.shape[2] - 1
    r_max = max(int((radius - 1) / padding), 1)
    power = None if tau2 is None else padding**3 * tau2_fudge * xp.asarray(tau2)

    def denominators(part: slice) -> tuple[Any, Any, Any]:
        """Of some planes: which elements are inside the sphere, what they are divided by, and their ring."""
        r2 = squared_radius(radius, xp, part)
        inside = r2 < (radius - 1) ** 2
        divisor = sums[part][..., 2][inside]
        if power is not None:
            divisor += _prior(divisor, shell_index(radius, padding, xp, part)[inside], power, minres_map)
        ring = xp.minimum((xp.sqrt(r2[inside]) / padding).astype(np.int32), r_max - 1)
        return inside, divisor, ring

    slabs = dict(
        zip((part.start for part in slabs_of(sums)), in_slabs(denominators, sums, workers), strict=True)
    )
    total = binned(arrays, ((ring, divisor) for _, divisor, ring in slabs.values()), r_max)
    count = binned(arrays, ((ring, None) for _, _, ring in slabs.values()), r_max)
    floor = total / xp.maximum(count, 1) / 1000
    out: NDArray[np.complex64] = xp.zeros(sums.shape[:3], np.complex64)

    def divide(part: slice) -> None:
        inside, divisor, ring = slabs.pop(part.start)
        divisor = xp.maximum(divisor, floor[ring])
        data = sums[part][inside]
        out[part][inside] = (data[:, 0] + 1j * data[:, 1]) / xp.where(divisor > 0, divisor, 1)

    in_slabs(divide, sums, workers)
    return out


def _prior(weight: Any, shells: Any, power: Any, minres_map: int) -> Any:
    """What is added to the weights: the inverse of the signal power, none in the shells below ``minres_map``."""
    xp = module_of(weight).xp
    power_of = power[xp.minimum(shells, power.size - 1)]
    # without signal power the added term damps little, as in the specification
    guard = xp.where(weight > 1e-20, 1 / xp.where(weight > 1e-20, 0.001 * weight, 1), 0)
    prior = xp.where(power_of > 0, 1 / xp.where(power_of > 0, power_of, 1), guard)
    return xp.where(shells >= minres_map, prior, 0).astype(weight.dtype)


def real_space_map(
    transform: NDArray[np.complex64],
    box: int,
    padding: float,
    *,
    correct_gridding: bool = True,
    workers: int = 1,
) -> NDArray[np.float32]:
    """Map of box N from a padded half transform (refinement.md 5.2, steps 1-4); only what is kept is transformed."""
    xp, size = module_of(transform).xp, padded_box(box, padding)
    k = centred(transform.shape[2] - 1)
    k = k[(np.abs(k) <= size // 2) & (k != -size // 2)]  # those that the padded box has
    volume = _to_map(_along_z(transform, k, box, size, workers), k, box, size, workers)
    volume = apply_soft_mask(volume[None], soft_sphere(box, box / 2, 3.0, xp))[0]
    if correct_gridding:
        volume = volume / gridding_correction(box, size, xp=xp)
    return volume.astype(np.float32, copy=False)


def _turn(k: NDArray[np.int64], box: int, size: int) -> NDArray[np.complex64]:
    """Phases of frequencies k that move the centre of the map to voxel N / 2."""
    return np.exp(-2j * np.pi * k * (box // 2) / size).astype(np.complex64)


def _along_z(
    transform: NDArray[np.complex64], k: NDArray[np.int64], box: int, size: int, workers: int
) -> NDArray[np.complex64]:
    """Planes z of the map, y and x still in frequencies, those of y in k: (N, len(k), R + 1 or fewer)."""
    arrays, radius = module_of(transform), transform.shape[2] - 1
    xp, kept = arrays.xp, slice(int(k[0]) + radius, int(k[-1]) + radius + 1)
    turn, to = xp.asarray(_turn(k, box, size))[:, None], xp.asarray(k % size)
    columns = transform.swapaxes(0, 1)[kept, kept, : min(radius + 1, size // 2 + 1)]  # y, z, x
    out: NDArray[np.complex64] = xp.empty((box, columns.shape[0], columns.shape[2]), np.complex64)

    def of_planes(part: slice) -> None:
        values = columns[part]
        buffer = xp.zeros((len(values), size, values.shape[2]), np.complex64)
        buffer[:, to] = values * turn
        out[:, part] = arrays.fft.ifft(buffer, axis=1, norm="forward")[:, :box].swapaxes(0, 1)

    in_slabs(of_planes, columns, workers)
    return out


def _to_map(
    planes: NDArray[np.complex64], k: NDArray[np.int64], box: int, size: int, workers: int
) -> NDArray[np.float32]:
    """The map of planes z whose other axes are in frequencies."""
    arrays, n = module_of(planes), planes.shape[2]
    xp, fft = arrays.xp, arrays.fft
    along_y, to = xp.asarray(_turn(k, box, size))[:, None], xp.asarray(k % size)
    along_x = xp.asarray(_turn(np.arange(n), box, size))
    volume: NDArray[np.float32] = xp.empty((box,) * 3, np.float32)

    def of_planes(part: slice) -> None:
        values = planes[part]
        buffer = xp.zeros((len(values), size, n), np.complex64)
        buffer[:, to] = values * along_y
        data = fft.ifft(buffer, axis=1, norm="forward")[:, :box] * along_x
        real = fft.irfft(data, n=size, axis=2, norm="forward")[:, :, :box]
        volume[part] = real / np.float32((size / box) ** 3 * box)

    in_slabs(of_planes, planes, workers)
    return volume
