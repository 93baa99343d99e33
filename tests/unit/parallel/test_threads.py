"""Division of processor cores among ranks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mpiapp.parallel.threads import Seat, core_share

ALL = frozenset(range(16))


def test_unbound_workers_divide_the_machine_and_the_leader_may_use_all() -> None:
    seats = [Seat("a", ALL)] * 5
    assert [core_share(seats, rank) for rank in range(5)] == [16, 4, 4, 4, 4]


def test_bound_workers_keep_their_own_cores() -> None:
    seats = [Seat("a", frozenset({0})), *(Seat("a", frozenset(range(4 * i, 4 * i + 4))) for i in range(4))]
    assert [core_share(seats, rank) for rank in range(5)] == [1, 4, 4, 4, 4]


def test_other_machines_do_not_count() -> None:
    seats = [Seat("a", ALL), Seat("a", ALL), Seat("b", ALL), Seat("b", ALL)]
    assert [core_share(seats, rank) for rank in range(4)] == [16, 16, 8, 8]


def test_more_ranks_than_cores_get_one_each() -> None:
    seats = [Seat("a", frozenset({0, 1}))] * 7
    assert [core_share(seats, rank) for rank in range(1, 7)] == [1] * 6


@pytest.mark.parametrize(
    ("user", "override", "expected"), [("", False, 2), ("1", False, 1), ("1", True, 2), ("x", False, 2)]
)
def test_limit_holds_for_loaded_and_later_libraries(user: str, override: bool, expected: int) -> None:
    code = f"""
import os
import numpy
from threadpoolctl import threadpool_info
from mpiapp.parallel.threads import limit_threads
assert limit_threads(2, override={override}) == {expected}
blas = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
assert all(n <= {expected} for n in blas), blas
assert os.environ["OMP_NUM_THREADS"] == "{expected}"
"""
    environ = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    if user:
        environ["OMP_NUM_THREADS"] = user
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, timeout=60)
