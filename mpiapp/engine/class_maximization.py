"""The maximization step of a classification: every class on one of the workers (refinement.md 5, engine.md 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, ImagingSetup
from mpiapp.engine.iteration import Options
from mpiapp.engine.maximization import regularised_map
from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.averages import (
    average_from_sums,
    average_spectra,
    average_spectrum,
    centre_of_mass,
    hermitian_sum_planes,
    lowpass_average,
    transform_average,
)
from mpiapp.model.filters import lowpass_map
from mpiapp.model.projection import reference_spectrum, transform_reference
from mpiapp.model.reconstruct import Spectra, hermitian_sum, spectra_from_reference
from mpiapp.model.sums import N_SUMS, WeightedSums
from mpiapp.parallel.base import Team

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass
class ClassResult:
    """What the maximization leaves on the leader; references are at all ranks."""

    small: list[F64]  # arrays of WeightedSums but the grid
    spectra: list[Spectra]


class ClassMaximization:
    """Reconstruction of all classes over a team.

    Parameters
    ----------
    centre_px : references are moved to their centre of mass, by at most so many pixels; 0 leaves them
    """

    def __init__(
        self,
        team: Team,
        backend: Backend,
        setup: ImagingSetup,
        options: Options,
        solvent: F32,
        centre_px: float,
    ) -> None:
        self.team, self.backend, self.setup, self.options = team, backend, setup, options
        self.solvent, self.centre_px = backend.to_device(solvent), centre_px

    def run(
        self, sums: dict[int, WeightedSums], maps: list[F32 | None], r_max: int, lowpass_A: float
    ) -> ClassResult:
        """Reduce the sums, reconstruct, and leave the new references at all ranks (all ranks).

        Parameters
        ----------
        maps : references that entered the iteration, replaced
        lowpass_A : low-pass of the new references; none if not positive
        """
        team = self.team
        working = team.allgather(0 in team.sets)
        own = sums[0].arrays() if 0 in sums else []
        # sums of an iteration that was stopped come back in host memory
        grid = self.backend.allreduce_grid(team, 0, self.backend.to_device(own[0]) if own else None)
        rest = team.allreduce_set(0, own[1:])
        total = None if rest is None or grid is None else [grid, *rest]
        new: F32 | None = None
        packed: F64 | None = None
        if total is not None and 0 in team.sets:
            old = maps[0]
            assert old is not None
            weight = WeightedSums.from_arrays(total).direction_weight.sum(axis=1)
            mine = [k for k in range(sum(working[: team.rank]), len(old), sum(working)) if weight[k] > 0]
            new, packed = self._references(mine, grid, old, r_max, lowpass_A)
            shared = team.allreduce_set(0, [new, packed])
            assert shared is not None
            new, packed = shared
        root = team.is_root(0) and total is not None
        small = [team.to_leader(0, total[k] if root and total else None) for k in range(1, N_SUMS)]
        on_leader = team.to_leader(0, new if root else None)
        rows = team.to_leader(0, packed if root else None)
        maps[0] = new if new is not None else on_leader
        spectra_of = [] if rows is None else [Spectra(*row) for row in rows]
        return ClassResult([a for a in small if a is not None], spectra_of)

    def _references(
        self, classes: list[int], grid: F64, old: F32, r_max: int, lowpass_A: float
    ) -> tuple[F32, F64]:
        """New references of some classes, zeros for the others, and their spectra: (n_class, 4, n_shells).

        A single process leaves the references where they are computed: a device need not fetch them again.
        """
        old = self.backend.to_device(old)
        new = module_of(old).xp.zeros_like(old)
        packed = np.zeros((len(old), 4, self.setup.n_shells))
        for k in classes:
            new[k], spectra = self._reference(grid[k], old[k], r_max, lowpass_A)
            packed[k] = spectra.sigma2_ref, spectra.tau2, spectra.data_vs_prior, spectra.coverage
        return (new if self.team.size == 1 else to_host(new)), packed

    def _reference(self, grid: F64, old: F32, r_max: int, lowpass_A: float) -> tuple[F32, Spectra]:
        """New reference of one class from its sums, with the power of the old one as prior."""
        if old.ndim == 2:
            new, spectra = self._average(grid, old, r_max)
        else:
            new, spectra = self._volume(grid, old, r_max)
        if self.centre_px > 0:
            new = centred(new, self.centre_px)
        if lowpass_A > 0:
            one = lowpass_average if old.ndim == 2 else lowpass_map
            new = one(new, self.setup.pixel_size_A, lowpass_A).astype(np.float32)
        if self.options.flatten:
            new = new * self.solvent
        return new, spectra

    def _volume(self, grid: F64, old: F32, r_max: int) -> tuple[F32, Spectra]:
        setup, o = self.setup, self.options
        hermitian_sum(grid)
        grid = self.backend.symmetrise(grid, setup.group, setup.padding)
        transform = transform_reference(old, r_max, setup.padding, workers=o.workers)
        tau2 = reference_spectrum(transform, setup.padding, setup.n_shells)
        spectra = spectra_from_reference(grid, tau2, setup.padding, tau2_fudge=o.tau2_fudge)
        return regularised_map(setup, grid, spectra, o.tau2_fudge, o.minres_map, o.workers), spectra

    def _average(self, grid: F64, old: F32, r_max: int) -> tuple[F32, Spectra]:
        setup, o = self.setup, self.options
        hermitian_sum_planes(grid)
        tau2 = average_spectrum(transform_average(old, r_max), setup.n_shells)
        spectra = average_spectra(grid, tau2, setup.padding, tau2_fudge=o.tau2_fudge)
        new = average_from_sums(
            grid, tau2, setup.box, setup.padding, tau2_fudge=o.tau2_fudge, minres_map=o.minres_map
        )
        return new, spectra


def centred(reference: F32, largest_px: float) -> F32:
    """The reference moved by whole pixels such that its centre of mass is in the middle of the box."""
    shift = np.clip(np.rint(-centre_of_mass(reference)), -np.floor(largest_px), np.floor(largest_px))
    steps = tuple(int(s) for s in shift[::-1])
    rolled: F32 = module_of(reference).xp.roll(reference, steps, axis=tuple(range(reference.ndim)))
    return rolled
