"""Faults of a device and want of memory, where nothing can be given up for it, as messages instead of tracebacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpiapp.backend.gpu_memory import is_out_of_memory
from mpiapp.errors import DeviceError, MpiappError

GOES_ON = "; the run goes on from its last checkpoint with --continue"


@contextmanager
def named_faults(afterwards: str = "") -> Iterator[None]:
    """Name what CuPy raises in the block, and errors of memory.

    Parameters
    ----------
    afterwards : what can be done then, at the end of the message

    Raises
    ------
    DeviceError
        For CuPy's, CUDA's and its libraries'.
    MpiappError
        For want of memory on the host.
    """
    try:
        yield
    except Exception as fault:
        device = type(fault).__module__.partition(".")[0] in ("cupy", "cupy_backends")
        if not device and not isinstance(fault, MemoryError):
            raise
        said = str(fault) or type(fault).__name__
        if isinstance(fault, MemoryError) or is_out_of_memory(fault):
            of, kind = ("GPU ", DeviceError) if device else ("", MpiappError)
            message = f"{of}memory does not suffice ({said}): run fewer ranks on a machine, or bin the images"
        else:
            kind = DeviceError
            message = (
                f"the GPU failed ({said}): `nvidia-smi` shows its state and who else uses it, `mpiapp info` "
                "runs every kernel"
            )
        raise kind(message + afterwards) from fault
