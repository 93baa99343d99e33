"""The maximization step: from sums to spectra, parameters and maps (refinement.md 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.engine.state import HalfState
from mpiapp.model.arrays import module_of
from mpiapp.model.noise import fill_gaps
from mpiapp.model.pixels import round_half_away
from mpiapp.model.projection import squared_radius
from mpiapp.model.reconstruct import Spectra, real_space_map, wiener
from mpiapp.model.sums import WeightedSums

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def join_radius(setup: ImagingSetup, join_A: float, frequency: float) -> int:
    """Padded radius inside which the halves are averaged (refinement.md 5.4); 0 for none."""
    if join_A <= 0:
        return 0
    resolution = max(join_A, 1 / max(frequency, 1e-6))
    shell = ceil(setup.box * setup.pixel_size_A / resolution)
    return int(round_half_away(setup.padding * shell))


def low_resolution_part(grid: F64, radius: int) -> F64:
    """Elements of the sums with |u| <= radius: (n, 3)."""
    cube = _cube(grid, radius)
    return cube[_ball(cube, radius)]


def set_low_resolution_part(grid: F64, radius: int, values: F64) -> None:
    """Replace the elements of the sums with |u| <= radius, in place."""
    cube = _cube(grid, radius)
    cube[_ball(cube, radius)] = values


def _cube(grid: F64, radius: int) -> F64:
    """The part of the sums around the origin that holds the ball, without a copy."""
    middle = grid.shape[2] - 1
    radius = min(radius, middle)
    near = slice(middle - radius, middle + radius + 1)
    return grid[near, near, : radius + 1]


def _ball(cube: F64, radius: int) -> NDArray[np.bool_]:
    return squared_radius(cube.shape[2] - 1, module_of(cube).xp) <= radius * radius


def regularised_map(
    setup: ImagingSetup, grid: F64, spectra: Spectra | None, tau2_fudge: float, minres_map: int, workers: int
) -> F32:
    """Reconstruction with a prior, or without one when ``spectra`` is None."""
    tau2 = None if spectra is None else spectra.tau2
    transform = wiener(
        grid, tau2, setup.padding, tau2_fudge=tau2_fudge, minres_map=minres_map, workers=workers
    )
    return real_space_map(transform, setup.box, setup.padding, workers=workers)


def update_parameters(
    old: HalfState,
    sums: WeightedSums,
    group_size: NDArray[np.int64],
    *,
    scale: bool,
    norm: bool,
    correlate: bool,
) -> HalfState:
    """New parameters of a half from its sums; spectra of the map are set elsewhere (refinement.md 5.6).

    Parameters
    ----------
    group_size : (n_groups,) particles of the half in each intensity-scale group.
    scale, norm : whether these corrections are on;  correlate : the sums come from a cross-correlation iteration.
    """
    weight, offset2, norms, likelihood, p_max, count = sums.totals
    weight, count = max(weight, 1e-10), max(count, 1.0)
    average_norm = norms / count if norm and not correlate else old.average_norm
    sigma_offset = np.sqrt(max(offset2 / (2 * weight), 2.0))
    scalars = np.array([average_norm, sigma_offset, likelihood, p_max / count])
    prior, centre = _priors(old, sums, weight)
    sigma2, scales = old.sigma2, old.scale
    if not correlate:
        sigma2 = new_sigma2(old.sigma2, sums)
        if scale and group_size.size > 1:
            scales = new_scales(sums, group_size, old.scale)
    return replace(
        old, sigma2=sigma2, scale=scales, direction_prior=prior, offset_centre_A=centre, scalars=scalars
    )


def tempered(old: HalfState, new: HalfState, mu: float) -> HalfState:
    """Running means of what mini-batches tell: mu of the old parameters and the rest of the new ones (refinement.md 7.4).

    The likelihood and the mean largest weight are of the mini-batch. Widths of offsets are averaged as variances.
    """
    if mu <= 0:
        return new

    def mean(a: F64, b: F64) -> F64:
        return mu * a + (1 - mu) * b

    scalars = new.scalars.copy()
    scalars[0] = mean(old.scalars[0], new.scalars[0])
    scalars[1] = np.sqrt(mean(old.scalars[1] ** 2, new.scalars[1] ** 2))
    prior = mean(old.direction_prior, new.direction_prior)
    return replace(
        new,
        sigma2=mean(old.sigma2, new.sigma2),
        scale=mean(old.scale, new.scale),
        direction_prior=prior / prior.sum(),
        offset_centre_A=mean(old.offset_centre_A, new.offset_centre_A),
        scalars=scalars,
    )


def _priors(old: HalfState, sums: WeightedSums, weight: float) -> tuple[F64, F64]:
    """Priors of classes and directions, and the mean offset of each class average."""
    share = sums.direction_weight.sum(axis=1)
    if sums.direction_weight.shape == old.direction_prior.shape:
        prior = sums.direction_weight / weight
    else:  # orientations were not searched for: directions stay as they were
        kept = old.direction_prior / np.maximum(old.class_prior, 1e-30)[:, None]
        prior = kept * (share / weight)[:, None]
    centre = sums.class_shift / np.where(share > 0, share, 1)[:, None]
    return prior, centre


def new_sigma2(old: F64, sums: WeightedSums) -> F64:
    """Noise spectra of the optics groups."""
    out = old.copy()
    for g in range(len(old)):
        if sums.noise[g].any():
            seen = sums.noise_pixels[g] > 0
            spectrum = np.where(seen, sums.noise[g] / np.where(seen, 2 * sums.noise_pixels[g], 1), old[g])
            spectrum[0] = max(spectrum[0], 1e-15)
            out[g] = fill_gaps(spectrum)
    return out


def new_scales(sums: WeightedSums, group_size: NDArray[np.int64], old: F64) -> F64:
    """Intensity scales, clipped to five times the median either way and with a weighted mean of 1.

    Parameters
    ----------
    old : scales of the groups of which the sums tell nothing
    """
    power = sums.signal_power
    scales = np.where(power > 0, sums.signal_product / np.where(power > 0, power, 1), old)
    median = np.sort(scales)[scales.size // 2]
    scales = np.clip(scales, median / 5, 5 * median)
    return np.asarray(scales * group_size.sum() / max((scales * group_size).sum(), 1e-10))


def with_spectra(half: HalfState, spectra: Sequence[Spectra]) -> HalfState:
    """The half with the spectra of its new maps, one for each class."""
    return replace(
        half,
        tau2=np.stack([s.tau2 for s in spectra]),
        sigma2_ref=np.stack([s.sigma2_ref for s in spectra]),
        data_vs_prior=np.stack([s.data_vs_prior for s in spectra]),
        coverage=np.stack([s.coverage for s in spectra]),
    )
