"""Leader and workers under MPI: the face of `Team` over communicators."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from mpiapp.errors import ParallelError

from . import pieces
from .buffers import as_buffer
from .threads import Seat, available_cores, core_share
from .topology import Share, assign_ranges, usual_members, worker_ranks

if TYPE_CHECKING:
    from .base import Array


_FAILED_TAG = 9
_ALARM_TAG = 11
_ALARM_BYTES = 256


class MpiTeam:
    """The processes of one communicator. Methods as in :class:`mpiapp.parallel.base.Team`.

    Parameters
    ----------
    comm
        Communicator of all processes of the run; it is duplicated, so other users of it do not interfere.
    n_sets
        2 for halves, 1 for a classification.
    piece_bytes
        Largest buffer handed to MPI at once; below 2^31.
    local
        (local rank, local size) as the launcher told; None to ask MPI which processes share memory.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        n_sets: int = 2,
        *,
        piece_bytes: int = pieces.PIECE_BYTES,
        local: tuple[int, int] | None = None,
    ) -> None:
        self._world = comm.Dup()
        self._exit = comm.Dup()
        self._alarm = comm.Dup()
        # other threads than the main one send and hear it
        self._has_alarm = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._piece_bytes = piece_bytes
        self.rank: int = self._world.rank
        self.size: int = self._world.size
        self.is_leader = self.rank == 0
        self.n_sets = n_sets
        self.host = socket.gethostname()
        self._find_neighbours(local)
        self._workers = worker_ranks(self.size)
        self._shares: dict[int, list[Share]] = {}
        self._members: dict[int, tuple[int, ...]] = {}
        self._set_comms: dict[int, MPI.Comm] = {}
        self._leader_comms: dict[int, MPI.Comm] = {}
        self._form_sets(usual_members(n_sets, self._workers))

    def __str__(self) -> str:
        vendor, version = MPI.get_vendor()
        library = f"{vendor} {'.'.join(map(str, version))}"
        return f"{self.size} processes on {self._n_hosts} host(s), {library}"

    # --- who is who --------------------------------------------------------------------------------

    @property
    def sets(self) -> tuple[int, ...]:
        return tuple(s for s in range(self.n_sets) if self.rank in self._members[s])

    @property
    def roots(self) -> tuple[int, ...]:
        return tuple(self._members[s][0] for s in range(self.n_sets))

    def is_root(self, s: int) -> bool:
        return self._members[s][0] == self.rank

    def assign(self, counts: Sequence[int] | None) -> dict[int, list[Share]]:
        counts = self.bcast(None if counts is None else [int(n) for n in counts])
        if counts is None or len(counts) != self.n_sets:
            raise ValueError(f"assign() needs {self.n_sets} counts of the leader, not {counts}")
        self._shares = assign_ranges(counts, self._workers)
        self._form_sets({s: tuple(share.rank for share in self._shares[s]) for s in self._shares})
        return self._shares

    def my_ranges(self) -> dict[int, tuple[int, int]]:
        if not self._shares:
            raise RuntimeError("my_ranges() before assign()")
        return {
            s: (share.start, share.stop)
            for s, shares in self._shares.items()
            for share in shares
            if share.rank == self.rank
        }

    def _find_neighbours(self, local: tuple[int, int] | None) -> None:
        """Local rank and size, place among the workers of this host, and share of its cores."""
        known = self._world.allgather((Seat(self.host, available_cores()), local))
        seats = [seat for seat, _ in known]
        if local is not None and all(told for _, told in known):
            self.local_rank, self.local_size = local
        else:
            node = self._world.Split_type(MPI.COMM_TYPE_SHARED, key=self.rank)
            self.local_rank, self.local_size = node.rank, node.size
            node.Free()
        beside_leader = self.rank > 0 and seats[0].host == self.host
        self.local_worker = max(self.local_rank - int(beside_leader), 0)
        self.threads = core_share(seats, self.rank)
        self._n_hosts = len({seat.host for seat in seats})

    def _form_sets(self, members: dict[int, tuple[int, ...]]) -> None:
        """Communicators of the workers of each set, without and with the leader as process 0."""
        if members == self._members:
            return
        self._free_sets()
        self._members = members
        for s, ranks in members.items():
            works = self.rank in ranks
            for comms, belongs in (
                (self._set_comms, works),
                (self._leader_comms, works or self.is_leader),
            ):
                # ranks ascend along a set, so the order of ranks puts leader and root first
                comm = self._world.Split(0 if belongs else MPI.UNDEFINED, key=self.rank)
                if comm != MPI.COMM_NULL:
                    comms[s] = comm

    def _free_sets(self) -> None:
        for comms in (self._set_comms, self._leader_comms):
            for s in sorted(comms):
                comms.pop(s).Free()

    def close(self) -> None:
        """Free the communicators (all processes); for tests that make many teams."""
        self._free_sets()
        self._world.Free()
        self._exit.Free()
        self._alarm.Free()

    # --- all processes -----------------------------------------------------------------------------

    def bcast(self, obj: Any) -> Any:
        pieces.meet(self._world)
        return self._world.bcast(obj, root=0)

    def allgather(self, obj: Any) -> list[Any]:
        pieces.meet(self._world)
        return list(self._world.allgather(obj))

    def bcast_array(self, array: Array | None) -> Array | None:
        return pieces.broadcast(self._world, array, 0, self._piece_bytes)

    def any(self, flag: bool) -> bool:
        return self.max(float(bool(flag))) > 0

    def max(self, x: float) -> float:
        pieces.meet(self._world)
        value = np.array([x], dtype=np.float64)
        self._world.Allreduce(MPI.IN_PLACE, value, op=MPI.MAX)
        return float(value[0])

    def barrier(self) -> None:
        pieces.meet(self._world)

    def leave(self, timeout_s: float) -> bool:
        return pieces.meet(self._exit, timeout_s)

    def claim_report(self, patience_s: float) -> bool:
        status = MPI.Status()

        def told(below: int) -> bool:
            while self._exit.Iprobe(source=MPI.ANY_SOURCE, tag=_FAILED_TAG, status=status):
                self._exit.Recv([None, MPI.BYTE], source=status.source, tag=_FAILED_TAG)
                if status.source < below:
                    return True
            return False

        # Silent after the note of an earlier or lower rank. The lowest of those that sent notes hears of none
        # lower, so one always prints.
        # A first probe may only make MPI fetch the notes that a later one sees: look several times.
        if any(told(self.size) for _ in range(5)):
            return False
        for rank in range(self.size):
            if rank != self.rank:
                self._exit.Isend([None, MPI.BYTE], dest=rank, tag=_FAILED_TAG).Free()
        return not pieces.wait_until(lambda: told(self.rank), patience_s)

    def sound_alarm(self, reason: str) -> None:
        if not self._has_alarm:
            return
        # kept until the end: nobody waits for these messages to be read
        self._alarm_text = np.frombuffer(reason.encode().ljust(_ALARM_BYTES)[:_ALARM_BYTES], np.uint8)
        for rank in range(self.size):
            if rank != self.rank:
                self._alarm.Isend([self._alarm_text, MPI.BYTE], dest=rank, tag=_ALARM_TAG).Free()

    def hears_alarm(self) -> str:
        if not (self._has_alarm and self._alarm.Iprobe(source=MPI.ANY_SOURCE, tag=_ALARM_TAG)):
            return ""
        text, status = np.empty(_ALARM_BYTES, np.uint8), MPI.Status()
        self._alarm.Recv([text, MPI.BYTE], source=MPI.ANY_SOURCE, tag=_ALARM_TAG, status=status)
        return f"{text.tobytes().decode(errors='replace').strip()} (rank {status.source})"

    def abort(self, code: int) -> None:
        # of the world, not of a duplicate: only then does MPICH's mpiexec end with this code every time
        MPI.COMM_WORLD.Abort(code)

    # --- within a set ------------------------------------------------------------------------------

    def reduce_set(self, s: int, arrays: Sequence[Array]) -> list[Array] | None:
        return self._sum(s, arrays, everywhere=False)

    def allreduce_set(self, s: int, arrays: Sequence[Array]) -> list[Array] | None:
        return self._sum(s, arrays, everywhere=True)

    def _sum(self, s: int, arrays: Sequence[Array], *, everywhere: bool) -> list[Array] | None:
        comm = self._set_comms.get(s)
        if comm is None:
            return None
        arrays = [np.asarray(array) for array in arrays]
        pieces.meet(comm)
        layout = [(array.shape, array.dtype.str) for array in arrays]
        if not pieces.same_everywhere(comm, zlib.crc32(repr(layout).encode())):
            layouts = dict(zip(self._members[s], comm.allgather(layout), strict=True))
            raise ParallelError(f"workers of set {s} add up different arrays (program error): {layouts}")
        return pieces.add_up(comm, arrays, self._piece_bytes, everywhere=everywhere)

    def sum_on_device(self, s: int, array: Any, *, everywhere: bool) -> None:
        """Sum a contiguous array in device memory over the workers of set `s`, in place at its root (or everywhere).

        Only for MPI libraries that read device memory: others end the process. The array must have the same shape
        and dtype at each worker.
        """
        comm = self._set_comms.get(s)
        if comm is not None:
            pieces.meet(comm)
            pieces.add_up_buffer(comm, array, self._piece_bytes, everywhere=everywhere)

    def bcast_set(self, s: int, array: Array | None) -> Array | None:
        comm = self._set_comms.get(s)
        return None if comm is None else pieces.broadcast(comm, array, 0, self._piece_bytes)

    # --- between leader and workers ----------------------------------------------------------------

    def from_leader_to_set(self, s: int, array: Array | None) -> Array | None:
        comm = self._leader_comms.get(s)
        return None if comm is None else pieces.broadcast(comm, array, 0, self._piece_bytes)

    def to_leader(self, s: int, array: Array | None) -> Array | None:
        return self._transfer(array, source=self.roots[s], dest=0)

    def to_root(self, s: int, array: Array | None) -> Array | None:
        return self._transfer(array, source=0, dest=self.roots[s])

    def _transfer(self, array: Array | None, source: int, dest: int) -> Array | None:
        if source == dest:
            return array if self.rank == source else None
        if self.rank == source:
            pieces.send(self._world, array, dest, self._piece_bytes)
        elif self.rank == dest:
            return pieces.receive(self._world, source, self._piece_bytes)
        return None

    def gather_rows(self, s: int, array: Array | None) -> Array | None:
        if not self._shares:
            raise RuntimeError("gather_rows() before assign()")
        comm = self._leader_comms.get(s)
        if comm is None:
            return None
        works = s in self.sets
        rows = as_buffer(np.asarray(array)) if works else None
        pieces.meet(comm)
        header = None if rows is None else (rows.shape, rows.dtype)
        headers = [h for h in comm.allgather(header) if h is not None]
        shares = self._shares[s]
        _check_rows(s, shares, headers)
        if not self.is_leader:
            pieces.send(comm, rows, 0, self._piece_bytes)
            return None
        if works:
            return rows
        shape, dtype = headers[0]
        out = np.empty((shares[-1].stop, *shape[1:]), dtype)
        for source, share in enumerate(shares, start=1):
            pieces.receive(comm, source, self._piece_bytes, out=out[share.start : share.stop])
        return out


def _check_rows(s: int, shares: Sequence[Share], headers: Sequence[tuple[tuple[int, ...], Any]]) -> None:
    """Every process sees the same headers, so a fault is raised at each of them."""
    row_shape, row_dtype = headers[0][0][1:], headers[0][1]
    for share, (shape, dtype) in zip(shares, headers, strict=True):
        expected = (share.stop - share.start, *row_shape)
        if shape != expected or dtype != row_dtype:
            raise ParallelError(
                f"rank {share.rank} gives rows {shape} {dtype} of set {s}; expected {expected} {row_dtype} "
                "(program error)"
            )
