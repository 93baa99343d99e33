"""Ranks of one machine agree on who has which device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpiapp.errors import ConfigError
from mpiapp.parallel.devices import Device, bind_team

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpiapp.parallel.base import Team

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(60)]

DEVICES = tuple(Device(i, "card", f"GPU-{i}", 8 * 10**9) for i in range(2))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_rank_finds_the_same_placement(make_team: Callable[..., Team], size: int) -> None:
    team = make_team(size)
    seen = () if team.is_leader and size > 1 else DEVICES
    placement = bind_team(team, "", seen, lambda device: (6 - team.rank) * 10**9, leave_free=10**9)
    assert team.allgather(placement) == [placement] * size
    expected = {
        1: [(0, 0, 1, 5.0)],
        2: [(1, 0, 1, 4.0)],
        3: [(1, 0, 1, 4.0), (2, 1, 1, 3.0)],
        4: [(1, 0, 2, 1.0), (2, 1, 1, 3.0), (3, 0, 2, 1.0)],
    }
    found = [(b.rank, b.device.index, b.sharers, b.share / 1e9) for b in placement.bindings]
    assert found == expected[size]
    assert (placement.of(team.rank) is None) == (size > 1 and team.is_leader)


def test_a_wrong_index_is_an_error_at_every_rank(make_team: Callable[..., Team]) -> None:
    team = make_team(3)
    with pytest.raises(ConfigError, match="rank 2 on .* has no device 5"):
        bind_team(team, "0:5", () if team.is_leader else DEVICES, lambda device: 1)
    team.barrier()
