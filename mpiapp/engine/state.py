"""What an iteration carries: exactly what a checkpoint stores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.particles import Poses

F64 = NDArray[np.float64]
UNKNOWN = 999.0


@dataclass
class Schedule:
    """Sampling, resolution and convergence of a run (refinement.md 5.7, 6).

    Resolutions are in 1/A where the name says ``frequency``; lengths in A, angles in degrees.
    """

    healpix_order: int
    offset_range_A: float
    offset_step_A: float
    oversampling: int = 1
    iteration: int = 0
    perturbation: float = 0.0
    sigma_deg: float | None = None  # of the priors of a local search
    frequency: float = 0.0  # current resolution
    best_frequency: float = 0.0
    current_size: int = 0
    increment: int = 10
    high_fsc_at_limit: bool = False
    average_pmax: float = 0.0
    iterations_without_gain: int = 0
    iterations_without_changes: int = 0
    change_angle_deg: float = UNKNOWN
    change_offset_A: float = UNKNOWN
    smallest_angle_deg: float = UNKNOWN
    smallest_offset_A: float = UNKNOWN
    iterations_settled: int = 0  # in which poses changed hardly less than before: the run may end
    last_step_deg: float = 0.0  # fine angular step of the iteration before; 0: poses came from elsewhere
    accuracy_rot_deg: float = UNKNOWN
    accuracy_trans_A: float = UNKNOWN
    fine_enough: bool = False
    converged: bool = False
    psi_step_deg: float | None = None  # coarse in-plane step where references are class averages
    seeding: bool = False  # in iteration 1 each particle stays in the random class that it begins in
    change_class: float = UNKNOWN  # share of the particles whose class changed

    @property
    def step_deg(self) -> float:
        """Angular step of the fine pass."""
        if self.psi_step_deg is not None:
            return self.psi_step_deg / 2**self.oversampling
        return 360.0 / (6 * 2 ** (self.healpix_order + self.oversampling))

    @property
    def fine_offset_step_A(self) -> float:
        """Shift step of the fine pass."""
        return self.offset_step_A / 2**self.oversampling


@dataclass
class HalfState:
    """Model parameters of one half set, or of all particles (refinement.md 5.6); the maps are kept beside them."""

    sigma2: F64  # (n_optics, n_shells)
    scale: F64  # (n_groups,)
    direction_prior: F64  # (n_class, n_dir), sums to 1 over all
    offset_centre_A: F64  # (n_class, 2) mean offset; centre of the prior of class averages
    tau2: F64  # (n_class, n_shells)
    sigma2_ref: F64
    data_vs_prior: F64
    coverage: F64
    scalars: F64  # average norm, sigma_offset in A, log-likelihood, mean Pmax
    accuracy: F64  # (n_class, 2) expected accuracies of rotations in degrees and of shifts in A
    # (n_class,) how much better, in nats, an image fits the class that it is part of (model.own_share); empty: not known
    own_gain: F64 = field(default_factory=lambda: np.zeros(0))

    @property
    def average_norm(self) -> float:
        """Mean norm correction."""
        return float(self.scalars[0])

    @property
    def sigma_offset_A(self) -> float:
        """Standard deviation of the offsets."""
        return float(self.scalars[1])

    @property
    def n_class(self) -> int:
        """Number of references."""
        return len(self.direction_prior)

    @property
    def class_prior(self) -> F64:
        """(n_class,) share of the particles in each class."""
        return np.asarray(self.direction_prior.sum(axis=1))

    def with_copy(self, k: int, place: int) -> HalfState:
        """The parameters with those of class k in the place of another class; priors still sum to 1."""

        def copied(array: F64) -> F64:
            out = array.copy()
            out[place] = array[k]
            return out

        of_classes = ("offset_centre_A", "tau2", "sigma2_ref", "data_vs_prior", "coverage", "accuracy")
        prior = copied(self.direction_prior)
        new = {name: copied(getattr(self, name)) for name in of_classes}
        return replace(self, direction_prior=prior / prior.sum(), **new)

    def arrays(self) -> dict[str, F64]:
        """Fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def new_half(n_groups: int, sigma2: F64, direction_prior: F64, offset_A: float) -> HalfState:
    """Parameters before the first iteration.

    Parameters
    ----------
    sigma2 : (n_optics, n_shells);  direction_prior : (n_class, n_dir);  offset_A : first standard deviation of offsets
    """
    n_class = len(direction_prior)
    a, b, c, d = (np.zeros((n_class, sigma2.shape[1])) for _ in range(4))
    centre, accuracy = np.zeros((n_class, 2)), np.full((n_class, 2), UNKNOWN)
    scalars = np.array([1.0, offset_A, 0.0, 0.0])
    return HalfState(
        sigma2.copy(),
        np.ones(n_groups),
        direction_prior,
        centre,
        a,
        b,
        c,
        d,
        scalars=scalars,
        accuracy=accuracy,
        own_gain=np.zeros(n_class),
    )


@dataclass
class RunState:
    """The whole state of a refinement between two iterations."""

    schedule: Schedule
    halves: list[HalfState]
    maps: list[NDArray[np.float32]]  # references of each half, (n_class, box, box[, box])
    poses: Poses  # of all particles, in file order
    half: NDArray[np.int8]  # 1 or 2; all 1 in a classification
    fsc: F64
    seed: int
    anchor: F64  # mean map of the first iteration, low-passed, whose frame is kept; empty before
    anchor_frequency: float = 0.0  # its resolution in 1/A
    history: dict[str, list[float]] = field(default_factory=dict)
    moments: dict[str, Any] = field(default_factory=dict)  # of gradient steps, when a checkpoint is due

    def to_dict(self) -> dict[str, Any]:
        """Nested dict for a checkpoint."""
        return {
            "schedule": asdict(self.schedule),
            "halves": {str(h): s.arrays() for h, s in enumerate(self.halves)},
            "maps": {str(h): m for h, m in enumerate(self.maps)},
            "poses": {f.name: getattr(self.poses, f.name) for f in fields(self.poses)},
            "anchor": self.anchor,
            "anchor_frequency": self.anchor_frequency,
            "half": self.half,
            "fsc": self.fsc,
            "seed": self.seed,
            "history": {k: np.asarray(v, float) for k, v in self.history.items()},
            "moments": self.moments,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> RunState:
        """Inverse of :meth:`to_dict`."""
        count = len(stored["halves"])
        return cls(
            Schedule(**stored["schedule"]),
            [HalfState(**stored["halves"][str(h)]) for h in range(count)],
            [stored["maps"][str(h)] for h in range(count)],
            Poses(**stored["poses"]),
            stored["half"],
            stored["fsc"],
            stored["seed"],
            stored["anchor"],
            stored["anchor_frequency"],
            {k: list(v) for k, v in stored["history"].items()},
            stored.get("moments", {}),
        )
