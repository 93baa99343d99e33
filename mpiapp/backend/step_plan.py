"""What an expectation step on a device will do: its tables, its way of adding up, its batches (engine.md 4, 5, 7).

The one place where this is decided: the backend asks here before each step, the table at the start of a run and
``mpiapp plan`` ask here ahead of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpiapp.backend.base import ImagingSetup
from mpiapp.backend.batches import even_batch
from mpiapp.backend.memory import (
    Item,
    Load,
    Tables,
    left_free,
    near_counts,
    orientation_bytes,
    step_items,
    table_bytes,
    total,
)
from mpiapp.backend.reach import map_pixels
from mpiapp.model.search import Free, Search

# batches in work at the same time: one computes while another waits for its numbers or images
LANES = 2
# beyond the largest a batch hides no more of what its launches cost on the host
LARGEST_BATCH = 2048
# shares of the memory that a table of slices that can be left out, and the sums by orientation, may take
TABLE_SHARE, SUMS_SHARE = 0.1, 0.16
# a table pays when it has at most this many directions for every particle, and for this many particles at least
DIRECTIONS_PER_PARTICLE, FEW_PARTICLES = 8, 64
FULL_SPHERE = 12  # HEALPix pixels of order 0


@dataclass(frozen=True)
class StepPlan:
    """An expectation step as a process with some memory does it.

    Attributes
    ----------
    memory : bytes that the process may use;  cache : bytes of the images that are kept, 0 where they must be given up.
    fitting : images that each lane has memory for; 0 where the step runs out of memory by plan.
    batch : images of a batch, evenly dealt; at least 1.
    """

    load: Load
    memory: int
    cache: int
    tables: Tables
    items: tuple[Item, ...]
    fitting: int
    batch: int

    @property
    def coarse_route(self) -> str:
        """Where scores of the coarse pass come from."""
        if not self.load.searched:
            return "known"
        if self.load.near is None:
            return "dense"
        return "table" if self.tables.coarse else "interpolate"

    @property
    def fine_route(self) -> str:
        """Where fine slices come from: a table, or the reference for each batch."""
        return "table" if self.tables.fine else "interpolate"

    @property
    def sums_route(self) -> str:
        """Where images are added: to sums by orientation, or to the accumulators."""
        return "slice-space" if self.tables.sums else "scatter"

    def held(self, item: Item) -> int:
        """Bytes of an item, those of images for all lanes."""
        return item.held(self.batch) * (LANES if item.per_image else 1)

    @property
    def total(self) -> int:
        """Bytes of the step with the images that are kept and what is left free."""
        return left_free(self.memory) + self.cache + sum(self.held(item) for item in self.items)


def plan_step(load: Load, memory: int, cache: int, tables: bool = True) -> StepPlan:
    """Decide what a step does.

    A lane is given a batch as if the scores of all its images were held at once. They are not, and what that leaves is
    for the scores and states of the fine pass. Images are given up where beside them not one fits that is worked on.

    Parameters
    ----------
    memory : bytes that the process may use;  cache : bytes of the images that are kept so far.
    tables : False leaves out the tables that can be left out, for want of memory.
    """
    chosen = _tables(load, memory, tables)
    items = step_items(load, chosen, memory)
    fixed = total(items)
    room = max(memory - left_free(memory) - cache - fixed, 0) // LANES
    fitting = min(LARGEST_BATCH, room // (total(items, 1) - fixed))
    if not fitting and cache:
        return plan_step(load, memory, 0, tables)
    batch = even_batch(load.particles, max(1, fitting), LANES)
    return StepPlan(load, memory, cache, chosen, items, fitting, batch)


def _tables(load: Load, memory: int, allowed: bool) -> Tables:
    limit = TABLE_SHARE * memory if allowed else 0.0
    coarse = load.near is None or _pays(load, load.r_coarse, 1, limit)
    fine = load.searched and _pays(load, load.r_max, load.children, limit)
    sums = fine and load.one_geometry and orientation_bytes(load) <= SUMS_SHARE * memory
    return Tables(load.searched and coarse, fine, sums)


def _pays(load: Load, radius: int, children: int, limit: float) -> bool:
    """Whether to slice all directions once rather than those that a batch needs."""
    rows = load.classes * load.n_dir * children
    few = rows <= DIRECTIONS_PER_PARTICLE * max(load.particles, FEW_PARTICLES)
    return table_bytes(load, radius, children) <= limit and (few or load.planar)


def load_of(setup: ImagingSetup, search: Search, classes: int, particles: int, number_bytes: int) -> Load:
    """What the memory of a step depends on.

    Parameters
    ----------
    particles : of the step;  number_bytes : size of a number in the score products.
    """
    searched = search.free is Free.ALL
    n_dir, n_psi = search.n_directions, int(search.grid.psi_deg.size) if searched else 1
    near = None if searched else (1, 1)
    if search.sigma_deg is not None:
        sphere = n_dir * setup.group.order if search.planar else FULL_SPHERE * 4**search.grid.order
        near = near_counts(n_dir, n_psi, sphere, search.grid.psi_step_deg, search.sigma_deg)
    kinds = {(o.box, o.pixel_size_A) for o in setup.optics}
    return Load(
        box=max(o.box for o in setup.optics),
        padding=setup.padding,
        r_max=search.r_max,
        r_coarse=search.r_coarse,
        n_dir=n_dir,
        n_psi=n_psi,
        n_shifts=len(search.coarse_shifts_A),
        near=near,
        children=search.children,
        psi_children=2**search.oversampling,
        classes=classes,
        particles=particles,
        number_bytes=number_bytes,
        planar=search.planar,
        searched=searched,
        n_map=max(len(map_pixels(setup, *kind, search.r_max)) for kind in kinds),
        one_geometry=len(kinds) == 1 and len({o.magnification for o in setup.optics}) == 1,
    )
