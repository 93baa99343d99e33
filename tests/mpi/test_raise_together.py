"""A fault at one rank is an error at every rank, with its message and exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mpiapp.errors import InputError
from mpiapp.parallel.errors import FailedElsewhere, raise_together

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpiapp.parallel.base import Team

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(60)]


def fail_together(team: Team, fault: Exception | None) -> None:
    with raise_together(team):
        if fault is not None:
            raise fault


@pytest.mark.parametrize("at_fault", [0, 1, 2])
def test_the_fault_of_one_rank_is_raised_at_all(make_team: Callable[..., Team], at_fault: int) -> None:
    team = make_team(3)
    expected = InputError if team.rank == at_fault else FailedElsewhere
    fault = InputError("particles.star: no such file") if team.rank == at_fault else None
    with pytest.raises(expected, match=r"particles.star: no such file") as caught:
        fail_together(team, fault)
    assert caught.value.exit_code == InputError.exit_code
    if team.rank != at_fault:
        assert f"rank {at_fault} on " in str(caught.value)
    assert team.allgather(team.rank) == [0, 1, 2]  # the ranks are still in step


def test_no_fault_raises_nothing(make_team: Callable[..., Team]) -> None:
    team = make_team(3)
    with raise_together(team):
        value = team.rank
    assert team.allgather(value) == [0, 1, 2]


def test_faults_at_two_ranks_keep_their_own_messages(make_team: Callable[..., Team]) -> None:
    team = make_team(3)
    expected = {0: "rank 1 on .*: first", 1: "^first$", 2: "^second$"}[team.rank]
    fault = {0: None, 1: ValueError("first"), 2: ValueError("second")}[team.rank]
    with pytest.raises((ValueError, FailedElsewhere), match=expected):
        fail_together(team, fault)
