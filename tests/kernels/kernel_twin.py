"""The expectation step of a case by the float64 twins: scores, posterior and sums over given states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from kernel_case import BOX, DIAMETER_A, EDGE, PADDING, R_MAX, Case
from numpy.typing import NDArray

from mpiapp.model.fourier import shift_images
from mpiapp.model.local_search import local_neighbourhoods
from mpiapp.model.masks import apply_soft_mask, soft_circle
from mpiapp.model.pixels import pixel_list, round_half_away
from mpiapp.model.posterior import ImageSums, add_residual, back_project, significant_weights
from mpiapp.model.projection import grid_radius
from mpiapp.model.rotations import euler_to_matrix, rotation_z
from mpiapp.model.scores import (
    Observation,
    Samples,
    correlations,
    image_samples,
    log_offset_prior,
    log_weights,
    model_samples,
    observe,
)
from mpiapp.model.search import Search

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Prepared:
    """One image as refinement.md 4.2 leaves it, in real space."""

    masked: F64
    unmasked: F64
    old_A: F64


def prepare(case: Case, i: int) -> Prepared:
    """Shift by whole pixels, scale and mask one image."""
    optics = case.optics_of(i)
    raw = case.read(case.data.stack_index[i : i + 1], case.data.image_index[i : i + 1]).astype(float)
    pixels = round_half_away(case.poses.origin_A[i] / optics.pixel_size_A)
    image = shift_images(raw, pixels[None]) * (case.model.average_norm / case.poses.norm[i])
    circle = soft_circle(optics.box, DIAMETER_A / (2 * optics.pixel_size_A), EDGE).astype(float)
    masked = apply_soft_mask(image, circle)
    inscribed = soft_circle(optics.box, optics.box / 2 - 1, 2).astype(float)
    unmasked = apply_soft_mask(image, inscribed)
    return Prepared(np.asarray(masked[0]), np.asarray(unmasked[0]), pixels * optics.pixel_size_A)


def observation(case: Case, i: int, samples: Samples, image: F64) -> Observation:
    """Terms of one image at some samples."""
    g = int(case.data.optics[i])
    scale = float(case.model.scale[case.data.group[i]])
    return observe(image, samples, case.setup.optics[g], case.data.ctf[i], case.model.sigma2[g], scale)


@dataclass
class Scored:
    """Log weights of states at one in-plane angle: rows are directions, columns shifts."""

    samples: Samples
    psi: int  # index of the angle
    matrices: F64  # (n_dir, 3, 3) whole orientations Rz(psi) D
    value: F64  # (n_dir, n_shift), -inf for states that do not count
    of_class: int = 0


def reference(case: Case, k: int) -> tuple[NDArray[Any], float]:
    """Padded transform of a class and its padding; an average is the plane z = 0 of one that is not padded."""
    transform = case.model.transforms[k]
    if transform.ndim == 3:
        return transform, PADDING
    radius = transform.shape[1] - 1
    volume = np.zeros((2 * radius + 1, *transform.shape), np.complex64)
    volume[radius] = transform
    return volume, 1.0


def score_plane(
    case: Case,
    i: int,
    search: Search,
    radius: int,
    psi: tuple[int, float],
    directions: F64,
    shifts_A: F64,
    of_class: int = 0,
) -> Scored:
    """Log weights, or correlations, of all directions and shifts at one in-plane angle, without priors."""
    index, psi_deg = psi
    samples = model_samples(case.optics_of(i), radius, psi_deg)
    seen = observation(case, i, samples, prepare(case, i).masked)
    matrices = rotation_z(psi_deg) @ directions
    score = correlations if search.correlate else log_weights
    value = score(seen, *reference(case, of_class), matrices, shifts_A)
    return Scored(samples, index, matrices, value, of_class)


def log_offset(case: Case, i: int, search: Search, of_class: int = 0) -> F64:
    """Log prior of the coarse shifts, (n_trans,)."""
    centres = case.model.offset_centre_A
    total = prepare(case, i).old_A + search.coarse_shifts_A - centres[of_class if len(centres) > 1 else 0]
    return log_offset_prior(total, case.model.sigma_offset_A)


def coarse_states(case: Case, i: int, search: Search, log_prior: F64, of_class: int = 0) -> F64:
    """Log weights of the whole coarse grid, (n_dir, n_psi, n_trans); log_prior (n_dir, n_psi or 1)."""
    n_dir, n_psi = search.n_directions, search.grid.n_psi
    log_prior = np.broadcast_to(log_prior, (n_dir, n_psi))
    value = np.full((n_dir, n_psi, len(search.coarse_shifts_A)), -np.inf)
    for j, psi in enumerate(search.coarse_psi_deg):
        near = np.flatnonzero(np.isfinite(log_prior[:, j]))
        if near.size:
            directions = search.coarse_matrices[near]
            plane = score_plane(
                case,
                i,
                search,
                search.r_coarse,
                (j, float(psi)),
                directions,
                search.coarse_shifts_A,
                of_class,
            )
            value[near, j] = plane.value
    if search.correlate:
        return value
    return value + log_prior[:, :, None] + log_offset(case, i, search, of_class)


def local_log_prior(case: Case, i: int, search: Search) -> F64:
    """Log prior of directions and in-plane angles around the starting pose, -inf outside, (n_dir, n_psi)."""
    assert search.sigma_deg is not None
    start = euler_to_matrix(case.poses.rot_deg[i], case.poses.tilt_deg[i], case.poses.psi_deg[i])
    near = local_neighbourhoods(start[None], search.grid, case.setup.group, search.sigma_deg)
    prior = np.full((search.n_directions, search.grid.n_psi), -np.inf)
    delta = np.abs((search.grid.psi_deg - near.psi_center_deg[:, None] + 180.0) % 360.0 - 180.0)
    inside = delta < max(3 * search.sigma_deg, 0.501 * search.grid.psi_step_deg)
    log_psi = np.where(inside, -0.5 * (delta / search.sigma_deg) ** 2, -np.inf)
    prior[near.direction] = near.log_prior[:, None] + log_psi
    return prior


def fine_states(
    case: Case, i: int, search: Search, states: NDArray[np.int32], priors: NDArray[np.float32]
) -> list[Scored]:
    """Log weights of the children of accepted coarse states, with their priors, by class and in-plane angle."""
    out = []
    for k in np.unique(states[:, 0] // search.n_directions):
        mine = states[:, 0] // search.n_directions == k
        own = states[mine] - [k * search.n_directions, 0, 0]
        out += _fine_states_of_class(case, i, search, own, priors[mine], int(k))
    return out


def _fine_states_of_class(
    case: Case, i: int, search: Search, states: NDArray[Any], priors: NDArray[np.float32], of_class: int
) -> list[Scored]:
    n, n_shift, n_psi = search.children, search.shift_children, 2**search.oversampling
    offset = log_offset(case, i, search, of_class)
    out = []
    for j in np.unique(states[:, 1]):
        mine = states[:, 1] == j
        used, row = np.unique(states[mine, 0], return_inverse=True)
        prior = np.full((used.size, len(search.coarse_shifts_A)), -np.inf)
        shift = states[mine, 2]
        prior[row, shift] = 0.0 if search.correlate else priors[mine] + offset[shift]
        prior = np.repeat(np.repeat(prior, n, 0), n_shift, 1)
        directions = search.fine_matrices[(used[:, None] * n + np.arange(n)).ravel()]
        for fine in range(j * n_psi, (j + 1) * n_psi):
            psi = (fine, float(search.fine_psi_deg[fine]))
            plane = score_plane(
                case, i, search, search.r_max, psi, directions, search.fine_shifts_A, of_class
            )
            plane.value += prior
            out.append(plane)
    return out


def add_particle(
    case: Case, i: int, search: Search, planes: list[Scored], sums: list[ImageSums], shifts: F64 | None = None
) -> list[F64]:
    """Weighted sums of one particle over its fine states, by class; returns the accepted weights of each plane."""
    prepared = prepare(case, i)
    value = np.concatenate([p.value.ravel() for p in planes])
    weights = significant_weights(value, search.fraction)
    parts = np.split(weights, np.cumsum([p.value.size for p in planes])[:-1])
    optics, shifts = case.optics_of(i), search.fine_shifts_A if shifts is None else shifts
    still = observation(case, i, image_samples(optics, search.r_max), prepared.unmasked)
    for plane, part in zip(planes, parts, strict=True):
        w = part.reshape(plane.value.shape)
        if w.any():
            seen, mine = observation(case, i, plane.samples, prepared.masked), sums[plane.of_class]
            add_residual(mine, seen, *reference(case, plane.of_class), plane.matrices, shifts, w)
            back_project(mine, still, PADDING, plane.matrices, shifts, w, premultiplied=optics.premultiplied)
    return [part.reshape(p.value.shape) for part, p in zip(parts, planes, strict=True)]


def image_power(case: Case, i: int, own_shells: bool = False) -> F64:
    """Sum of |X|^2 over the integer pixels of the masked image by shell of the model, or of the image itself."""
    prepared, optics = prepare(case, i), case.optics_of(i)
    pixels = pixel_list(optics.box // 2, whole_shells=True, box=optics.box)
    transform = np.fft.rfft2(prepared.masked).ravel()[pixels.half_index(optics.box)] / optics.box**2
    shell = pixels.shell if own_shells else round_half_away(pixels.shell / optics.ratio)
    power = np.bincount(shell, np.abs(transform) ** 2, BOX // 2 + 1)
    return power if own_shells else power[: BOX // 2 + 1]


def empty_sums() -> ImageSums:
    """Sums of the twin for the grid of a case."""
    return ImageSums.zeros(grid_radius(R_MAX, PADDING), BOX // 2 + 1)
