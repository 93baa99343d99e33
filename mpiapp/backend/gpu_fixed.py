"""What a batch is compared with on the device, and the states of particles that keep their orientations.

Where orientations are not searched for, every image has an in-plane angle and slices of its own (refinement.md 4.10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.arguments import log_row_prior, make_optics, make_pixels
from mpiapp.backend.base import HalfModel
from mpiapp.backend.candidates import fixed_candidates
from mpiapp.backend.gpu_groups import States
from mpiapp.backend.gpu_images import DeviceImages
from mpiapp.backend.gpu_pass import Pass
from mpiapp.backend.gpu_references import Slices
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.search import Free, Search

if TYPE_CHECKING:
    from mpiapp.backend.gpu_task import Task

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@dataclass
class Sampling:
    """Angles, shifts and slices of the fine pass over a batch."""

    fine: Pass
    per_class: int  # coarse rows of a class
    family: tuple[int, int, int]  # children of an in-plane angle, of a direction, of a shift
    slices: Callable[[Any], Slices]  # of the children of some coarse rows
    n_own: int = 0  # shifts, one for each image, where they are not searched for either

    def log_shift(self, searched: Any) -> Any:
        """Log prior of the coarse shifts: as in a search, or none where images keep theirs."""
        if not self.n_own:
            return searched
        shape = (self.n_own, 1, self.n_own)
        return self.fine.kernels.cupy.zeros(shape, np.float32)


def log_priors(model: HalfModel, search: Search) -> NDArray[np.float32]:
    """Log priors of the coarse rows; orientations that are not searched for have no prior but that of their class."""
    prior = model.direction_prior
    return log_row_prior(prior if search.free is Free.ALL else prior.sum(axis=1, keepdims=True))


def fixed_sampling(task: Task, data: ParticleData, poses: Poses, images: DeviceImages) -> Sampling:
    """Every class at the particles' own orientations, number i of the in-plane angles and directions."""
    search, put = task.search, task.cupy.asarray
    tried = search.free is Free.SHIFTS
    psi = np.deg2rad(poses.psi_deg)
    shifts = search.fine_shifts_A if tried else poses.origin_A - images.old_A
    even = task.fine.gamma_even
    if even is not None:
        pixels = make_pixels(task.setup, search.r_max)
        optics = make_optics(task.setup, task.model, pixels, poses.psi_deg, search.correlate)
        even = put(optics.gamma_even)
    own = replace(
        task.fine,
        cosine=put(np.cos(psi).astype(np.float32)),
        sine=put(np.sin(psi).astype(np.float32)),
        shift_A=put(np.ascontiguousarray(shifts, np.float32)),
        gamma_even=even,
    )
    directions = euler_to_matrix(poses.rot_deg, poses.tilt_deg, np.zeros(len(data)))
    if search.planar:
        directions = np.eye(3)[None]
    rows = task.references.all_rows(own, directions)
    every = task.cupy.arange(len(rows.matrices), dtype=np.int32)
    return Sampling(
        own,
        len(directions),
        (1, 1, search.shift_children if tried else 1),
        lambda _: Slices(rows, every),
        0 if tried else len(data),
    )


def fixed_states(
    task: Task, n: int, sampling: Sampling, only: I32 | None, own: F32 | None
) -> tuple[States, Any]:
    """Every class, and every shift that is tried, of n images; and their number for each image.

    Parameters
    ----------
    own : (n, n_class) log weights of the classes of each image beside their priors, or None.
    """
    n_shift = 0 if sampling.n_own else len(task.search.coarse_shifts_A)
    log_class = task.log_row if own is None else task.log_row + own
    found = fixed_candidates(n, log_class, n_shift, not task.search.planar, only)
    count = np.diff(found.offsets)
    put = task.cupy.asarray
    image = np.repeat(np.arange(n, dtype=np.int32), count)
    row, psi, shift = (put(np.ascontiguousarray(column)) for column in found.states.T)
    return States(put(image), psi, row, shift, put(found.priors)), put(count)
