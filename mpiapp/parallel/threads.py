"""How many processor cores a process may use, and telling the numerical libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Seat(NamedTuple):
    """Where a rank sits: machine and the cores that it may run on."""

    host: str
    cores: frozenset[int]


def available_cores() -> frozenset[int]:
    """Cores on which the scheduler lets this process run."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def core_share(seats: Sequence[Seat], rank: int) -> int:
    """Cores for one rank: each core is shared equally by the workers that may run on it.

    So ranks that the launcher bound to cores of their own get all of those, and unbound ranks divide the
    machine. The leader with workers is not counted: it works while they wait, and may use all the cores that
    it sees.

    Parameters
    ----------
    seats
        Machine and cores of each rank.
    rank
        The rank asked for.

    Returns
    -------
    int
        At least 1.
    """
    mine = seats[rank]
    if rank == 0:
        return max(len(mine.cores), 1)
    neighbours = [seat.cores for seat in seats[1:] if seat.host == mine.host]
    share = sum(1.0 / sum(core in cores for cores in neighbours) for core in mine.cores)
    return max(int(share + 1e-6), 1)


def limit_threads(n: int, *, override: bool = False) -> int:
    """Make BLAS, OpenMP and numba use `n` threads, and return the number in force.

    A user's OMP_NUM_THREADS wins unless `override`. Libraries loaded already are limited at run time; those
    loaded later read the environment.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0 and not override:
        return int(wanted)
    for name in VARIABLES:
        # numba refuses a changed variable once its threads run
        if not (name == "NUMBA_NUM_THREADS" and "numba" in sys.modules):
            os.environ[name] = str(n)
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    from threadpoolctl import threadpool_limits

    threadpool_limits(n)
    return n
