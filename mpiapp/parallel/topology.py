"""Which worker holds which particles: contiguous ranges of the list [set 0 | set 1]."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from mpiapp.errors import InputError

# A cut this close to the border between halves (as a part of one worker's share) is moved onto it: that much
# imbalance costs less than a second set of accumulators.
SNAP = 0.1


class Share(NamedTuple):
    """The range [start, stop) of a set's ordered list that a rank holds."""

    rank: int
    start: int
    stop: int


def worker_ranks(size: int) -> tuple[int, ...]:
    """Ranks that work: all but the leader, or the only one."""
    return tuple(range(1, size)) if size > 1 else (0,)


def divide(start: int, stop: int, n_parts: int) -> list[int]:
    """Cut [start, stop) into parts that differ by at most one: their n_parts starts, without the stop."""
    return [start + (stop - start) * i // n_parts for i in range(n_parts)]


def cut(counts: Sequence[int], n_workers: int) -> list[int]:
    """Cuts of the concatenated list of all sets, one range a worker.

    An even number of workers never straddles the border between halves, however the halves were drawn. With
    an odd number the middle worker does, unless a cut falls near the border anyway.

    Parameters
    ----------
    counts
        Number of particles of each set (one or two sets).
    n_workers
        Number of workers.

    Returns
    -------
    list of int
        n_workers + 1 ascending positions, the first 0 and the last the number of particles.
    """
    total = sum(counts)
    plain = [*divide(0, total, n_workers), total]
    if len(counts) == 1 or n_workers == 1:
        return plain
    border, share = counts[0], total / n_workers
    nearest = min(max(round(border / share), 1), n_workers - 1)
    if n_workers % 2 and abs(nearest * share - border) > SNAP * share:
        return plain
    return [*divide(0, border, nearest), *divide(border, total, n_workers - nearest), total]


def assign_ranges(counts: Sequence[int], workers: Sequence[int]) -> dict[int, list[Share]]:
    """Shares of each set, in the order of the set; a worker without particles of a set has no share of it.

    Raises
    ------
    InputError
        A set has no particles.
    """
    for s, count in enumerate(counts):
        if count < 1:
            name = f"half {s + 1}" if len(counts) > 1 else "the data set"
            raise InputError(
                f"{name} has {count} particles; at least one is needed. Check rlnRandomSubset and the "
                "selection."
            )
    cuts = cut(counts, len(workers))
    shares: dict[int, list[Share]] = {}
    offset = 0
    for s, count in enumerate(counts):
        ranges = [
            (min(max(lo - offset, 0), count), min(max(hi - offset, 0), count)) for lo, hi in pairwise(cuts)
        ]
        shares[s] = [Share(rank, lo, hi) for rank, (lo, hi) in zip(workers, ranges, strict=True) if hi > lo]
        offset += count
    return shares


def usual_members(n_sets: int, workers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Workers of each set for sets of equal size: the roles before any particles are assigned."""
    shares = assign_ranges([10_000 * len(workers)] * n_sets, workers)
    return {s: tuple(share.rank for share in shares[s]) for s in shares}
