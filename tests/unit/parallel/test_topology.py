"""Properties of the division of particles among workers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpiapp.errors import InputError
from mpiapp.parallel.topology import Share, assign_ranges, usual_members, worker_ranks

halves = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
any_counts = st.one_of(st.tuples(st.integers(1, 10_000)), halves)


@given(counts=any_counts, n_workers=st.integers(1, 40))
def test_each_particle_has_one_owner_and_ranks_ascend(counts: tuple[int, ...], n_workers: int) -> None:
    shares = assign_ranges(counts, range(1, n_workers + 1))
    for s, count in enumerate(counts):
        owned = np.concatenate([np.arange(share.start, share.stop) for share in shares[s]])
        np.testing.assert_array_equal(owned, np.arange(count))
        ranks = [share.rank for share in shares[s]]
        assert ranks == sorted(set(ranks))
        assert all(share.stop > share.start for share in shares[s])


@given(counts=halves, n_pairs=st.integers(1, 20))
def test_even_numbers_of_workers_never_straddle(counts: tuple[int, int], n_pairs: int) -> None:
    shares = assign_ranges(counts, range(2 * n_pairs))
    assert not {share.rank for share in shares[0]} & {share.rank for share in shares[1]}


@given(counts=any_counts, n_workers=st.integers(1, 41))
def test_at_most_one_worker_straddles(counts: tuple[int, ...], n_workers: int) -> None:
    shares = assign_ranges(counts, range(n_workers))
    if len(counts) == 2:
        both = {share.rank for share in shares[0]} & {share.rank for share in shares[1]}
        assert len(both) <= 1


@given(n=st.integers(200, 5000), n_workers=st.integers(1, 40))
def test_equal_halves_give_nearly_equal_loads(n: int, n_workers: int) -> None:
    shares = assign_ranges((n, n), range(n_workers))
    loads = np.zeros(n_workers)
    for share in [*shares[0], *shares[1]]:
        loads[share.rank] += share.stop - share.start
    assert loads.max() - loads.min() <= 1


@given(n=st.integers(1000, 20_000), imbalance=st.integers(0, 50), n_workers=st.integers(2, 41))
def test_random_halves_cost_little_balance(n: int, imbalance: int, n_workers: int) -> None:
    total = 2 * n + imbalance
    shares = assign_ranges((n, n + imbalance), range(n_workers))
    loads = np.zeros(n_workers)
    for share in [*shares[0], *shares[1]]:
        loads[share.rank] += share.stop - share.start
    # no worker is later than a tenth of a share, or than its part of the difference of the halves
    assert loads.max() <= total / n_workers * 1.1 + imbalance / 2 + 1


@pytest.mark.parametrize(
    ("counts", "workers", "expected"),
    [
        ((7,), (0,), {0: [(0, 0, 7)]}),
        ((3, 4), (0,), {0: [(0, 0, 3)], 1: [(0, 0, 4)]}),
        ((3, 4), (1,), {0: [(1, 0, 3)], 1: [(1, 0, 4)]}),
        ((50, 50), (1, 2, 3), {0: [(1, 0, 33), (2, 33, 50)], 1: [(2, 0, 16), (3, 16, 50)]}),
        # a border 9 % of a share beside the cut is snapped to, one 12 % beside is not
        ((103, 197), (1, 2, 3), {0: [(1, 0, 103)], 1: [(2, 0, 98), (3, 98, 197)]}),
        ((112, 188), (1, 2, 3), {0: [(1, 0, 100), (2, 100, 112)], 1: [(2, 0, 88), (3, 88, 188)]}),
        ((30, 30), (1, 2, 3, 4), {0: [(1, 0, 15), (2, 15, 30)], 1: [(3, 0, 15), (4, 15, 30)]}),
        ((1, 1), (1, 2, 3, 4), {0: [(2, 0, 1)], 1: [(4, 0, 1)]}),
    ],
)
def test_examples(
    counts: tuple[int, ...], workers: tuple[int, ...], expected: dict[int, list[tuple[int, int, int]]]
) -> None:
    assert assign_ranges(counts, workers) == {s: [Share(*x) for x in expected[s]] for s in expected}


def test_worker_ranks() -> None:
    assert worker_ranks(1) == (0,)
    assert worker_ranks(2) == (1,)
    assert worker_ranks(4) == (1, 2, 3)


def test_usual_members() -> None:
    assert usual_members(2, (1, 2, 3)) == {0: (1, 2), 1: (2, 3)}
    assert usual_members(1, (1, 2)) == {0: (1, 2)}


@pytest.mark.parametrize(("counts", "name"), [((0, 5), "half 1"), ((5, 0), "half 2"), ((0,), "the data set")])
def test_a_set_without_particles_is_an_input_error(counts: tuple[int, ...], name: str) -> None:
    with pytest.raises(InputError, match=f"{name} has 0 particles"):
        assign_ranges(counts, (1, 2))
