"""Starting the GPU backend of a rank: which device, how much of its memory, how sums meet (engine.md 8)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mpiapp.backend.base import Backend
from mpiapp.backend.device_query import free_memory, load_nccl
from mpiapp.backend.gpu import GpuBackend
from mpiapp.backend.gpu_device import find_devices
from mpiapp.parallel.base import Team
from mpiapp.parallel.devices import Placement, bind_team, table
from mpiapp.parallel.nccl import make_device_sums

# Threads that feed the device wait for one another at every launch, by default up to 5 ms.
SWITCH_S = 2e-4


def place(
    team: Team,
    gpu: str,
    leave_free: int = 0,
    describe: Callable[[Mapping[int, int]], list[str]] | None = None,
) -> tuple[Any, Placement]:
    """CuPy and the device of each rank, which the leader tells; as `start_gpu` (all ranks)."""
    cupy, devices = find_devices(team)
    placement = bind_team(team, gpu, devices, lambda device: free_memory(cupy, device), leave_free)
    if team.is_leader:
        log = logging.getLogger("mpiapp")
        lines = table(placement.bindings)
        if describe is not None:
            lines += describe({b.rank: b.share for b in placement.bindings})
        for line in lines:
            log.info(line)
        for warning in placement.warnings:
            log.warning(warning)
    return cupy, placement


def start_gpu(
    team: Team,
    gpu: str,
    precision: str,
    threads: int,
    leave_free: int = 0,
    clock: bool = False,
    describe: Callable[[Mapping[int, int]], list[str]] | None = None,
) -> Backend:
    """The backend of this rank: on its device, or on processors for a leader with workers (all ranks).

    Parameters
    ----------
    gpu, precision : values of the options; the precision is that of score products.
    threads : of a leader with workers.
    leave_free : bytes of each device that are not used;  clock : log the device's time by kernel.
    describe : lines for the log about what devices will do, from the bytes that each rank may use of its own (leader).

    Raises
    ------
    DeviceError, ConfigError
        CuPy or a device is missing, or --gpu names devices that are not there.
    """
    cupy, placement = place(team, gpu, leave_free, describe)
    own = placement.of(team.rank)
    if own is None:
        if team.size > 1:
            make_device_sums(team, None, None, placement)
        from mpiapp.backend.cpu import CpuBackend

        return CpuBackend(threads)
    sys.setswitchinterval(SWITCH_S)
    backend = GpuBackend(own.device.index, precision, own.share, clock=clock)
    if team.size > 1:
        with backend.device:
            backend.sums = make_device_sums(team, cupy, load_nccl(), placement)
    return backend
