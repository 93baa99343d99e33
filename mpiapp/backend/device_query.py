"""What CuPy tells of the devices that this process sees."""

from __future__ import annotations

import socket
from typing import Any

from mpiapp.errors import DeviceError
from mpiapp.parallel.devices import Device

INSTALL = 'pip install "mpiapp[cuda13]" (or "mpiapp[cuda12]" where the driver is older than CUDA 13)'


def load_cupy() -> Any:
    """The CuPy module.

    Raises
    ------
    DeviceError
        It is not installed or does not load.
    """
    try:
        import cupy
    except ImportError as fault:
        raise DeviceError(f"--gpu needs CuPy, which does not load here ({fault}): {INSTALL}") from fault
    return cupy


def load_nccl() -> Any:
    """CuPy's NCCL module, or None where the library is missing."""
    from cupy.cuda import nccl

    return nccl if nccl.available else None


def visible_devices(cupy: Any) -> tuple[Device, ...]:
    """Devices that this process sees, without opening any; none where there is no driver."""
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError:
        return ()
    return tuple(_device(runtime, index) for index in range(count))


def _device(runtime: Any, index: int) -> Device:
    facts = runtime.getDeviceProperties(index)
    name = facts["name"]
    return Device(
        index,
        name.decode() if isinstance(name, bytes) else str(name),
        _uuid(runtime, index, bytes(facts.get("uuid", b""))),
        int(facts["totalGlobalMem"]),
    )


def _uuid(runtime: Any, index: int, raw: bytes) -> str:
    """The UUID as nvidia-smi writes it; machine and place on the bus where a virtual device has none."""
    if not any(raw):
        return f"PCI-{socket.gethostname()}-{runtime.deviceGetPCIBusId(index)}"
    text = raw[:16].hex()
    return "GPU-" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def free_memory(cupy: Any, device: Device) -> int:
    """Bytes free on a device now, after it was opened."""
    with cupy.cuda.Device(device.index):
        return int(cupy.cuda.runtime.memGetInfo()[0])
