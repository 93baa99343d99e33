"""What one expectation step searches: orientations, shifts and their children (refinement.md 4.3, 4.4, 4.11)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.sampling import (
    DirectionGrid,
    child_pixels,
    child_psi,
    child_translations,
    direction_matrices,
    pixel_angles,
    translations,
)


class Free(Enum):
    """Which of a particle's parameters are searched for (refinement.md 4.10)."""

    ALL = "all"
    SHIFTS = "shifts"  # --skip_rotate: shifts and class
    CLASS = "class"  # --skip_align: the class only


@dataclass(frozen=True)
class Search:
    """Sampling and selection of one expectation step.

    Attributes
    ----------
    grid : coarse directions and in-plane angles.
    oversampling : each direction has 4^o children, each in-plane angle 2^o, each shift 4^o.
    perturbation : u in [-0.5, 0.5], in units of the coarse steps.
    offset_range_A, offset_step_A : coarse shifts.
    sigma_deg : standard deviation of the priors of a local search, or None for a global one.
    correlate : normalised cross-correlation instead of the likelihood; only the best state counts.
    r_coarse, r_max : highest frequency of the coarse pass and of everything else, pixels of the model.
    fraction, max_significant : which states are significant.
    coarse_fraction : the fraction of the coarse pass; None for that of the fine pass.
    planar : references are class averages: one direction, without children, searched in the plane.
    r_score : highest frequency that counts in the scores of the fine pass; None for r_max.
    free : what is searched for.
    keep_class : a particle is compared with the class that it is in only.
    prior_perturbed : priors of a local search are measured from the perturbed grid, not from where it was.
    """

    grid: DirectionGrid
    oversampling: int
    perturbation: float
    offset_range_A: float
    offset_step_A: float
    sigma_deg: float | None
    correlate: bool
    r_coarse: int
    r_max: int
    fraction: float
    max_significant: int
    planar: bool = False
    r_score: int | None = None
    free: Free = Free.ALL
    keep_class: bool = False
    prior_perturbed: bool = False
    coarse_fraction: float | None = None

    @property
    def passed_on(self) -> float:
        """Share of the weight that the coarse pass passes on to the fine one."""
        return self.fraction if self.coarse_fraction is None else self.coarse_fraction

    @property
    def n_directions(self) -> int:
        """Number of coarse directions that priors and sums are kept for."""
        return int(self.grid.rot_deg.size) if self.free is Free.ALL else 1

    @property
    def children(self) -> int:
        """Children of a direction."""
        return 1 if self.planar else int(4**self.oversampling)

    @property
    def shift_children(self) -> int:
        """Children of a shift."""
        return int(4**self.oversampling)

    @property
    def turn_deg(self) -> float:
        """Perturbation of directions; averages are perturbed in their plane."""
        return 0.0 if self.planar else self.perturbation * self.grid.step_deg

    @cached_property
    def coarse_matrices(self) -> NDArray[np.float64]:
        """D_d of every coarse direction: (n_dir, 3, 3)."""
        return direction_matrices(self.grid.rot_deg, self.grid.tilt_deg, self.turn_deg)

    @cached_property
    def fine_matrices(self) -> NDArray[np.float64]:
        """D_d of every fine direction, children of one coarse direction together: (n_dir * children, 3, 3)."""
        if self.planar:
            return self.coarse_matrices
        pixels = child_pixels(self.grid.pixel, self.oversampling).ravel()
        rot, tilt = pixel_angles(self.grid.order + self.oversampling, pixels)
        return direction_matrices(rot, tilt, self.turn_deg)

    @cached_property
    def coarse_psi_deg(self) -> NDArray[np.float64]:
        """In-plane angles of the coarse pass."""
        turn = self.perturbation * self.grid.psi_step_deg if self.planar else 0.0
        return self.grid.psi_deg + turn

    def coarse_matrices_of(self, directions: NDArray[np.integer]) -> NDArray[np.float64]:
        """D_d of some coarse directions, (n, 3, 3): fine grids have too many to make them all."""
        return direction_matrices(
            self.grid.rot_deg[directions], self.grid.tilt_deg[directions], self.turn_deg
        )

    def fine_rows_of(self, directions: NDArray[np.integer]) -> NDArray[np.int64]:
        """Numbers of the children of some coarse directions, as in `fine_matrices`: (n * children,)."""
        rows = directions[:, None].astype(np.int64) * self.children + np.arange(self.children)
        return np.asarray(rows.ravel())

    def fine_matrices_of(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """D_d of some fine directions, numbered as in `fine_matrices`: (n, 3, 3)."""
        if self.planar:
            return self.coarse_matrices_of(rows)
        direction, child = np.divmod(np.asarray(rows, np.int64), self.children)
        pixels = self.grid.pixel[direction].astype(np.int64) * self.children + child
        rot, tilt = pixel_angles(self.grid.order + self.oversampling, pixels)
        return direction_matrices(rot, tilt, self.turn_deg)

    @cached_property
    def fine_psi_deg(self) -> NDArray[np.float64]:
        """In-plane angles of the fine pass, children of one coarse angle together."""
        return child_psi(self.coarse_psi_deg, self.grid.psi_step_deg, self.oversampling).ravel()

    @cached_property
    def coarse_shifts_A(self) -> NDArray[np.float64]:
        """(n_trans, 2) shifts of the coarse pass."""
        lattice = translations(self.offset_range_A, self.offset_step_A)
        return lattice + self.perturbation * self.offset_step_A

    @cached_property
    def fine_shifts_A(self) -> NDArray[np.float64]:
        """(n_trans * shift_children, 2) shifts of the fine pass."""
        return child_translations(self.coarse_shifts_A, self.offset_step_A, self.oversampling).reshape(-1, 2)
