"""Devices that a rank sees, and one of them for jobs that compute on arrays and need no backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from threading import Thread
from typing import Any

from mpiapp.backend.device_query import free_memory, load_cupy, visible_devices
from mpiapp.errors import DeviceError
from mpiapp.model.arrays import register
from mpiapp.parallel.base import Team
from mpiapp.parallel.devices import Device, bind_team
from mpiapp.parallel.errors import raise_together


def find_devices(team: Team) -> tuple[Any, tuple[Device, ...]]:
    """CuPy and the devices that this rank sees; nothing for a leader with workers (all ranks).

    Raises
    ------
    DeviceError
        A rank that works has no CuPy or no device.
    """
    cupy: Any = None
    devices: tuple[Device, ...] = ()
    with raise_together(team):
        if team.size == 1 or not team.is_leader:
            cupy = load_cupy()
            devices = visible_devices(cupy)
            if not devices:
                raise DeviceError(
                    f"--gpu: no CUDA device is visible on {team.host}; see `mpiapp info`, or leave --gpu out to "
                    "compute on processors"
                )
    return cupy, devices


def start_arrays(team: Team, gpu: str | None) -> Callable[[Any], Any]:
    """Bind this rank to its device (all ranks); what is computed from arrays there stays there.

    Parameters
    ----------
    gpu : value of the option, None for processors.

    Returns
    -------
    Function that puts an array where this rank computes: on its device, or, on processors and for a leader with
    workers, which has no device, where it is.

    Raises
    ------
    DeviceError, ConfigError
        CuPy or a device is missing, or --gpu names devices that are not there.
    """
    if gpu is None:
        return _stay
    from mpiapp.backend.gpu_arrays import device_module, to_device
    from mpiapp.backend.gpu_kernels import Kernels

    with _operators_loaded():
        cupy, devices = find_devices(team)
        own = bind_team(team, gpu, devices, lambda device: free_memory(cupy, device)).of(team.rank)
        if own is None:
            return _stay
        cupy.cuda.Device(own.device.index).use()
    register("cupy", device_module(Kernels(cupy)))
    return partial(to_device, cupy)


@contextmanager
def _operators_loaded() -> Iterator[None]:
    """Load what CuPy loads for its first array and number as operands (0.4 s, CuPy 14), while the driver starts."""

    def load(module: str) -> None:
        with suppress(ImportError):  # it is said where it is needed
            import_module(module)

    load("cupy")  # whole: two threads that begin to import it can wait for each other
    loading = Thread(target=load, args=("cupyx.scipy.special",))
    loading.start()
    try:
        yield
    finally:
        loading.join()


def _stay(array: Any) -> Any:
    return array
