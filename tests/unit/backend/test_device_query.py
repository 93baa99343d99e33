"""Devices are described as nvidia-smi does, and none is opened for it."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from mpiapp.backend.device_query import describe, visible_devices
from mpiapp.parallel.devices import Device


class CUDARuntimeError(RuntimeError):
    pass


def fake_cupy(properties: list[dict[str, Any]] | None) -> Any:
    def count() -> int:
        if properties is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver")
        return len(properties)

    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=count,
        getDeviceProperties=lambda index: (properties or [])[index],
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 12090 if properties else 0,
        deviceGetPCIBusId=lambda index: f"0000:{index:02x}:00.0",
    )
    nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))
    return SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(runtime=runtime, nvrtc=nvrtc))


def test_uuids_read_as_in_nvidia_smi() -> None:
    raw = bytes.fromhex("8f6f4c2e1a2b3c4d5e6f708192a3b4c5")
    seen = visible_devices(
        fake_cupy(
            [
                {"name": b"NVIDIA A100-SXM4-40GB", "uuid": raw, "totalGlobalMem": 42505273344},
                {"name": "GRID V100D", "uuid": bytes(16), "totalGlobalMem": 8 * 2**30},
            ]
        )
    )
    assert seen == (
        Device(0, "NVIDIA A100-SXM4-40GB", "GPU-8f6f4c2e-1a2b-3c4d-5e6f-708192a3b4c5", 42505273344),
        Device(1, "GRID V100D", f"PCI-{socket.gethostname()}-0000:01:00.0", 8 * 2**30),
    )


def test_a_machine_without_driver_has_no_devices() -> None:
    assert visible_devices(fake_cupy(None)) == ()


def test_the_page_shows_versions_and_devices() -> None:
    card = {
        "name": b"NVIDIA L4",
        "uuid": bytes(range(16)),
        "totalGlobalMem": 24 * 10**9,
        "major": 8,
        "minor": 9,
    }
    nccl = SimpleNamespace(get_version=lambda: 22703)
    assert describe(fake_cupy([card]), nccl) == [
        ("CuPy", "14.2.0 (CUDA runtime 13.0, NVRTC 13.0, driver 12.9)"),
        ("NCCL", "2.27.3"),
        ("device 0", "NVIDIA L4, GPU-00010203-0405-0607-0809-0a0b0c0d0e0f, 24.0 GB, sm_89"),
    ]
    bare = dict(describe(fake_cupy(None), None))
    assert bare["CuPy"].endswith("driver none)")
    assert bare["NCCL"].startswith("not found")
    assert bare["device"] == "none visible to this process"
