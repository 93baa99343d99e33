"""Fourier shell correlation: of two maps, of two half-grid averages, corrected for a solvent mask.

Shells are round(|k|) and sums run over the half transform as it is stored (the plane k_x = 0 holds its
values twice), which is what the numbers of other programs are made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import in_slabs, module_of, to_host
from mpiapp.model.fourier import axis_frequencies, forward_3d, inverse_3d
from mpiapp.model.random_phases import randomise_transform

FloatArray = NDArray[Any]
ComplexArray = NDArray[Any]


def _correlate(
    first: ComplexArray,
    second: ComplexArray,
    kz: NDArray[np.int64],
    ky: NDArray[np.int64],
    last: int,
    workers: int = 1,
) -> NDArray[np.float64]:
    """Sum Re(a b*), |a|^2 and |b|^2 over shells 0..last of a half transform whose axes have kz, ky."""
    arrays = module_of(first)
    xp = arrays.xp
    z2, y2, x2 = kz**2, ky**2, np.arange(first.shape[2]) ** 2
    # round(|k|) of every |k|^2, those beyond the last shell together in one more
    shells = np.floor(np.sqrt(np.arange(z2.max() + y2.max() + x2.max() + 1)) + 0.5)
    shell = xp.asarray(np.minimum(shells, last + 1).astype(np.int32))
    z2, plane = xp.asarray(z2), xp.asarray(y2[:, None] + x2)

    def sums(part: slice) -> Any:
        index = shell[z2[part, None, None] + plane].ravel()
        a, b = first[part], second[part]
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        return xp.stack([arrays.bincount(index, values.ravel(), last + 1) for values in products])

    return np.asarray(to_host(sum(in_slabs(sums, first, workers))))


def _ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.sqrt(totals[1] * totals[2])
    curve = np.zeros(norm.shape)
    np.divide(totals[0], norm, out=curve, where=norm > 0)
    return curve


def fsc_of_transforms(first: ComplexArray, second: ComplexArray, *, workers: int = 1) -> NDArray[np.float64]:
    """FSC of two half transforms of shape (N, N, N//2 + 1) in FFT order; returns (N//2 + 1,) float64."""
    box = first.shape[0]
    k = axis_frequencies(box)
    return _ratio(_correlate(first, second, k, k, box // 2, workers))


def fsc(map1: FloatArray, map2: FloatArray, *, workers: int = 1) -> NDArray[np.float64]:
    """Fourier shell correlation of two maps.

    Parameters
    ----------
    map1, map2 : (z, y, x) real maps of one cubic shape
    workers : threads of the transforms

    Returns
    -------
    (N//2 + 1,) float64 for shells 0..N/2; 0 where a shell holds no power.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if map1.shape != map2.shape:
        raise ValueError(f"the maps have shapes {map1.shape} and {map2.shape}")
    first, second = (forward_3d(one, centre=False, workers=workers) for one in (map1, map2))
    return fsc_of_transforms(first, second, workers=workers)


def fsc_of_half_grids(
    average1: ComplexArray, average2: ComplexArray, r_max: int, n_shells: int | None = None
) -> NDArray[np.float64]:
    """FSC of two down-sampled averages (data divided by weight), before any prior or mask.

    Parameters
    ----------
    average1, average2 : (2 R + 1, 2 R + 1, R + 1) complex, axes z, y, x >= 0 with the centre at index R of
        z and y; R is usually r_max + 1
    r_max : elements with |k| > r_max are left out
    n_shells : length of the result, default r_max + 1; further shells are 0

    Returns
    -------
    (n_shells,) float64 with FSC(0) = 1.
    """
    reach = average1.shape[2] - 1
    if average1.shape != (2 * reach + 1, 2 * reach + 1, reach + 1) or average1.shape != average2.shape:
        raise ValueError(f"half grids have shapes {average1.shape} and {average2.shape}")
    xp = module_of(average1).xp
    k = np.arange(-reach, reach + 1)
    on_axis = xp.asarray(k)
    ball = on_axis[:, None, None] ** 2 + on_axis[:, None] ** 2 + xp.arange(reach + 1) ** 2 <= r_max * r_max
    last = min(r_max, reach)
    curve = _ratio(_correlate(xp.where(ball, average1, 0), xp.where(ball, average2, 0), k, k, last))
    curve[0] = 1.0
    out = np.zeros(n_shells if n_shells is not None else r_max + 1)
    count = min(out.size, curve.size)
    out[:count] = curve[:count]
    return out


def first_shell_below(curve: FloatArray, threshold: float, start: int = 0) -> int:
    """Return the first shell >= start whose value is below the threshold, or -1."""
    below = np.flatnonzero(np.asarray(curve)[start:] < threshold)
    return int(below[0]) + start if below.size else -1


def resolution_at(curve: FloatArray, threshold: float, pixel_size_A: float, box: int) -> float:
    """Resolution at a threshold: that of the last shell before the curve first falls below it.

    Parameters
    ----------
    curve : (n_shells,) FSC
    threshold : 0.143 for independent halves, 0.5 against a model
    pixel_size_A, box : of the maps

    Returns
    -------
    Angstrom; 999 when no shell beyond 0 passes, the last shell's when the curve never falls below.
    """
    crossing = first_shell_below(curve, threshold)
    last = (len(curve) if crossing < 0 else crossing) - 1
    return box * pixel_size_A / last if last > 0 else 999.0


def resolution_interpolated(curve: FloatArray, threshold: float, pixel_size_A: float, box: int) -> float:
    """Resolution at the linear crossing of the threshold between two shells; otherwise as `resolution_at`."""
    crossing = first_shell_below(curve, threshold)
    if crossing <= 1:
        return resolution_at(curve, threshold, pixel_size_A, box)
    above, below = float(curve[crossing - 1]), float(curve[crossing])
    return box * pixel_size_A / (crossing - 1 + (above - threshold) / (above - below))


def correct_fsc(
    masked: FloatArray, randomised: FloatArray, randomise_from: int, *, clip: bool = True
) -> NDArray[np.float64]:
    """Remove a mask's contribution: (masked - randomised)/(1 - randomised) from shell randomise_from + 2 on.

    Parameters
    ----------
    masked : (..., n_shells) FSC of the masked maps
    randomised : (n_shells,) FSC of masked maps with randomised phases
    randomise_from : first shell with random phases
    clip : 0 instead of a negative value (as in refinement; post-processing keeps them)

    Returns
    -------
    (..., n_shells) float64
    """
    masked, randomised = np.asarray(masked, dtype=np.float64), np.asarray(randomised, dtype=np.float64)
    rest = 1.0 - randomised
    true = np.divide(masked - randomised, rest, out=np.zeros_like(masked), where=rest > 0)
    if clip:
        true = np.where(randomised > masked, 0.0, true)
    return np.where(np.arange(masked.shape[-1]) < randomise_from + 2, masked, true)


@dataclass(frozen=True)
class SolventFsc:
    """FSC curves of two half maps, each (N//2 + 1,) float64, and the shell where phases were randomised.

    Without a shell where the unmasked curve falls below the limit, `randomise_from` is -1, `randomised` is 0
    and `corrected` is the unmasked curve. The half transforms of both maps, and of both within the mask, are
    there for what else is made of them.
    """

    unmasked: NDArray[np.float64]
    masked: NDArray[np.float64]
    randomised: NDArray[np.float64]
    corrected: NDArray[np.float64]
    randomise_from: int
    transforms: tuple[ComplexArray, ...]
    masked_transforms: tuple[ComplexArray, ...]


def solvent_corrected_fsc(
    half1: FloatArray,
    half2: FloatArray,
    mask: FloatArray,
    seed: int,
    *,
    randomise_below: float = 0.8,
    randomise_from: int = 0,
    last_shell: int | None = None,
    clip: bool = True,
    draws: int = 1,
    workers: int = 1,
) -> SolventFsc:
    """FSC of two unregularised half maps inside a solvent mask, corrected by phase randomisation.

    Chen et al., Ultramicroscopy 135 (2013) 24. FSC(0) is 1 in all curves.

    Parameters
    ----------
    half1, half2 : (z, y, x) maps
    mask : solvent mask of the same shape, 0 to 1
    seed : of the random phases; each half gets its own stream
    randomise_below : phases are randomised from the first shell > 0 where the unmasked FSC is below this
    randomise_from : or from this shell, when it is above 0
    last_shell : corrected curve is 0 beyond (the current size / 2 during refinement)
    clip : as in `correct_fsc`
    draws : random phases are drawn this many times and their curves averaged
    workers : threads

    Returns
    -------
    SolventFsc
    """
    first, second = (forward_3d(half, centre=False, workers=workers) for half in (half1, half2))
    unmasked = fsc_of_transforms(first, second, workers=workers)
    in_mask = tuple(forward_3d(half * mask, centre=False, workers=workers) for half in (half1, half2))
    masked = fsc_of_transforms(in_mask[0], in_mask[1], workers=workers)
    start = randomise_from if randomise_from > 0 else first_shell_below(unmasked, randomise_below, start=1)
    randomised = np.zeros_like(unmasked)
    corrected = unmasked.copy()
    unmasked[0] = masked[0] = corrected[0] = 1.0
    if start > 0:
        streams = iter(np.random.default_rng(seed).spawn(2 * draws))
        for _ in range(draws):
            random = []
            for transform in (first, second):
                mixed = randomise_transform(transform, start, next(streams), workers=workers)
                random.append(inverse_3d(mixed, centre=False, workers=workers) * mask)
            randomised += fsc(*random, workers=workers) / draws
        randomised[0] = 1.0
        corrected = correct_fsc(masked, randomised, start, clip=clip)
    if last_shell is not None:
        corrected[last_shell + 1 :] = 0.0
    return SolventFsc(unmasked, masked, randomised, corrected, start, (first, second), in_mask)
