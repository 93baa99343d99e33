"""Decisions of a classification between iterations: search grid, resolutions of the classes, coarser sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpiapp.engine.iteration import Options
from mpiapp.engine.schedule import Policy, coarse_radius, grids_apart_deg, score_radius
from mpiapp.engine.state import HalfState, Schedule
from mpiapp.model.own_share import kept_by_search, own_gain
from mpiapp.model.sampling import angular_step_deg, direction_grid, plane_grid
from mpiapp.model.search import Free, Search

# Coarser grids are taken while their fine step stays below this part of the expected accuracy
COARSER = 0.8
LARGEST_PSI_STEP_DEG = 45.0
# Highest frequency of the coarse pass in units of the inverse arc of a step (refinement.md 4.1)
PLANE_FACTOR = 1.5
# Of the weight that may be left out, the part that the coarse pass leaves out. A coarse state stands for children up to
# half a step away, where the image may be. That costs the right state 5 to 14 nats at steps of 7.5 degrees and some 23 at
# 30 (simulated, 190 A, SNR 0.25), so judged like the fine weights it would often be left out before it is looked at.
# Class averages did not gain from it, and local searches only since own shares are taken back (own_gains).
COARSE_PART = 1e-3

# Iterations before the sizes of classes count that began as averages of images at random angles. Those have hardly any
# features: the few that happen to have some take most images, and large shares would then keep them.
EVEN_ITERATIONS = 8
# Share of the particles that change class in an iteration below which classes are settled. What a particle gains by its
# own share of a class is left to it then: it holds the particle where several iterations, each with a grid turned at
# random, found it best, and fewer are misplaced by the turn of a single grid.
SETTLED_CLASSES = 0.03


@dataclass(frozen=True)
class ClassRules:
    """What of the options shapes the search of a classification."""

    sym: str
    free: Free
    firstiter_cc: bool
    healpix_order: int
    psi_step_deg: float | None  # where references are class averages
    offset_step_A: float
    coarser: bool


def class_search(policy: Policy, options: Options, rules: ClassRules, s: Schedule) -> Search:
    """Search grid of an iteration."""
    planar = s.psi_step_deg is not None
    of_maps = not planar and s.oversampling > 0  # in two passes
    r_max = s.current_size // 2
    grid = plane_grid(s.psi_step_deg) if s.psi_step_deg else direction_grid(s.healpix_order, rules.sym)
    factor = {"factor": PLANE_FACTOR} if planar else {}
    return Search(
        grid,
        0 if rules.free is Free.CLASS else s.oversampling,
        s.perturbation,
        s.offset_range_A,
        s.offset_step_A,
        s.sigma_deg if rules.free is Free.ALL else None,
        rules.firstiter_cc and s.iteration == 1,
        coarse_radius(policy, s, r_max, options.strict_highres_A, **factor),
        r_max,
        options.adaptive_fraction,
        options.max_significant,
        planar=planar,
        r_score=score_radius(policy, r_max, options.strict_highres_A),
        free=rules.free,
        keep_class=s.seeding and s.iteration == 1,
        prior_perturbed=True,
        coarse_fraction=1 - COARSE_PART * (1 - options.adaptive_fraction) if of_maps else None,
    )


def class_shells(policy: Policy, half: HalfState) -> NDArray[np.int64]:
    """Last shell that each class is resolved to, data against prior at least 1; the smallest for empty ones."""
    inner = half.data_vs_prior[:, 1:-1] < 1
    shell = np.where(inner.any(axis=1), inner.argmax(axis=1), inner.shape[1])
    shell = np.where(half.class_prior > 0, shell, 0)
    return np.maximum(shell, policy.minres_map).astype(np.int64)


def coarser_sampling(rules: ClassRules, s: Schedule) -> bool:
    """Take the coarsest sampling that the expected accuracies allow (--allow_coarser_sampling, refinement.md 7.1).

    Returns
    -------
    Whether the directions changed.
    """
    limit = COARSER * s.accuracy_rot_deg
    fine = 2**s.oversampling
    before = s.healpix_order
    if s.psi_step_deg is not None:
        assert rules.psi_step_deg is not None
        s.psi_step_deg = rules.psi_step_deg
        while 2 * s.psi_step_deg <= LARGEST_PSI_STEP_DEG and 2 * s.psi_step_deg / fine < limit:
            s.psi_step_deg *= 2
    else:
        order = rules.healpix_order
        while order > 0 and angular_step_deg(order - 1) / fine < limit:
            order -= 1
        s.healpix_order = order
    largest = max(0.95 * s.offset_range_A, rules.offset_step_A)
    s.offset_step_A = float(np.clip(COARSER * s.accuracy_trans_A * fine, rules.offset_step_A, largest))
    return s.healpix_order != before


def even_classes(half: HalfState) -> HalfState:
    """The half with classes of equal size; those that are empty stay so."""
    share = half.class_prior
    used = share > 0
    scale = np.where(used, 1 / (np.where(used, share, 1) * used.sum()), 0)
    return replace(half, direction_prior=half.direction_prior * scale[:, None])


def own_gains(
    policy: Policy,
    options: Options,
    rules: ClassRules,
    s: Schedule,
    half: HalfState,
    n_images: int,
    solvent: NDArray[np.float32],
    order: int,
) -> NDArray[np.float64]:
    """How much better an image fits the class that it is part of, by class (:mod:`mpiapp.model.own_share`).

    It is 0 once classes have settled, and in a global search: one that samples coarsely looks at other views the next
    time, and classes of views differ by more than this.

    Parameters
    ----------
    half : with the spectra and priors of the iteration that ends.
    solvent : the solvent mask, 1 everywhere for none, of the dimensions of the references;  order : of the point group.
    """
    searched = rules.free is Free.ALL
    settled = not s.seeding and s.change_class < SETTLED_CLASSES
    if settled or (searched and s.sigma_deg is None):
        return np.zeros(half.n_class)
    n_shells = half.data_vs_prior.shape[1]
    # distances of the points nearest to one orientation or shift in two grids that are moved at random
    turn_deg = grids_apart_deg(s.step_deg, s.step_deg) if searched else 0.0
    shift_A = 0.0 if rules.free is Free.CLASS else s.fine_offset_step_A / np.sqrt(6)
    kept = kept_by_search(
        n_shells,
        policy.box,
        policy.particle_diameter_A / (2 * policy.pixel_size_A),
        turn_deg,
        shift_A / policy.pixel_size_A,
    )
    kept[score_radius(policy, n_shells - 1, options.strict_highres_A) + 1 :] = 0
    return own_gain(
        half.data_vs_prior,
        half.class_prior * n_images,
        kept,
        dimensions=solvent.ndim,
        solvent_share=float(solvent.mean()),
        order=order,
    )


def overall_accuracy(half: HalfState) -> tuple[float, float]:
    """Smallest expected accuracies over the classes."""
    rot, trans = half.accuracy.min(axis=0)
    return float(rot), float(trans)
