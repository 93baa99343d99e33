"""Handing values to a process that this one has started: their structure by a pipe, their arrays in shared memory."""

from __future__ import annotations

import mmap
import os
import pickle
from typing import IO, Any

ALIGNMENT = 64  # bytes


def send(pipe: IO[bytes], value: Any, memory: int) -> None:
    """Hand a value over; what was handed over before is overwritten.

    Parameters
    ----------
    memory : descriptor of a file that both processes have open (``os.memfd_create``).
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    places, end = [], 0
    for part in (buffer.raw() for buffer in buffers):
        start = -(-end // ALIGNMENT) * ALIGNMENT
        end = start + part.nbytes
        places.append((start, end))
        while part.nbytes:  # writing leaves other threads free to run, which a copy would not
            part = part[os.pwrite(memory, part, end - part.nbytes) :]
    if os.fstat(memory).st_size < end:  # an empty array at the end
        os.ftruncate(memory, end)
    pickle.dump((head, places), pipe)
    pipe.flush()


def receive(pipe: IO[bytes], memory: int) -> Any:
    """Take over what `send` handed; arrays lie in the shared memory and last until the next value.

    Raises
    ------
    EOFError
        The other process is gone.
    """
    head, places = pickle.load(pipe)
    end = places[-1][1] if places else 0
    shared = memoryview(mmap.mmap(memory, end)) if end else memoryview(b"")
    return pickle.loads(head, buffers=[shared[a:b] for a, b in places])
