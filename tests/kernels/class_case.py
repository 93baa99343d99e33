"""Cases of several classes, of maps and of averages, and their states by the float64 twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from kernel_case import BOX, PADDING, R_MAX, Case, make_case, make_search, optics_model, phantom
from kernel_twin import Scored, coarse_states, local_log_prior, log_offset, prepare, score_plane
from numpy.typing import NDArray

from mpiapp.model.averages import transform_average
from mpiapp.model.projection import transform_reference
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.sampling import plane_grid
from mpiapp.model.search import Free, Search

F64 = NDArray[np.float64]
SIGNAL = 1.2
PLANE = {"grid": plane_grid(12.0), "planar": True}
SEARCHES = {
    "global": make_search(),
    "more passed on": make_search(coarse_fraction=1 - 1e-6),
    "one class each": make_search(keep_class=True),
    "local": make_search(sigma_deg=8.0),
    "averages": make_search(**PLANE),
    "shifts only": make_search(free=Free.SHIFTS),
    "class only": make_search(free=Free.CLASS, oversampling=0),
    "averages, class only": make_search(**PLANE, free=Free.CLASS, oversampling=0),
}


def other_phantom() -> NDArray[np.float32]:
    """The phantom without a part of it."""
    volume = phantom().copy()
    volume[: BOX // 2, :, BOX // 2 :] *= 0.2
    return volume


def class_case(search: Search) -> Case:
    """Two classes of maps, or three of averages, with priors that differ; half the particles begin in each."""
    case = make_case([optics_model()], per_group=4, signal=SIGNAL)
    volumes = [phantom() * np.float32(SIGNAL), other_phantom() * np.float32(SIGNAL)]
    centre = np.zeros((1, 2))
    if search.planar:
        images = [volumes[0].sum(0), volumes[0].sum(1), volumes[1].sum(2)]
        transforms = np.stack([transform_average(image, R_MAX) for image in images])
        centre = np.array([[1.0, -1.0], [0.0, 2.0], [-3.0, 0.0]])
    else:
        transforms = np.stack([transform_reference(v, R_MAX, PADDING) for v in volumes])
    n = len(transforms)
    # where orientations are not searched for a prior of directions is there all the same
    n_dir = search.n_directions if search.free is Free.ALL else 5
    prior = np.random.default_rng(7).uniform(0.5, 1.5, (n, n_dir))
    model = replace(
        case.model,
        transforms=transforms,
        data_vs_prior=np.repeat(case.model.data_vs_prior, n, 0),
        direction_prior=prior / prior.sum(),
        offset_centre_A=centre,
    )
    case.poses.class_number = 1.0 + np.arange(4) % n
    return replace(case, model=model)


def fixed_states(case: Case, i: int, search: Search) -> tuple[list[Scored], F64]:
    """Every class at the particle's own orientation, and the shifts that are tried."""
    poses = case.poses
    own = search.free is Free.CLASS
    shifts = (poses.origin_A[i] - prepare(case, i).old_A)[None] if own else search.fine_shifts_A
    direction = euler_to_matrix(poses.rot_deg[i : i + 1], poses.tilt_deg[i : i + 1], 0.0)
    direction = np.eye(3)[None] if search.planar else direction
    planes = []
    for k in range(len(case.model.transforms)):
        psi = (0, float(poses.psi_deg[i]))
        plane = score_plane(case, i, search, search.r_max, psi, direction, shifts, k)
        plane.value += np.log(case.model.direction_prior[k].sum())
        if not own:
            plane.value += np.repeat(log_offset(case, i, search, k), search.shift_children)
        planes.append(plane)
    return planes, shifts


def coarse_values(case: Case, i: int, search: Search) -> F64:
    """Log weights of all coarse states of a particle: (n_class, n_dir, n_psi, n_trans)."""
    prior = case.model.direction_prior
    flat = np.log(np.maximum(prior, np.exp(-8) * prior.max(axis=1, keepdims=True)))
    local = None if search.sigma_deg is None else local_log_prior(case, i, search)
    own = [flat[k][:, None] if local is None else local for k in range(len(prior))]
    value = np.stack([coarse_states(case, i, search, own[k], k) for k in range(len(prior))])
    if search.keep_class:
        value[np.arange(len(prior)) != case.poses.class_number[i] - 1] = -np.inf
    return value
