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
            mine = [k for k in self.classes_here(len(old), working) if weight[k] > 0]
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
            reference, spectra = self._reference(grid[k], old[k], r_max)
            if self.centre_px > 0:
                reference = moved(reference, centring(reference, self.centre_px))
            new[k], packed[k] = self._filtered(reference, lowpass_A), spectra.packed()
        return (new if self.team.size == 1 else to_host(new)), packed

    def classes_here(self, n_class: int, working: list[bool]) -> range:
        """Classes that this rank reconstructs, as ``working`` tells which ranks do."""
        last = n_class if working[self.team.rank] else 0
        return range(sum(working[: self.team.rank]), last, sum(working))

    def _reference(self, grid: F64, old: F32, r_max: int) -> tuple[F32, Spectra]:
        """New reference of one class from its sums, with the power of the old one as prior."""
        setup, o = self.setup, self.options
        grid, tau2 = self._complete(grid), self._power(old, r_max)
        spectra = self._spectra(grid, tau2, o.tau2_fudge)
        if old.ndim == 3:
            return regularised_map(setup, grid, spectra, o.tau2_fudge, o.minres_map, o.workers), spectra
        new = average_from_sums(
            grid, tau2, setup.box, setup.padding, tau2_fudge=o.tau2_fudge, minres_map=o.minres_map
        )
        return new, spectra

    def _complete(self, grid: F64) -> F64:
        """Sums with both stored copies of the plane x = 0 added, and those of symmetry mates."""
        if grid.ndim == 3:
            hermitian_sum_planes(grid)
            return grid
        hermitian_sum(grid)
        return self.backend.symmetrise(grid, self.setup.group, self.setup.padding)

    def _power(self, reference: F32, r_max: int) -> F64:
        """Signal power of a reference by shell."""
        n_shells, padding = self.setup.n_shells, self.setup.padding
        if reference.ndim == 2:
            return average_spectrum(transform_average(reference, r_max), n_shells)
        transform = transform_reference(reference, r_max, padding, workers=self.options.workers)
        return reference_spectrum(transform, padding, n_shells)

    def _spectra(self, grid: F64, tau2: F64, tau2_fudge: float) -> Spectra:
        padding = self.setup.padding
        if grid.ndim == 3:
            return average_spectra(grid, tau2, padding, tau2_fudge=tau2_fudge)
        workers = self.options.workers
        return spectra_from_reference(grid, tau2, padding, tau2_fudge=tau2_fudge, workers=workers)

    def _filtered(self, new: F32, lowpass_A: float) -> F32:
        """A reference as the next iteration takes it: low-passed in the first, without solvent."""
        if lowpass_A > 0:
            one = lowpass_average if new.ndim == 2 else lowpass_map
            new = one(new, self.setup.pixel_size_A, lowpass_A).astype(np.float32)
        return new * self.solvent if self.options.flatten else new


def centring(reference: F32, largest_px: float) -> F64:
    """Shift in whole pixels, x first, that brings the centre of mass to the middle of the box."""
    limit = np.floor(largest_px)
    return np.asarray(np.clip(np.rint(-centre_of_mass(reference)), -limit, limit))


def moved(reference: F32, shift_px: F64) -> F32:
    """The reference moved by whole pixels, x first."""
    steps = tuple(int(s) for s in shift_px[::-1])
    rolled: F32 = module_of(reference).xp.roll(reference, steps, axis=tuple(range(reference.ndim)))
    return rolled
