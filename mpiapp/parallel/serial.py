"""One process that leads and works: the face of `Team` without messages and without copies."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpiapp.errors import ParallelError

from .threads import available_cores
from .topology import Share, assign_ranges

if TYPE_CHECKING:
    from .base import Array


class SerialTeam:
    """The only process: leader, and root and worker of every set.

    Methods as in :class:`mpiapp.parallel.base.Team`.

    Parameters
    ----------
    n_sets
        2 for halves, 1 for a classification.
    """

    rank = 0
    size = 1
    is_leader = True
    local_rank = 0
    local_size = 1
    local_worker = 0

    def __init__(self, n_sets: int = 2) -> None:
        self.n_sets = n_sets
        self.sets = tuple(range(n_sets))
        self.roots = (0,) * n_sets
        self.host = socket.gethostname()
        self.threads = len(available_cores())
        self._shares: dict[int, list[Share]] = {}

    def __str__(self) -> str:
        return f"1 process on {self.host}, without MPI"

    def is_root(self, s: int) -> bool:
        return s in self.sets

    def assign(self, counts: Sequence[int] | None) -> dict[int, list[Share]]:
        if counts is None or len(counts) != self.n_sets:
            raise ValueError(f"assign() needs {self.n_sets} counts, not {counts}")
        self._shares = assign_ranges(counts, (0,))
        return self._shares

    def my_ranges(self) -> dict[int, tuple[int, int]]:
        if not self._shares:
            raise RuntimeError("my_ranges() before assign()")
        return {s: (shares[0].start, shares[0].stop) for s, shares in self._shares.items()}

    def bcast(self, obj: Any) -> Any:
        return obj

    def allgather(self, obj: Any) -> list[Any]:
        return [obj]

    def bcast_array(self, array: Array | None) -> Array | None:
        return array

    def reduce_set(self, s: int, arrays: Sequence[Array]) -> list[Array] | None:
        return list(arrays)

    def allreduce_set(self, s: int, arrays: Sequence[Array]) -> list[Array] | None:
        return list(arrays)

    def to_leader(self, s: int, array: Array | None) -> Array | None:
        return array

    def to_root(self, s: int, array: Array | None) -> Array | None:
        return array

    def bcast_set(self, s: int, array: Array | None) -> Array | None:
        return array

    def from_leader_to_set(self, s: int, array: Array | None) -> Array | None:
        return array

    def gather_rows(self, s: int, array: Array | None) -> Array | None:
        start, stop = self.my_ranges()[s]
        rows = 0 if array is None else len(np.atleast_1d(array))
        if rows != stop - start:
            raise ParallelError(
                f"set {s}: {rows} rows were given for {stop - start} particles (program error)"
            )
        return array

    def any(self, flag: bool) -> bool:
        return bool(flag)

    def max(self, x: float) -> float:
        return float(x)

    def barrier(self) -> None:
        return None

    def leave(self, timeout_s: float) -> bool:
        return True

    def claim_report(self, patience_s: float) -> bool:
        return True

    def sound_alarm(self, reason: str) -> None:
        return None

    def hears_alarm(self) -> str:
        return ""

    def abort(self, code: int) -> None:
        os._exit(code)
