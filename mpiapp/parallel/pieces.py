"""Arrays over MPI as pieces of bounded size, and waiting that leaves the processor to others.

MPI counts are 32-bit integers in most installed libraries, so a buffer of 2^31 elements or more must be
cut. A blocking MPI call spins on a core for as long as it waits, and Python runs no signal handler meanwhile.
Therefore every exchange first waits, politely, until its partners have arrived; the blocking call that
follows is short.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from .buffers import as_buffer, byte_pieces, number_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Array

PIECE_BYTES = 1 << 28
_TAG = 7
_SPIN_S = 2e-4
_LONGEST_PAUSE_S = 2e-3


def wait_until(done: Callable[[], bool], timeout_s: float | None = None) -> bool:
    """Call `done` until it is true; pauses grow with the time waited to 2 ms. False after the timeout."""
    start = time.monotonic()
    while not done():
        waited = time.monotonic() - start
        if timeout_s is not None and waited > timeout_s:
            return False
        if waited > _SPIN_S:
            time.sleep(min(waited / 10, _LONGEST_PAUSE_S))
    return True


def meet(comm: MPI.Comm, timeout_s: float | None = None) -> bool:
    """Wait until every process of `comm` has come here; False after the timeout (then abort)."""
    request = comm.Ibarrier()
    return wait_until(request.Test, timeout_s)


def broadcast(comm: MPI.Comm, array: Array | None, root: int, piece_bytes: int) -> Array | None:
    """The array of `root` (or None) at every process of `comm`; the root keeps its own object."""
    meet(comm)
    at_root = comm.rank == root
    buffer = as_buffer(array) if at_root and array is not None else None
    header = comm.bcast(None if buffer is None else (buffer.shape, buffer.dtype), root=root)
    if header is None:
        return None
    if buffer is None:
        buffer = np.empty(*header)
    for piece in byte_pieces(buffer, piece_bytes):
        comm.Bcast([piece, MPI.BYTE], root=root)
    return array if at_root else buffer


def send(comm: MPI.Comm, array: Array | None, dest: int, piece_bytes: int) -> None:
    """Send an array (or None) with its shape and dtype; `receive` is its partner."""
    buffer = None if array is None else as_buffer(array)
    header = None if buffer is None else (buffer.shape, buffer.dtype)
    # A synchronous send completes when the partner has begun to receive: wait for that politely.
    request = comm.issend(header, dest=dest, tag=_TAG)
    wait_until(lambda: bool(request.test()[0]))
    if buffer is not None:
        for piece in byte_pieces(buffer, piece_bytes):
            comm.Send([piece, MPI.BYTE], dest=dest, tag=_TAG)


def receive(comm: MPI.Comm, source: int, piece_bytes: int, out: Array | None = None) -> Array | None:
    """Receive what `send` sent: a new array, or `out` (contiguous, of the shape and dtype sent) filled."""
    wait_until(lambda: bool(comm.Iprobe(source=source, tag=_TAG)))
    header = comm.recv(source=source, tag=_TAG)
    if header is None:
        return None
    buffer = np.empty(*header) if out is None else out
    for piece in byte_pieces(buffer, piece_bytes):
        comm.Recv([piece, MPI.BYTE], source=source, tag=_TAG)
    return buffer


def add_up(
    comm: MPI.Comm, arrays: Sequence[Array], piece_bytes: int, *, everywhere: bool = False
) -> list[Array] | None:
    """Sum arrays over `comm`, in place at process 0 of it (or everywhere); None at the others."""
    buffers = [as_buffer(array) for array in arrays]
    for buffer in buffers:
        add_up_buffer(comm, buffer, piece_bytes, everywhere=everywhere)
    return buffers if everywhere or comm.rank == 0 else None


def add_up_buffer(comm: MPI.Comm, buffer: Any, piece_bytes: int, *, everywhere: bool) -> None:
    """Sum one contiguous array over `comm` in place; on a device too, where the MPI library reads its memory."""
    for piece in number_pieces(buffer, piece_bytes):
        if everywhere:
            comm.Allreduce(MPI.IN_PLACE, piece, op=MPI.SUM)
        elif comm.rank == 0:
            comm.Reduce(MPI.IN_PLACE, piece, op=MPI.SUM, root=0)
        else:
            comm.Reduce(piece, None, op=MPI.SUM, root=0)


def same_everywhere(comm: MPI.Comm, number: int) -> bool:
    """Whether all processes of `comm` hold the same 32-bit number."""
    pair: Any = np.array([number, -number], dtype=np.int64)
    comm.Allreduce(MPI.IN_PLACE, pair, op=MPI.MAX)
    return bool(pair[0] == -pair[1])
