"""What CuPy tells of the devices that this process sees.

``python -m mpiapp.backend.device_query`` prints ``name<tab>value`` lines: run as a program, a broken driver can not take
the caller down.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from mpiapp.errors import DeviceError
from mpiapp.parallel.devices import Device

NO_NCCL = "not found; sums over devices go through the host (pip install nvidia-nccl-cu13 or -cu12)"
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


def describe(cupy: Any, nccl: Any) -> list[tuple[str, str]]:
    """CuPy, NCCL and the devices that this process sees, as (name, value) for ``mpiapp info``."""
    runtime = cupy.cuda.runtime
    nvrtc = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    built = f"CUDA runtime {_cuda_version(runtime.runtimeGetVersion())}, NVRTC {nvrtc}"
    lines = [("CuPy", f"{cupy.__version__} ({built}, driver {_cuda_version(runtime.driverGetVersion())})")]
    lines.append(("NCCL", _nccl_version(nccl.get_version()) if nccl is not None else NO_NCCL))
    devices = visible_devices(cupy)
    for device in devices:
        facts = runtime.getDeviceProperties(device.index)
        value = (
            f"{device.name}, {device.uuid}, {device.memory / 1e9:.1f} GB, sm_{facts['major']}{facts['minor']}"
        )
        lines.append((f"device {device.index}", value))
    return lines if devices else [*lines, ("device", "none visible to this process")]


def _cuda_version(number: int) -> str:
    """13000 as 13.0; "none" for a machine without driver."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else "none"


def _nccl_version(number: int) -> str:
    """22703 as 2.27.3."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


if __name__ == "__main__":
    for name, value in describe(load_cupy(), load_nccl()):
        sys.stdout.write(f"{name}\t{value}\n")
