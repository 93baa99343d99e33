"""Which backend a rank computes with; only what it needs is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mpiapp.backend.base import Backend
from mpiapp.parallel.base import Team


class DeviceOptions(Protocol):
    """Options of jobs that compute on processors or devices."""

    @property
    def gpu(self) -> str | None:
        """Value of --gpu; None for processors."""

    @property
    def free_gpu_memory(self) -> float:
        """MB of each device that are not used."""

    @property
    def verb(self) -> int:
        """From 2 on the device's time is logged by kernel."""


def check_devices(team: Team, config: DeviceOptions) -> None:
    """A missing device is told before anything is read (all ranks).

    Raises
    ------
    DeviceError
        A rank that works has no CuPy or no device.
    """
    if config.gpu is not None:
        from mpiapp.backend.gpu_device import find_devices

        find_devices(team)


def tell_devices(
    team: Team, config: DeviceOptions, describe: Callable[[Mapping[int, int]], list[str]] | None
) -> None:
    """Log the device of each rank and what it would do, as `start_backend` does, but start nothing (all ranks)."""
    if config.gpu is not None:
        from mpiapp.backend.gpu_start import place

        place(team, config.gpu, int(config.free_gpu_memory * 1e6), describe)


def start_backend(
    team: Team,
    config: DeviceOptions,
    threads: int,
    precision: str = "single",
    describe: Callable[[Mapping[int, int]], list[str]] | None = None,
) -> Backend:
    """The backend of this rank (all ranks).

    Parameters
    ----------
    precision : of score products on a device.
    describe : lines for the log about what devices will do, from the bytes that each rank may use of its own (leader).
    """
    if config.gpu is None:
        from mpiapp.backend.cpu import CpuBackend
        from mpiapp.backend.heap import keep_freed_memory

        keep_freed_memory()
        return CpuBackend(threads)
    from mpiapp.backend.gpu_start import start_gpu

    leave_free = int(config.free_gpu_memory * 1e6)
    return start_gpu(team, config.gpu, precision, threads, leave_free, config.verb > 1, describe)
