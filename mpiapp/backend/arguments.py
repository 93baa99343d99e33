"""From the model's terms to kernel arguments: pixels, optics weights, priors (float64 in, float32 out)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import HalfModel, ImagingSetup
from mpiapp.backend.reach import map_pixels
from mpiapp.kernels.arguments import MapSide, Optics, Phases, Pixels, Shifts, Turns
from mpiapp.model.aberrations import even_gamma
from mpiapp.model.noise import shell_ratio
from mpiapp.model.pixels import pixel_list, round_half_away
from mpiapp.model.search import Search

F32 = NDArray[np.float32]
# A direction without weight may be found again: its prior is this fraction of the largest
PRIOR_FLOOR = np.exp(-8.0)
# Log prior of what must not be found
LEFT_OUT = -1e30


def make_pixels(setup: ImagingSetup, radius: int) -> Pixels:
    """Pixels of the model plane up to a radius."""
    pixels = pixel_list(radius)
    unit = 1.0 / (setup.box * setup.pixel_size_A)
    x, y = pixels.kx.astype(np.float32), pixels.ky.astype(np.float32)
    return Pixels(x, y, (x * unit).astype(np.float32), (y * unit).astype(np.float32), pixels.shell.copy())


def make_turns(psi_deg: NDArray[np.float64], shifts_A: NDArray[np.float64]) -> Turns:
    """In-plane angles and shifts."""
    psi = np.deg2rad(psi_deg)
    return Turns(
        np.cos(psi).astype(np.float32),
        np.sin(psi).astype(np.float32),
        np.ascontiguousarray(shifts_A, np.float32),
    )


def make_optics(
    setup: ImagingSetup, model: HalfModel, pixels: Pixels, psi_deg: NDArray[np.float64], correlate: bool
) -> Optics:
    """Geometry and weights of every optics group; the weights are 1 for cross-correlation."""
    shell = np.minimum(pixels.shell, setup.n_shells - 1)
    radius = np.hypot(pixels.qx, pixels.qy)
    score = []
    for group, sigma2 in zip(setup.optics, model.sigma2, strict=True):
        inside = (sigma2[shell] > 0) & (group.ratio * radius <= group.box / 2) & (pixels.shell > 0)
        noise = 1.0 if correlate else np.where(inside, sigma2[shell], 1.0)
        score.append(np.where(inside, group.density / noise, 0.0))
    return Optics(
        np.stack([g.turn for g in setup.optics]).astype(np.float32),
        np.array([1.0 / (g.pixel_size_A * g.box) for g in setup.optics], np.float32),
        np.stack(score).astype(np.float32),
        _gamma_even(setup, pixels, psi_deg),
        _geometries(setup),
    )


def _geometries(setup: ImagingSetup) -> NDArray[np.int32]:
    """Number of the distinct geometry of each optics group."""
    keys = [(*np.round(g.turn, 7).ravel(), round(g.pixel_size_A * g.box, 4)) for g in setup.optics]
    first = dict.fromkeys(keys)
    return np.array([list(first).index(key) for key in keys], np.int32)


def make_phases(
    optics: Optics,
    pixels: Pixels,
    turns: Turns,
    parents_A: NDArray[np.float64],
    offsets_A: NDArray[np.float64],
    limit: int,
) -> Phases:
    """Phases of all shifts at all in-plane angles, or empty ones when they would take more than ``limit`` bytes.

    Parameters
    ----------
    parents_A : (n_trans, 2);  offsets_A : (n_children, 2), added to every parent.
    """
    n_geometry = int(optics.geometry.max()) + 1
    from mpiapp.kernels.rows import fill_phases

    per_shift = 8 * n_geometry * turns.cosine.size * pixels.qx.size
    if per_shift * (len(parents_A) + len(offsets_A)) > limit:
        return Phases(np.zeros((1, 1, 1, 2, 0), np.float32), np.zeros((1, 1, 1, 2, 0), np.float32))
    tables = []
    for shifts in (parents_A, offsets_A):
        out = np.empty((n_geometry, turns.cosine.size, len(shifts), 2, pixels.qx.size), np.float32)
        for e in range(n_geometry):
            group = int(np.flatnonzero(optics.geometry == e)[0])
            fill_phases(
                optics,
                pixels,
                group,
                turns.cosine,
                turns.sine,
                np.ascontiguousarray(shifts, np.float32),
                out[e],
            )
        tables.append(out)
    return Phases(*tables)


def _gamma_even(setup: ImagingSetup, pixels: Pixels, psi_deg: NDArray[np.float64]) -> F32:
    """Phase of even aberrations at the turned pixels, or an empty array when no group has any."""
    if not any(any(g.even_zernike) for g in setup.optics):
        return np.zeros((1, 1, 0), np.float32)
    out = np.zeros((len(setup.optics), psi_deg.size, pixels.qx.size), np.float32)
    for g, group in enumerate(setup.optics):
        if any(group.even_zernike):
            for j, psi in enumerate(np.deg2rad(psi_deg)):
                x = np.cos(psi) * pixels.sx + np.sin(psi) * pixels.sy
                y = np.cos(psi) * pixels.sy - np.sin(psi) * pixels.sx
                out[g, j] = even_gamma(group.even_zernike, x, y)
    return out


def make_map_side(
    setup: ImagingSetup,
    sigma2: NDArray[np.float64],
    r_max: int,
    box: int,
    pixel_size_A: float,
    search: Search | None = None,
) -> MapSide:
    """Pixels, weights and phases of back-projection for images of one box and pixel size; rows are set per batch.

    Parameters
    ----------
    sigma2 : (n_optics, n_shells) noise variance, whose inverse is the weight of an image.
    search : where phases are needed, of whose shifts; they take numba's kernels.
    """
    pixels = map_pixels(setup, box, pixel_size_A, r_max)
    x, y = pixels.kx.astype(float), pixels.ky.astype(float)
    unit = 1.0 / (box * pixel_size_A)
    ratio = shell_ratio(box, pixel_size_A, setup.box, setup.pixel_size_A)
    shell = np.minimum(round_half_away(np.hypot(x, y) / ratio), setup.n_shells - 1)
    frequency, weight, back, even, place = [], [], [], [], []
    for group, noise in zip(setup.optics, sigma2, strict=True):
        m = np.asarray(group.magnification, float).reshape(2, 2)
        frequency.append(m @ np.stack([x, y]) * unit)
        # what a magnification takes out of the sphere must not be written: it goes to the origin, without weight
        inside = np.hypot(*(m @ np.stack([x, y]))) / group.ratio <= r_max + 1e-6
        place.append(np.where(inside, np.stack([x, y]), 0.0))
        used = inside & (noise[shell] > 0)
        weight.append(np.where(used, 1.0 / np.where(used, noise[shell], 1.0), 0.0))
        back.append(m / group.ratio)
        even.append(
            even_gamma(group.even_zernike, *frequency[-1]) if any(group.even_zernike) else np.zeros(x.size)
        )
    f = np.asarray(frequency, np.float32)
    has_even = any(any(g.even_zernike) for g in setup.optics)
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    tables = [np.zeros((0, 2, 0), np.float32)] * 2
    if search is not None:
        offsets = search.fine_shifts_A[: search.shift_children] - search.coarse_shifts_A[0]
        tables = [still_phases(x32, y32, shifts * unit) for shifts in (search.coarse_shifts_A, offsets)]
    return MapSide(
        np.zeros((0, 2, x.size), np.float32),
        np.ascontiguousarray(np.asarray(place, np.float32)[:, 0]),
        np.ascontiguousarray(np.asarray(place, np.float32)[:, 1]),
        np.ascontiguousarray(f[:, 0]),
        np.ascontiguousarray(f[:, 1]),
        np.asarray(even, np.float32) if has_even else np.zeros((1, 0), np.float32),
        np.asarray(weight, np.float32),
        np.asarray(back, np.float32),
        *tables,
    )


def still_phases(kx: F32, ky: F32, cycles: NDArray[np.float64]) -> F32:
    """Phases of shifts (n, 2), in cycles per pixel, at the pixels of an image: (n, 2, n_pix)."""
    from mpiapp.kernels.fine_sums import fill_still_phases

    out = np.empty((len(cycles), 2, kx.size), np.float32)
    fill_still_phases(kx, ky, cycles.astype(np.float32), out)
    return out


def log_row_prior(prior: NDArray[np.float64]) -> F32:
    """Log prior of the coarse directions of all classes, flat, with a floor, so that no direction is lost for good.

    Parameters
    ----------
    prior : (n_class, n_dir) float64; a class without weight is left out.
    """
    largest = prior.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_prior = np.log(np.maximum(prior, PRIOR_FLOOR * largest))
    return np.maximum(log_prior, LEFT_OUT).ravel().astype(np.float32)


def log_shift_prior(
    shifts_A: tuple[NDArray[np.float64], NDArray[np.float64]],
    old_A: NDArray[np.float64],
    centre_A: NDArray[np.float64],
    sigma_A: float,
) -> Shifts:
    """Log prior of the coarse shifts, and squared distances of the fine ones in A^2 (refinement.md 4.8).

    Parameters
    ----------
    shifts_A : coarse and fine shifts, (n_trans, 2) and (n_fine, 2), or (n, ., 2) where each image has its own.
    old_A : (n, 2) whole-pixel offsets already applied, in A.
    centre_A : (n_centre, 2) total offsets that the prior is centred on.
    """
    coarse, fine = (squared_offsets(t, old_A, centre_A) for t in shifts_A)
    log_prior = shift_prior(coarse, sigma_A)
    return Shifts(log_prior, fine.astype(np.float32), old_A.astype(np.float32))


def squared_offsets(shifts_A: Any, old_A: Any, centre_A: Any) -> Any:
    """Squared distances of the total offsets from the centres in A^2, (n, n_centre, n_trans); arrays of one kind.

    Parameters
    ----------
    shifts_A : (n_trans, 2) or (n, n_trans, 2);  old_A : (n, 2);  centre_A : (n_centre, 2).
    """
    start = old_A[:, None] - centre_A
    x, y = (start[..., None, k] + shifts_A[..., None, :, k] for k in (0, 1))
    return x * x + y * y


def shift_prior(square_A2: Any, sigma_A: float) -> Any:
    """Log prior of shifts at squared distances from its centre: float32 of that shape."""
    if sigma_A**2 < 0.0001:
        return -1e4 * (square_A2 > 0).astype(np.float32)
    return (-square_A2 / (2 * sigma_A**2)).astype(np.float32)
