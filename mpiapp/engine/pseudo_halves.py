"""Sums of a mini-batch in two pseudo-halves: one set of sums whose grids hold classes k and K + k (refinement.md 7.4)."""

from __future__ import annotations

from dataclasses import replace

from mpiapp.backend.base import Backend, ImagingSetup
from mpiapp.model.arrays import module_of
from mpiapp.model.projection import grid_radius
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums


def stacked(first: WeightedSums, second: WeightedSums) -> WeightedSums:
    """Sums of both pseudo-halves, with their grids one after the other."""
    grid = module_of(first.grid).xp.concatenate([first.grid, second.grid])
    total = replace(first, grid=grid[:0]) + replace(second, grid=grid[:0])
    return replace(total, grid=grid)


def empty_sums(backend: Backend, setup: ImagingSetup, search: Search, n_class: int) -> WeightedSums:
    """What an expectation step of no particles leaves."""
    r = grid_radius(search.r_max, setup.padding)
    grid = (2 * r + 1, r + 1) if search.planar else (2 * r + 1, 2 * r + 1, r + 1)
    sums = WeightedSums.zeros(
        (n_class, *grid, 3), len(setup.optics), setup.n_shells, setup.n_groups, n_class, search.n_directions
    )
    return replace(sums, grid=backend.to_device(sums.grid))
