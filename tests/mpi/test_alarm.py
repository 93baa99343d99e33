"""A request to end at one rank is heard by all others, while they do something else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mpiapp.parallel.stop import StopFlag
from mpiapp.parallel.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpiapp.parallel.mpi_team import MpiTeam

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(60)]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("asking", [0, 1])
def test_the_reason_arrives_at_every_rank(make_team: Callable[..., MpiTeam], size: int, asking: int) -> None:
    team, stop = make_team(size), StopFlag()
    with watch(team, stop):
        if team.rank == asking:
            stop.ask("signal SIGUSR1 received")
        end = time.monotonic() + 10
        while not stop.raised and time.monotonic() < end:
            time.sleep(0.05)
        told = team.allgather(stop.reason)
    expected = ["signal SIGUSR1 received" + f" (rank {asking})" * (rank != asking) for rank in range(size)]
    assert told == expected


def test_nothing_is_heard_without_an_alarm(make_team: Callable[..., MpiTeam]) -> None:
    team, stop = make_team(2), StopFlag()
    with watch(team, stop):
        time.sleep(1.2)
        assert not team.any(stop.raised)
