"""The plan of a step: what is kept, by which route, and a batch that fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpiapp.backend.base import ImagingSetup
from mpiapp.backend.memory import BESIDE_SHARE, RESERVED, Load, Tables, orientation_bytes, table_bytes, total
from mpiapp.backend.step_plan import (
    DIRECTIONS_PER_PARTICLE,
    LANES,
    LARGEST_BATCH,
    SUMS_SHARE,
    TABLE_SHARE,
    load_of,
    plan_step,
)
from mpiapp.model.particles import OpticsModel
from mpiapp.model.sampling import direction_grid
from mpiapp.model.search import Free, Search
from mpiapp.model.symmetry import point_group

GLOBAL = Load(
    box=64, padding=2.0, r_max=20, r_coarse=12, n_dir=192, n_psi=24, n_shifts=29, particles=1_000_000
)
LOCAL = replace(GLOBAL, near=(29, 7))
MIB, GIB = 1 << 20, 1 << 30
OPTICS = OpticsModel(64, 2.0, 1.0, (1.0, 0.0, 0.0, 1.0), (), (), False)


def with_free(size: int) -> int:
    """Memory of which a step is left so many bytes, or one more."""
    return int(np.ceil((RESERVED + size) / (1 - BESIDE_SHARE)))


@pytest.mark.parametrize("load", [GLOBAL, LOCAL])
@pytest.mark.parametrize("free", [3 * MIB, 12 * MIB, 60 * MIB, 10_000 * MIB])
@pytest.mark.parametrize("cache", [0, 64 * MIB])
def test_the_batches_of_all_lanes_fit_and_are_the_largest_that_do(load: Load, free: int, cache: int) -> None:
    memory = with_free(cache + free)
    plan = plan_step(load, memory, cache)
    fixed = total(plan.items)
    each = total(plan.items, 1) - fixed
    room = free + cache - plan.cache  # images may have been given up
    if plan.fitting:
        assert fixed + LANES * plan.fitting * each <= room
        assert plan.total <= memory
        assert plan.batch <= plan.fitting
    if plan.fitting < LARGEST_BATCH:
        assert fixed + LANES * (plan.fitting + 1) * each > room


def test_particles_are_dealt_evenly() -> None:
    plan = plan_step(replace(GLOBAL, particles=5000), 80 * GIB, 0)
    assert plan.fitting == LARGEST_BATCH
    assert plan.batch == 1250  # twice on each of two lanes
    assert plan_step(replace(GLOBAL, particles=3), 80 * GIB, 0).batch == 2


def test_a_table_is_kept_where_it_is_small_and_pays() -> None:
    size = table_bytes(LOCAL, LOCAL.r_max, LOCAL.children)
    small, large = int(0.99 * size / TABLE_SHARE), int(1.01 * size / TABLE_SHARE)
    assert plan_step(LOCAL, small, 0).fine_route == "interpolate"
    assert plan_step(LOCAL, large, 0).fine_route == "table"
    assert plan_step(LOCAL, large, 0, tables=False).fine_route == "interpolate"
    few = 192 * 4 // DIRECTIONS_PER_PARTICLE
    assert plan_step(replace(LOCAL, particles=few), large, 0).tables.fine
    assert not plan_step(replace(LOCAL, particles=few - 1), large, 0).tables.fine
    assert plan_step(replace(LOCAL, particles=few - 1, planar=True), large, 0).tables.fine


def test_dense_products_always_have_their_table() -> None:
    assert plan_step(GLOBAL, 1000, 0, tables=False).tables == Tables(True, False, False)
    assert plan_step(LOCAL, 1000, 0).coarse_route == "interpolate"


def test_sums_by_orientation_where_they_fit_and_images_are_alike() -> None:
    enough = int(1.01 * orientation_bytes(GLOBAL) / SUMS_SHARE)
    assert plan_step(GLOBAL, enough, 0).sums_route == "slice-space"
    assert plan_step(GLOBAL, int(0.98 * enough), 0).sums_route == "scatter"
    assert plan_step(replace(GLOBAL, one_geometry=False), enough, 0).sums_route == "scatter"
    assert plan_step(GLOBAL, enough, 0, tables=False).sums_route == "scatter"


def test_known_poses_need_no_tables() -> None:
    plan = plan_step(replace(GLOBAL, searched=False, near=(1, 1), n_dir=1, n_psi=1), 8 * GIB, 0)
    assert plan.tables == Tables(False, False, False)
    assert plan.coarse_route == "known"


def test_images_are_given_up_where_nothing_can_be_worked_on_beside_them() -> None:
    fixed = total(plan_step(LOCAL, RESERVED, 0, tables=False).items)
    memory = with_free(fixed + 200 * MIB)
    assert plan_step(LOCAL, memory, 150 * MIB, tables=False).cache == 150 * MIB
    tight = plan_step(LOCAL, memory, 200 * MIB, tables=False)
    assert tight.cache == 0
    assert tight.fitting > 0


def test_a_device_that_is_too_small() -> None:
    plan = plan_step(GLOBAL, 1000, 500)
    assert plan.fitting == 0
    assert plan.batch == 1  # what is tried all the same


def setup(*optics: OpticsModel, sym: str = "C1") -> ImagingSetup:
    return ImagingSetup(64, 2.0, 2.0, 100.0, 5.0, True, optics, 1, point_group(sym), 1)


SEARCH = Search(direction_grid(2, "C1"), 1, 0.3, 9.0, 6.0, None, False, 12, 20, 0.999, 0)


def test_the_load_of_a_search_by_hand() -> None:
    load = load_of(setup(OPTICS), SEARCH, 3, 500, 2)
    expected = replace(
        GLOBAL, n_shifts=len(SEARCH.coarse_shifts_A), classes=3, particles=500, n_map=load.map_pixels
    )
    assert load == expected
    assert load.map_pixels == replace(load, n_map=0).map_pixels  # image and model are alike
    near = load_of(setup(OPTICS), replace(SEARCH, sigma_deg=5.0), 1, 500, 2).near
    assert near == (int(192 * (1 - np.cos(np.deg2rad(15))) / 2) + 1, 3)
    known = load_of(setup(OPTICS), replace(SEARCH, free=Free.SHIFTS), 1, 500, 2)
    assert (known.searched, known.near, known.n_dir, known.n_psi) == (False, (1, 1), 1, 1)


def test_images_of_several_kinds_are_noticed() -> None:
    other = replace(OPTICS, box=96, pixel_size_A=4 / 3)
    load = load_of(setup(OPTICS, other), SEARCH, 1, 500, 2)
    assert not load.one_geometry
    assert load.box == 96
    assert load_of(setup(OPTICS, replace(OPTICS, premultiplied=True)), SEARCH, 1, 500, 2).one_geometry
    turned = replace(OPTICS, magnification=(1.01, 0.0, 0.0, 1.0))
    assert not load_of(setup(OPTICS, turned), SEARCH, 1, 500, 2).one_geometry
