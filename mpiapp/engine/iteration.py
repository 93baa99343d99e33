"""One iteration of auto-refinement on all ranks (engine.md 8).

The halves meet in three places only: :meth:`Iteration._join_low_resolution`, :meth:`Iteration._fsc` and
:meth:`Iteration._join_all` of the last iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, HalfModel, ImagingSetup, ReadImages
from mpiapp.backend.map_memory import LEAST, reconstruction_items
from mpiapp.backend.memory import total
from mpiapp.engine.frame import Drift
from mpiapp.engine.maximization import (
    join_radius,
    low_resolution_part,
    regularised_map,
    set_low_resolution_part,
)
from mpiapp.engine.schedule import Policy, coarse_radius, score_radius
from mpiapp.engine.state import HalfState, Schedule
from mpiapp.model.arrays import module_of, slabs_of, to_host
from mpiapp.model.averages import transform_average
from mpiapp.model.fsc import fsc_of_half_grids, solvent_corrected_fsc
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.projection import transform_reference, translate
from mpiapp.model.reconstruct import Spectra, downsampled_average, hermitian_sum, spectra_from_fsc
from mpiapp.model.sampling import direction_grid
from mpiapp.model.search import Search
from mpiapp.model.sums import N_SUMS, WeightedSums
from mpiapp.parallel.base import Team

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
HALVES = (0, 1)


@dataclass(frozen=True)
class Options:
    """Options of the two steps that do not change during a run."""

    join_A: float
    tau2_fudge: float
    minres_map: int
    adaptive_fraction: float
    max_significant: int
    strict_highres_A: float
    solvent_correct_fsc: bool
    flatten: bool
    workers: int


@dataclass
class Share:
    """Particles of one half that this rank works on."""

    rows: NDArray[np.int64]  # in file order of the whole set
    data: ParticleData
    poses: Poses


@dataclass
class MapResult:
    """What the maximization leaves; everything on the leader, maps also at the workers of their half."""

    fsc: F64
    small: list[list[F64]]  # arrays of WeightedSums but the grid, per half (leader)
    spectra: list[Spectra]  # leader
    joined: F32 | None  # final map (leader)
    unfiltered: list[F32]  # final half maps (leader)


def make_search(policy: Policy, options: Options, s: Schedule, sym: str, correlate: bool) -> Search:
    """Search grid of an iteration."""
    r_max = s.current_size // 2
    return Search(
        direction_grid(s.healpix_order, sym),
        s.oversampling,
        s.perturbation,
        s.offset_range_A,
        s.offset_step_A,
        s.sigma_deg,
        correlate,
        coarse_radius(policy, s, r_max, options.strict_highres_A),
        r_max,
        options.adaptive_fraction,
        options.max_significant,
        r_score=score_radius(policy, r_max, options.strict_highres_A),
    )


class Iteration:
    """Expectation and maximization over a team."""

    def __init__(
        self, team: Team, backend: Backend, setup: ImagingSetup, options: Options, solvent: F32
    ) -> None:
        self.team, self.backend, self.setup, self.options, self.solvent = (
            team,
            backend,
            setup,
            options,
            solvent,
        )
        self._solvent_here = backend.to_device(solvent)

    def expectation(
        self,
        search: Search,
        halves: list[HalfState],
        maps: list[F32 | None],
        shares: dict[int, Share],
        drifts: list[Drift],
        read: ReadImages,
        step: Callable[[int], bool],
    ) -> tuple[dict[int, WeightedSums], dict[int, NDArray[np.bool_]]]:
        """Sums of this rank's particles of each half; their poses are replaced in ``shares``."""
        sums, bad = {}, {}
        for h, share in shares.items():
            reference = maps[h]
            assert reference is not None
            model = self._half_model(halves[h], reference, search, drifts[h])
            sums[h], poses, bad[h] = self.backend.expectation(
                self.setup, model, search, share.data, share.poses, read, step
            )
            poses.put(np.flatnonzero(bad[h]), share.poses.take(np.flatnonzero(bad[h])))
            share.poses = poses
            if len(shares) > 1:
                sums[h].grid = self._beside(sums[h].grid)
        return sums, bad

    def _beside(self, grid: F64) -> F64:
        """Sums of a half as they wait while the other is worked on: in host memory where they take too much of a device."""
        return grid if self.backend.stays(grid.nbytes) else to_host(grid)

    def _half_model(self, half: HalfState, references: F32, search: Search, drift: Drift) -> HalfModel:
        if search.planar:
            transforms = transform_average(self.backend.to_device(references), search.r_max)
        else:
            transforms = self._transforms(references, search, drift)
        return HalfModel(
            transforms,
            half.sigma2,
            half.data_vs_prior,
            half.scale,
            half.average_norm,
            half.direction_prior,
            half.sigma_offset_A,
            drift.rotation,
            half.offset_centre_A if search.planar else np.zeros((1, 2)),
            half.own_gain,
        )

    def _transforms(self, references: F32, search: Search, drift: Drift) -> NDArray[np.complex64]:
        """Maps as they are sliced, in one array: a list of them would have to be copied into one on a device."""
        first = self._transform(references[0], search, drift)
        if len(references) == 1:
            return first[None]
        stack = self._empty_like(first, len(references))
        stack[0] = first
        del first
        for k in range(1, len(references)):
            stack[k] = self._transform(references[k], search, drift)
        return stack

    def _empty_like(self, transform: NDArray[np.complex64], n: int) -> NDArray[np.complex64]:
        def work() -> NDArray[np.complex64]:
            out: NDArray[np.complex64] = module_of(transform).xp.empty((n, *transform.shape), np.complex64)
            return out

        return self.backend.within_memory("the transforms of the references", work)

    def _transform(self, reference: F32, search: Search, drift: Drift) -> NDArray[np.complex64]:
        """A map as it is sliced."""
        setup = self.setup
        shift, workers = drift.shift_A / setup.pixel_size_A, self.options.workers

        def work() -> NDArray[np.complex64]:
            here = self.backend.to_device(reference)
            transform = transform_reference(here, search.r_max, setup.padding, workers=workers)
            translate(transform, shift, setup.box, setup.padding)
            return transform

        return self.backend.within_memory(f"the transform of a reference of {setup.box} px", work)

    def maximization(
        self, sums: dict[int, WeightedSums], s: Schedule, maps: list[F32 | None], seed: int
    ) -> MapResult:
        """Reduce the sums, reconstruct, and leave the new maps where they are needed."""
        team = self.team
        grids: list[F64 | None] = [None, None]
        small: list[list[F64]] = []
        both_here = len(sums) > 1
        for h in HALVES:
            mine: list[Any] = sums.pop(h).arrays() if h in sums else [None]
            # nothing keeps the sums of a half here, or symmetrised ones could not take their place
            grids[h] = self._whole_grid(h, mine.pop(0), both_here)
            reduced = team.reduce_set(h, mine)
            root = team.is_root(h)
            rest = [team.to_leader(h, reduced[k] if root and reduced else None) for k in range(N_SUMS - 1)]
            small.append([a for a in rest if a is not None])
        unfiltered = self._unfiltered(grids) if s.converged else []
        self._join_low_resolution(grids, s)
        fsc = self._fsc(grids, s, seed)
        if s.converged:
            joined, spectra = self._join_all(grids, fsc)
            return MapResult(fsc, small, spectra, joined, unfiltered)
        spectra = self._half_maps(grids, fsc, maps)
        return MapResult(fsc, small, spectra, None, [])

    def _whole_grid(self, h: int, grid: Any, both_here: bool) -> F64 | None:
        """Sums of all workers of a half, with both stored copies of a plane and symmetry mates added; at the root."""
        # sums of an iteration that was stopped come back in host memory
        if grid is not None and not both_here:
            grid = self.backend.to_device(grid)
        grid = self.backend.reduce_grid(self.team, h, grid)
        if grid is None:
            return None
        whole: F64 = grid[0]  # a refinement has one class
        hermitian_sum(whole)
        group = self.setup.group
        if group.order > 1:
            whole = self.backend.symmetrise(self.backend.to_device(whole), group, self.setup.padding)
        return self._beside(whole) if both_here else whole

    def _unfiltered(self, grids: list[F64 | None]) -> list[F32]:
        """Half maps without a prior, on the leader; made before any joining, so independent at all shells."""
        out = []
        for h in HALVES:
            grid = grids[h]
            volume = self.team.to_leader(h, None if grid is None else to_host(self._map(grid, None)))
            if volume is not None:
                out.append(volume)
        return out

    def _map(self, grid: F64, spectra: Spectra | None) -> F32:
        o, setup, grid = self.options, self.setup, self.backend.to_device(grid)

        def work() -> F32:
            return regularised_map(setup, grid, spectra, o.tau2_fudge, o.minres_map, o.workers)

        needs = total(
            reconstruction_items(setup.box, setup.padding, symmetric=setup.group.order > 1, memory=LEAST)
        )
        return self.backend.within_memory(f"the reconstruction of a map of {setup.box} px", work, needs)

    def _spectra(self, grid: F64, fsc: F64, joined: bool = False) -> Spectra:
        grid = self.backend.to_device(grid)

        def work() -> Spectra:
            return spectra_from_fsc(
                grid,
                fsc,
                self.setup.padding,
                tau2_fudge=self.options.tau2_fudge,
                joined=joined,
                workers=self.options.workers,
            )

        return self.backend.within_memory("the spectra of a map", work)

    def _join_low_resolution(self, grids: list[F64 | None], s: Schedule) -> None:
        """Average both halves where orientations could otherwise drift apart (refinement.md 5.4)."""
        radius = join_radius(self.setup, self.options.join_A, s.frequency)
        if not radius:
            return
        parts = []
        for h in HALVES:
            grid = grids[h]
            part = None if grid is None else to_host(low_resolution_part(grid, radius))
            parts.append(self.team.to_leader(h, part))
        mean = None
        if self.team.is_leader:
            assert parts[0] is not None
            assert parts[1] is not None
            mean = 0.5 * (parts[0] + parts[1])
        for h in HALVES:
            values = self.team.to_root(h, mean)
            grid = grids[h]
            if grid is not None and values is not None:
                set_low_resolution_part(grid, radius, module_of(grid).xp.asarray(values))

    def _fsc(self, grids: list[F64 | None], s: Schedule, seed: int) -> F64:
        """Gold-standard FSC on all ranks: unmasked, or corrected for the solvent mask (refinement.md 2.7, 5.5)."""
        r_max, n = s.current_size // 2, self.setup.n_shells
        local: list[NDArray[np.generic] | None] = []
        for g in grids:
            if g is None:
                local.append(None)
            elif self.options.solvent_correct_fsc:
                local.append(self._map(g, None))
            else:
                local.append(self._average(g, r_max))
        if self.team.size > 1 or self.options.solvent_correct_fsc:
            local = [to_host(array) for array in local]
        both = [self.team.to_leader(h, local[h]) for h in HALVES]
        fsc = None
        if both[0] is not None and both[1] is not None:
            if self.options.solvent_correct_fsc:
                fsc = solvent_corrected_fsc(
                    both[0],
                    both[1],
                    self.solvent,
                    seed + s.iteration,
                    last_shell=r_max,
                    workers=self.options.workers,
                ).corrected
            else:
                fsc = fsc_of_half_grids(both[0], both[1], r_max, n)
        fsc = self.team.bcast_array(fsc)
        assert fsc is not None
        return np.asarray(fsc, np.float64)

    def _average(self, grid: F64, r_max: int) -> NDArray[np.complex128]:
        grid = self.backend.to_device(grid)

        def work() -> NDArray[np.complex128]:
            return downsampled_average(grid, r_max, self.setup.padding)

        return self.backend.within_memory("the average of a half for the FSC", work)

    def _half_maps(self, grids: list[F64 | None], fsc: F64, maps: list[F32 | None]) -> list[Spectra]:
        """Reconstruct each half with the prior that the FSC gives; maps go to the half's workers and the leader."""
        new: list[F32 | None] = [None, None]
        local: list[Spectra | None] = [None, None]
        for h in HALVES:
            grid = grids[h]
            if grid is not None:
                grid = self.backend.to_device(grid)
                local[h] = self._spectra(grid, fsc)
                volume = self._map(grid, local[h])
                if self.options.flatten:
                    volume = volume * self._solvent_here
                new[h] = to_host(volume)[None]
        out = []
        for h in HALVES:
            on_leader = self.team.to_leader(h, new[h])
            at_workers = self.team.bcast_set(h, new[h])
            maps[h] = at_workers if at_workers is not None else on_leader
            spectra_here = local[h]
            packed = None if spectra_here is None else spectra_here.packed()
            rows = self.team.to_leader(h, packed)
            if rows is not None:
                out.append(Spectra(*rows))
        return out

    def _join_all(self, grids: list[F64 | None], fsc: F64) -> tuple[F32 | None, list[Spectra]]:
        """The final map from both halves' sums, on the leader (refinement.md 6.4)."""
        other = grids[1]
        if self.team.size > 1:
            other = self.team.to_root(0, self.team.to_leader(1, to_host(other)))
        volume: F32 | None = None
        spectra = None
        grid = grids[0]
        if grid is not None and other is not None:
            add_to(grid, other)
            grids[1] = other = None
            grid = self.backend.to_device(grid)
            spectra = self._spectra(grid, fsc, joined=True)
            volume = self._map(grid, spectra)
        volume = self.team.to_leader(0, to_host(volume))
        rows = self.team.to_leader(0, None if spectra is None else spectra.packed())
        return volume, [] if rows is None else [Spectra(*rows)] * 2


def add_to(grid: F64, other: F64) -> None:
    """Add other sums, which may lie in host memory, to those of a half in place."""
    for part in slabs_of(grid):
        grid[part] += module_of(grid).xp.asarray(other[part])


def joined_sums(small: list[list[F64]]) -> list[list[F64]]:
    """Small sums of both halves together, for the final parameters."""
    both = [a + b for a, b in zip(*small, strict=True)]
    return [both, both]


def uniform_prior(half: HalfState, n_directions: int) -> HalfState:
    """The half with flat priors over the directions of a new grid; classes keep their sizes."""
    each = half.class_prior[:, None] / n_directions
    return replace(half, direction_prior=np.repeat(each, n_directions, axis=1))
