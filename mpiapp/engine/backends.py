"""Which backend a rank computes with; only what it needs is loaded."""

from __future__ import annotations

from mpiapp.backend.base import Backend
from mpiapp.config.common import CommonConfig
from mpiapp.parallel.base import Team


def check_devices(team: Team, config: CommonConfig) -> None:
    """A missing device is told before anything is read (all ranks).

    Raises
    ------
    DeviceError
        A rank that works has no CuPy or no device.
    """
    if config.gpu is not None:
        from mpiapp.backend.gpu_device import find_devices

        find_devices(team)


def start_backend(team: Team, config: CommonConfig, threads: int) -> Backend:
    """The backend of this rank (all ranks)."""
    if config.gpu is None:
        from mpiapp.backend.cpu import CpuBackend

        return CpuBackend(threads)
    from mpiapp.backend.gpu_start import start_gpu

    leave_free = int(config.free_gpu_memory * 1e6)
    return start_gpu(team, config.gpu, config.precision, threads, leave_free, config.verb > 1)
