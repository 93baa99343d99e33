"""Stages of a planned refinement follow the rules of the schedule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mpiapp.backend.memory import near_counts
from mpiapp.config.plan import PlanConfig
from mpiapp.engine.memory_plan import final_order, last_shell, stages
from mpiapp.engine.schedule import Policy, needed_step_deg
from mpiapp.model.local_search import local_neighbourhoods
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.sampling import angular_step_deg, direction_grid
from mpiapp.model.symmetry import point_group


@pytest.mark.parametrize(("box", "diameter"), [(64, 150.0), (256, 190.3), (360, 330.0)])
@pytest.mark.parametrize("fine_order", [3, 4, 5])
def test_an_order_serves_up_to_where_the_schedule_wants_a_finer_step(
    box: int, diameter: float, fine_order: int
) -> None:
    policy = Policy(box, 1.24, diameter)
    step, shell = angular_step_deg(fine_order), last_shell(policy, fine_order)
    assert needed_step_deg(policy, policy.frequency(shell)) >= step - 1e-9
    assert needed_step_deg(policy, policy.frequency(shell + 1)) < step


@pytest.mark.parametrize("order", [3, 4])
def test_neighbours_are_as_many_as_a_local_search_finds(order: int) -> None:
    sigma = 2 * angular_step_deg(order + 1)
    rng = np.random.default_rng(5)
    angles = [rng.uniform(0, 360, 40), np.degrees(np.arccos(rng.uniform(-1, 1, 40))), rng.uniform(0, 360, 40)]
    grid, group = direction_grid(order, "C1"), point_group("C1")
    near = local_neighbourhoods(euler_to_matrix(*angles), grid, group, sigma)
    sphere = 12 * 4**order
    n_dir, n_psi = near_counts(sphere, grid.n_psi, sphere, grid.psi_step_deg, sigma)
    assert n_dir == pytest.approx(near.direction.size / 40, rel=0.06)
    offset = np.abs((grid.psi_deg - angles[2][:, None] + 180) % 360 - 180)
    count = (offset < 3 * sigma).sum(axis=1)
    assert count.max() <= n_psi <= count.max() + 1


def test_stages_go_from_the_start_to_full_size() -> None:
    config = PlanConfig(box=360, angpix=1.24, particle_diameter=330.0, sym="D2").validate()
    found = stages(config)
    assert found[0].name == "start"
    assert found[-1].name == "final"
    assert found[-1].image_size == 360
    assert found[-1].resolution_A == pytest.approx(2.48)
    for a, b in itertools.pairwise(found):
        assert b.load.r_max >= a.load.r_max
        assert b.step_deg <= a.step_deg
        assert (b.load, b.step_deg) != (a.load, a.step_deg)
    by_name = {stage.name: stage.load for stage in found}
    assert by_name["order 3"].n_dir == direction_grid(3, "D2").n_directions
    assert by_name["order 3"].near is None
    assert by_name["order 4"].near is not None
    assert by_name["start"].r_max == 11 + 10  # 360 * 1.24 / 40 is 11.2


@pytest.mark.parametrize(
    "options",
    [
        {"box": 16},
        {"box": 600, "angpix": 0.5, "particle_diameter": 200.0},
        {"oversampling": 0, "offset_range": 0.0},
        {"ini_high": 2.0},
        {"healpix_order": 6, "auto_local_healpix_order": 7, "particle_diameter": 10.0},
        {"healpix_order": 5, "box": 64},
    ],
)
def test_extreme_sizes_have_a_plan(options: dict[str, object]) -> None:
    found = stages(PlanConfig.from_options(options).validate())
    assert found[-1].name == "final"
    for load in (stage.load for stage in found):
        assert min(load.n_dir, load.n_psi, *(load.near or ())) > 0


def test_the_final_order_is_the_last_of_the_stages() -> None:
    config = PlanConfig(box=256, particle_diameter=190.0).validate()
    policy = Policy(256, 1.0, 190.0)
    order = final_order(policy, 2, 1)
    assert stages(config)[-1].load.n_dir == direction_grid(order, "C1").n_directions
    assert last_shell(policy, order + 1) >= 128 > last_shell(policy, order)
    assert final_order(policy, 8, 1) == 8
