"""Every method of `MpiTeam` against the same run in one process, on 1 to 4 ranks and with tiny pieces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mpiapp.errors import InputError, ParallelError
from mpiapp.parallel.serial import SerialTeam

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpiapp.parallel.base import Team

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(60)]

COUNTS = {1: [23], 2: [11, 14]}
SIZES = (1, 2, 3, 4)
# 10 bytes: pieces that end within a number; the other one holds everything
PIECES = (10, 1 << 28)


def particles(s: int, n: int) -> Any:
    """Rows that tell set and particle: whole numbers, so that sums are exact in any order."""
    return 1000.0 * s + np.arange(n, dtype=np.float64)[:, None] * np.array([1.0, -2.0, 3.0])


def iteration(team: Team, counts: list[int]) -> dict[str, Any]:
    """A small refinement iteration by all the messages of the engine; the leader's results are returned."""
    team.assign(counts if team.is_leader else None)
    results: dict[str, Any] = {}
    reference = team.bcast_array(
        np.arange(24, dtype=np.complex64).reshape(2, 3, 4) if team.is_leader else None
    )
    for s in range(team.n_sets):
        half_map = team.from_leader_to_set(
            s, np.full((5, 3), s + 0.5, np.float32) if team.is_leader else None
        )
        sums, rows = [], None
        if s in team.sets:
            start, stop = team.my_ranges()[s]
            mine = particles(s, counts[s])[start:stop]
            weights = (mine.sum(axis=0) * half_map[0, 0]).astype(np.float32)
            sums = [mine.sum(axis=0) * reference[1, 2, 3], weights, np.array(len(mine)), np.zeros((0, 2))]
            rows = np.concatenate([mine, np.arange(start, stop)[:, None]], axis=1)
        total = team.reduce_set(s, sums)
        sent = [team.to_leader(s, total[i] if total else None) for i in range(4)]
        gathered = team.gather_rows(s, rows)
        if team.is_leader:
            results |= {f"sum {s} {i}": value for i, value in enumerate(sent)}
            results[f"rows {s}"] = gathered
    return results


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n_sets", [1, 2])
@pytest.mark.parametrize("piece_bytes", PIECES)
def test_an_iteration_gives_the_sums_and_rows_of_one_process(
    make_team: Callable[..., Team], size: int, n_sets: int, piece_bytes: int
) -> None:
    team = make_team(size, n_sets, piece_bytes)
    found = iteration(team, COUNTS[n_sets])
    expected = iteration(SerialTeam(n_sets), COUNTS[n_sets])
    if not team.is_leader:
        assert found == {}
        return
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    rows = particles(n_sets - 1, COUNTS[n_sets][-1])
    np.testing.assert_array_equal(found[f"sum {n_sets - 1} 0"], rows.sum(axis=0) * 23)


@pytest.mark.parametrize(
    ("size", "members"),
    [(1, [(0,), (0,)]), (2, [(1,), (1,)]), (3, [(1,), (2,)]), (4, [(1, 2), (2, 3)])],
)
def test_roles(make_team: Callable[..., Team], size: int, members: list[tuple[int, ...]]) -> None:
    team = make_team(size)
    expected = tuple(s for s in (0, 1) if team.rank in members[s])
    assert team.sets == expected  # before any assignment
    shares = team.assign([100, 100] if team.is_leader else None)
    assert [tuple(share.rank for share in shares[s]) for s in (0, 1)] == members
    assert team.sets == expected
    assert tuple(team.my_ranges()) == expected
    assert team.roots == (members[0][0], members[1][0])
    assert [team.is_root(s) for s in (0, 1)] == [team.rank == root for root in team.roots]
    assert team.is_leader == (team.rank == 0)
    assert (team.local_rank, team.local_size) == (team.rank, size)  # the tests run on one machine
    assert team.local_worker == max(team.rank - 1, 0)
    assert team.threads >= 1


def test_roles_follow_a_new_assignment(make_team: Callable[..., Team]) -> None:
    team = make_team(4)
    team.assign([10, 20] if team.is_leader else None)  # a border at a third: no worker straddles
    members = [team.allgather(s in team.sets) for s in (0, 1)]
    assert members == [[False, True, False, False], [False, False, True, True]]
    total = team.allreduce_set(1, [np.ones(3)])
    assert (total is None) == (team.rank < 2)
    if total:
        np.testing.assert_array_equal(total[0], [2, 2, 2])


def test_a_worker_without_particles_takes_no_part(make_team: Callable[..., Team]) -> None:
    team = make_team(4, 1)
    team.assign([2] if team.is_leader else None)
    working = team.allgather(bool(team.sets))
    assert sum(working) == 2
    assert working[0] is False
    rows = np.array([float(team.rank)]) if team.sets else None
    found = team.gather_rows(0, rows)
    if team.is_leader:
        assert found is not None
        assert found.tolist() == [rank for rank in range(4) if working[rank]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece_bytes", PIECES)
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "float16", "float32", "float64", "complex64", "complex128"]
)
def test_transfers_keep_every_bit(
    make_team: Callable[..., Team], size: int, piece_bytes: int, dtype: str
) -> None:
    team = make_team(size, 2, piece_bytes)
    sent = (np.random.default_rng(3).normal(size=(3, 4, 5)) * 9).astype(dtype)[:, ::2]  # not contiguous
    at = {
        "to_leader": lambda s: team.is_leader,
        "to_root": team.is_root,
        "bcast_set": lambda s: s in team.sets,
        "from_leader_to_set": lambda s: s in team.sets or team.is_leader,
    }
    source = {"to_leader": team.is_root, "bcast_set": team.is_root}
    for s in (0, 1):
        for name, arrives in at.items():
            has = source.get(name, lambda s: team.is_leader)(s)
            got = getattr(team, name)(s, sent if has else None)
            if arrives(s):
                assert got is not None, name
                assert got.dtype == sent.dtype
                np.testing.assert_array_equal(got, sent, err_msg=name)
            else:
                assert got is None, name
            assert getattr(team, name)(s, None) is None


@pytest.mark.parametrize("size", SIZES)
def test_small_messages(make_team: Callable[..., Team], size: int) -> None:
    team = make_team(size)
    assert team.bcast({"order": 3} if team.is_leader else None) == {"order": 3}
    assert team.allgather(team.rank**2) == [rank**2 for rank in range(size)]
    assert team.any(team.rank == size - 1) is True
    assert team.any(False) is False
    assert team.max(-float(team.rank) - 1.5) == -1.5
    assert team.bcast_array(None) is None
    team.barrier()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64", "complex64", "complex128"])
def test_allreduce_is_in_place_at_every_worker(make_team: Callable[..., Team], size: int, dtype: str) -> None:
    team = make_team(size, 1, 24)
    mine = np.arange(30).astype(dtype).reshape(5, 6) * (team.rank + 1)
    total = team.allreduce_set(0, [mine])
    workers = range(1, size) if size > 1 else (0,)
    if team.sets:
        assert total is not None
        assert total[0] is mine
        expected = np.arange(30).astype(dtype).reshape(5, 6) * sum(rank + 1 for rank in workers)
        np.testing.assert_array_equal(mine, expected)
    else:
        assert total is None


def test_reduce_leaves_the_arrays_of_other_workers(make_team: Callable[..., Team]) -> None:
    team = make_team(3, 1)
    mine = np.full(7, float(team.rank))
    total = team.reduce_set(0, [mine])
    assert (total is not None) == team.is_root(0)
    np.testing.assert_array_equal(mine, np.full(7, 3.0 if team.is_root(0) else float(team.rank)))


@pytest.mark.parametrize("wrong", [np.zeros(5), np.zeros(4, np.float32)])
def test_sums_of_different_arrays_are_refused_at_all_workers(
    make_team: Callable[..., Team], wrong: Any
) -> None:
    team = make_team(3, 1)
    mine = [wrong] if team.rank == 2 else [np.zeros(4)]
    if team.is_leader:
        assert team.reduce_set(0, mine) is None
    else:
        with pytest.raises(ParallelError, match="set 0 add up different arrays"):
            team.reduce_set(0, mine)
    team.barrier()


@pytest.mark.parametrize("rows", [np.zeros((4, 2)), np.zeros((5, 3)), np.zeros((5, 2), np.float32)])
def test_rows_that_do_not_fit_are_refused_at_all_ranks(make_team: Callable[..., Team], rows: Any) -> None:
    team = make_team(3, 1)
    team.assign([10])
    mine = {0: None, 1: np.zeros((5, 2)), 2: rows}[team.rank]
    with pytest.raises(ParallelError, match="rank 2 gives rows"):
        team.gather_rows(0, mine)
    team.barrier()


def test_an_empty_half_is_refused_at_all_ranks(make_team: Callable[..., Team]) -> None:
    team = make_team(3)
    with pytest.raises(InputError, match="half 2 has 0 particles"):
        team.assign([10, 0] if team.is_leader else None)
    team.barrier()


@pytest.mark.parametrize("method", ["barrier", "bcast", "to_leader", "from_leader_to_set", "gather_rows"])
def test_waiting_leaves_the_processor_to_others(make_team: Callable[..., Team], method: str) -> None:
    team = make_team(2, 1)
    team.assign([4])
    late_rank = 1 if method in ("to_leader", "gather_rows") else 0
    arguments: tuple[Any, ...] = {"barrier": (), "bcast": (1,)}.get(method, (0, np.zeros(4)))
    team.barrier()
    if team.rank == late_rank:
        time.sleep(0.6)
    begin, busy = time.monotonic(), time.process_time()
    getattr(team, method)(*arguments)
    if team.rank != late_rank:
        assert time.monotonic() - begin > 0.5
        assert time.process_time() - busy < 0.2
    team.barrier()


def test_leave_waits_for_all_or_times_out(make_team: Callable[..., Team]) -> None:
    team = make_team(2)
    assert team.leave(10.0)
    if team.is_leader:
        assert not team.leave(0.2)
        team.barrier()
    else:
        team.barrier()
        assert team.leave(10.0)  # the leader's announcement still stands
