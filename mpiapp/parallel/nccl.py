"""Sums over the devices of a set of workers: NCCL, else MPI that reads device memory, else through the host.

Imported only for runs on GPUs. CuPy and its NCCL module come as arguments, from :mod:`mpiapp.backend.device_query`.
"""

from __future__ import annotations

import logging
import os
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mpiapp.errors import ParallelError

from .buffers import as_numbers, number_pieces

if TYPE_CHECKING:
    from .base import Team
    from .devices import Placement

DEVICE_MPI = "MPIAPP_DEVICE_MPI"
PIECE_BYTES = 1 << 26
_TEST_LENGTH = 4
_NCCL_NAMES = {
    "i1": "NCCL_INT8",
    "u1": "NCCL_UINT8",
    "i4": "NCCL_INT32",
    "u4": "NCCL_UINT32",
    "i8": "NCCL_INT64",
    "u8": "NCCL_UINT64",
    "f2": "NCCL_FLOAT16",
    "f4": "NCCL_FLOAT32",
    "f8": "NCCL_FLOAT64",
}


class _Way(Protocol):
    """One way of adding up; `array` is contiguous and in device memory."""

    name: str

    def add(self, arrays: Sequence[Any], everywhere: bool) -> None:
        """Sum over the set, in place at its root, or everywhere."""


class DeviceSums:
    """Sums of device arrays over the workers of one set. Made by :func:`make_device_sums`.

    Attributes
    ----------
    name : str
        The way that is used, for the log.
    """

    def __init__(self, team: Team, s: int, way: _Way | None, name: str) -> None:
        self._team, self._s, self._way = team, s, way
        self.name = name

    def allreduce(self, arrays: Sequence[Any]) -> list[Any] | None:
        """Sums at every worker of the set; None at other ranks.

        Parameters
        ----------
        arrays
            C-contiguous CuPy arrays, float, complex or integer, with the same shapes and dtypes at each worker. They
            are overwritten. The work is ordered with that of the current stream.

        Raises
        ------
        ParallelError
            Shapes or dtypes differ between workers.
        """
        return self._sum(arrays, everywhere=True)

    def reduce(self, arrays: Sequence[Any]) -> list[Any] | None:
        """As `allreduce`, with the sums at the root of the set only; None elsewhere."""
        return self._sum(arrays, everywhere=False)

    def _sum(self, arrays: Sequence[Any], *, everywhere: bool) -> list[Any] | None:
        if self._s not in self._team.sets:
            return None
        if self._way is not None:
            self._check(arrays)
            self._way.add(arrays, everywhere)
        return list(arrays) if everywhere or self._team.is_root(self._s) else None

    def _check(self, arrays: Sequence[Any]) -> None:
        """All workers bring the same; they also meet here, without keeping a core busy."""
        for array in arrays:
            if not array.flags.c_contiguous:
                raise ValueError(f"sums over devices need contiguous arrays, not strides {array.strides}")
        layout = repr([(tuple(array.shape), np.dtype(array.dtype).str) for array in arrays])
        mine = np.array(zlib.crc32(layout.encode()))
        of_root = self._team.bcast_set(self._s, mine)
        if of_root is None or int(of_root) != int(mine):
            raise ParallelError(
                f"rank {self._team.rank} adds up other arrays than the root of set {self._s} (program error): {layout}"
            )


class _Nccl:
    """NCCL over one device a rank."""

    name = "NCCL"

    def __init__(self, cupy: Any, nccl: Any, comm: Any) -> None:
        self._cupy, self._nccl, self._comm = cupy, nccl, comm

    def add(self, arrays: Sequence[Any], everywhere: bool) -> None:
        stream = self._cupy.cuda.get_current_stream().ptr
        self._nccl.groupStart()
        try:
            for array in arrays:
                flat = as_numbers(array)
                if flat.size == 0:
                    continue
                kind = getattr(self._nccl, _NCCL_NAMES[np.dtype(flat.dtype).str[1:]])
                pointer, total = flat.data.ptr, self._nccl.NCCL_SUM
                if everywhere:
                    self._comm.allReduce(pointer, pointer, flat.size, kind, total, stream)
                else:
                    self._comm.reduce(pointer, pointer, flat.size, kind, total, 0, stream)
        finally:
            self._nccl.groupEnd()


class _DeviceMpi:
    """An MPI library that reads device memory."""

    name = "MPI on device memory"

    def __init__(self, team: Any, s: int, cupy: Any) -> None:
        self._team, self._s, self._cupy = team, s, cupy

    def add(self, arrays: Sequence[Any], everywhere: bool) -> None:
        self._cupy.cuda.get_current_stream().synchronize()
        for array in arrays:
            self._team.sum_on_device(self._s, array, everywhere=everywhere)


class _Host:
    """Copies to the host and back, in pieces through one pinned buffer."""

    name = "host memory"

    def __init__(self, team: Team, s: int, cupy: Any, piece_bytes: int) -> None:
        self._team, self._s, self._cupy, self._piece_bytes = team, s, cupy, piece_bytes
        self._pinned: Any = None

    def add(self, arrays: Sequence[Any], everywhere: bool) -> None:
        if self._pinned is None:
            memory = self._cupy.cuda.alloc_pinned_memory(self._piece_bytes)
            self._pinned = np.frombuffer(memory, np.uint8, self._piece_bytes)
        team = self._team
        for array in arrays:
            for piece in number_pieces(array, self._piece_bytes):
                host = self._pinned[: piece.nbytes].view(piece.dtype)
                piece.get(out=host)
                total = (team.allreduce_set if everywhere else team.reduce_set)(self._s, [host])
                if total is not None:
                    piece.set(total[0])
                    # the buffer is filled again by the next piece
                    self._cupy.cuda.get_current_stream().synchronize()


def make_device_sums(
    team: Team,
    cupy: Any,
    nccl: Any,
    placement: Placement,
    environ: Mapping[str, str] = os.environ,
    piece_bytes: int = PIECE_BYTES,
) -> list[DeviceSums]:
    """The sums of each set, after `team.assign` (all processes); the leader logs the way and why.

    NCCL needs a device of its own for each worker of a set. MPI on device memory is tried only where the environment
    variable MPIAPP_DEVICE_MPI is 1, since most MPI libraries crash on it. Both must pass a test on four numbers.

    Parameters
    ----------
    cupy, nccl
        CuPy, and its NCCL module or None; the device of this rank is the current one. Not used by a leader with workers.
    placement
        Which worker has which device.
    """
    rungs = [_Setup(team, s, cupy, nccl, placement, environ, piece_bytes) for s in range(team.n_sets)]
    made = [rung.choose() for rung in rungs]
    if team.is_leader:
        for line in dict.fromkeys(f" Sums over devices: {sums.name}" for sums in made):
            logging.getLogger("mpiapp").info(line)
    return made


class _Setup:
    """Choice of the way for one set; every method is called by all processes."""

    def __init__(
        self,
        team: Team,
        s: int,
        cupy: Any,
        nccl: Any,
        placement: Placement,
        environ: Mapping[str, str],
        piece_bytes: int,
    ) -> None:
        self.team, self.s, self.cupy, self.nccl = team, s, cupy, nccl
        self.placement, self.piece_bytes = placement, piece_bytes
        self.works = s in team.sets
        version = int(nccl.get_version()) if nccl is not None else 0
        known = team.allgather((self.works, version, environ.get(DEVICE_MPI, "0") == "1"))
        self.members = [rank for rank, (works, _, _) in enumerate(known) if works]
        self.versions = {rank: known[rank][1] for rank in self.members}
        self.may_use_mpi = all(known[rank][2] for rank in self.members)

    def choose(self) -> DeviceSums:
        if len(self.members) == 1:
            return DeviceSums(self.team, self.s, None, "not needed, one worker a set")
        against = self._against_nccl()
        if not against:
            way, against = self._opened(self._open_nccl)
            if not against:
                return DeviceSums(self.team, self.s, way, _Nccl.name)
            against = f"NCCL failed, {against}"
        if self.may_use_mpi:
            way, fault = self._opened(lambda: _DeviceMpi(self.team, self.s, self.cupy))
            if not fault:
                return DeviceSums(self.team, self.s, way, f"{_DeviceMpi.name} ({against})")
            against += f"; {_DeviceMpi.name} failed, {fault}"
        way = _Host(self.team, self.s, self.cupy, self.piece_bytes) if self.works else None
        return DeviceSums(self.team, self.s, way, f"{_Host.name} ({against})")

    def _against_nccl(self) -> str:
        """What keeps NCCL from being tried, or nothing."""
        if not self.placement.apart(self.members):
            return "no NCCL: workers share devices"
        missing = [str(rank) for rank, version in self.versions.items() if not version]
        if missing:
            return f"no NCCL at rank {', '.join(missing)}: pip install nvidia-nccl-cu13 (or -cu12)"
        found = sorted(set(self.versions.values()))
        return f"no NCCL: its versions differ between ranks, {found}" if len(found) > 1 else ""

    def _opened(self, open_way: Callable[[], _Way]) -> tuple[_Way | None, str]:
        """A way that adds up four numbers right at every worker, else None and the reason."""
        way: _Way | None = None
        fault = ""
        try:
            way = open_way() if self.works else None
        except RuntimeError as reason:  # CuPy's NcclError is one
            fault = f"rank {self.team.rank}: {reason}"
        fault = self._first(fault)
        if fault:
            return None, fault
        try:
            fault = self._test(way) if way is not None else ""
        except RuntimeError as reason:
            fault = f"rank {self.team.rank}: {reason}"
        fault = self._first(fault)
        return (None, fault) if fault else (way, "")

    def _first(self, fault: str) -> str:
        """The first fault of any rank, at all ranks."""
        return next(filter(None, self.team.allgather(fault)), "")

    def _open_nccl(self) -> _Way:
        packed = None
        if self.team.is_root(self.s):
            packed = np.frombuffer(pickle.dumps(self._unique_id()), np.uint8)
        received = self.team.bcast_set(self.s, packed)
        assert received is not None
        unique = pickle.loads(received.tobytes())
        if isinstance(unique, str):
            raise RuntimeError(unique)
        place = self.members.index(self.team.rank)
        return _Nccl(self.cupy, self.nccl, self.nccl.NcclCommunicator(len(self.members), unique, place))

    def _unique_id(self) -> Any:
        """A tuple in CuPy 13, bytes in CuPy 14; text when there is none, so that the others do not wait for it."""
        try:
            return self.nccl.get_unique_id()
        except RuntimeError as reason:
            return f"no unique id ({reason})"

    def _test(self, way: _Way) -> str:
        numbers = np.arange(1, _TEST_LENGTH + 1, dtype=np.float32)
        array = self.cupy.asarray(numbers * (self.team.rank + 1))
        way.add([array], True)
        got, expected = array.get(), numbers * sum(rank + 1 for rank in self.members)
        return "" if np.array_equal(got, expected) else f"rank {self.team.rank}: {got} instead of {expected}"
