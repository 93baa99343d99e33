"""Handing values to a process that this one has started: their structure by a pipe, their arrays in shared memory."""

from __future__ import annotations

import mmap
import os
import pickle
from typing import IO, Any


def send(pipe: IO[bytes], value: Any, memory: int) -> None:
    """Hand a value over; what was handed over before is overwritten.

    Parameters
    ----------
    memory : descriptor of a file that both processes have open (``os.memfd_create``).
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    sizes, end = [], 0
    for part in (buffer.raw() for buffer in buffers):
        sizes.append(part.nbytes)
        while part.nbytes:  # writing leaves other threads free to run, which a copy would not
            done = os.pwrite(memory, part, end)
            part, end = part[done:], end + done
    pickle.dump((head, sizes), pipe)
    pipe.flush()


def receive(pipe: IO[bytes], memory: int) -> Any:
    """Take over what `send` handed; arrays lie in the shared memory and last until the next value.

    Raises
    ------
    EOFError
        The other process is gone.
    """
    head, sizes = pickle.load(pipe)
    total = sum(sizes)
    shared = memoryview(mmap.mmap(memory, total)) if total else memoryview(b"")
    buffers, start = [], 0
    for size in sizes:
        buffers.append(shared[start : start + size])
        start += size
    return pickle.loads(head, buffers=buffers)
