"""CuPy and its NCCL for ranks without a device: arrays in host memory, sums over MPI."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
from mpi4py import MPI


class DeviceArray(np.ndarray):
    """As much of cupy.ndarray as sums touch; the rest is NumPy's, which refuses none of it by mistake."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self, out: Any = None) -> Any:
        if out is None:
            return np.array(self)
        out[...] = self
        return out

    def set(self, values: Any) -> None:
        assert type(values) is np.ndarray
        self[...] = values


def asarray(values: Any) -> DeviceArray:
    return np.array(values).view(DeviceArray)


class FakeCupy:
    """Counts how often the stream was waited for and how much pinned memory was taken."""

    def __init__(self) -> None:
        self.waits, self.pinned = 0, 0
        stream = SimpleNamespace(ptr=7, synchronize=self._wait)
        self.cuda = SimpleNamespace(get_current_stream=lambda: stream, alloc_pinned_memory=self._pin)
        self.asarray = asarray

    def _wait(self) -> None:
        self.waits += 1

    def _pin(self, n: int) -> bytearray:
        self.pinned += n
        return bytearray(n)


class FakeNccl:
    """NCCL in which the ranks of `members` add up through MPI. Groups of calls are counted."""

    NCCL_SUM = 0
    NCCL_INT32, NCCL_INT64, NCCL_FLOAT32, NCCL_FLOAT64 = np.int32, np.int64, np.float32, np.float64

    def __init__(
        self, members: list[int], *, version: int = 22703, wrong: bool = False, fails: str = ""
    ) -> None:
        self.members, self.version, self.wrong, self.fails = members, version, wrong, fails
        self.calls: list[str] = []

    def get_version(self) -> int:
        return self.version

    def get_unique_id(self) -> Any:
        if self.fails == "id":
            raise RuntimeError("NCCL_ERROR_SYSTEM_ERROR: no network")
        return (1, -2, 3)

    def groupStart(self) -> None:
        self.calls.append("start")

    def groupEnd(self) -> None:
        self.calls.append("end")

    def NcclCommunicator(self, size: int, unique: Any, place: int) -> Any:
        assert unique == (1, -2, 3)
        assert size == len(self.members)
        assert MPI.COMM_WORLD.rank == self.members[place]
        if self.fails == "open" and place == 1:
            raise RuntimeError("NCCL_ERROR_UNHANDLED_CUDA_ERROR")
        group = MPI.COMM_WORLD.group.Incl(self.members)
        return _Communicator(self, MPI.COMM_WORLD.Create_group(group))


class _Communicator:
    def __init__(self, nccl: FakeNccl, comm: MPI.Comm) -> None:
        self.nccl, self.comm = nccl, comm

    def allReduce(self, send: int, receive: int, count: int, kind: Any, op: int, stream: int) -> None:
        self._add(send, receive, count, kind, stream, True)

    def reduce(self, send: int, receive: int, count: int, kind: Any, op: int, root: int, stream: int) -> None:
        assert root == 0
        self._add(send, receive, count, kind, stream, self.comm.rank == root)

    def _add(self, send: int, receive: int, count: int, kind: Any, stream: int, keeps: bool) -> None:
        assert (stream, send) == (7, receive)
        self.nccl.calls.append("sum")
        memory = (ctypes.c_char * (count * np.dtype(kind).itemsize)).from_address(send)
        values = np.frombuffer(memory, kind)
        total = np.empty_like(values)
        self.comm.Allreduce(values, total)
        if keeps:
            values[...] = total + self.nccl.wrong
