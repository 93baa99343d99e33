"""The leader tells once which rank has which device and what it will do there."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from mpiapp.backend import gpu_start
from mpiapp.parallel.devices import Device
from mpiapp.parallel.serial import SerialTeam

GB = 10**9


def test_what_a_device_will_do_is_told_with_its_free_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(0, "a card", "GPU-1", 24 * GB)
    monkeypatch.setattr(gpu_start, "find_devices", lambda team: (None, (device,)))
    monkeypatch.setattr(gpu_start, "free_memory", lambda cupy, device: 22 * GB)
    asked: list[Mapping[int, int]] = []

    def describe(memory: Mapping[int, int]) -> list[str]:
        asked.append(memory)
        return [" a table"]

    monkeypatch.setattr(logging.getLogger("mpiapp"), "propagate", True)
    with caplog.at_level(logging.INFO, "mpiapp"):
        gpu_start.place(SerialTeam(1), "", 2 * GB, describe)
    assert asked == [{0: 20 * GB}]
    assert [message.split()[0] for message in caplog.messages] == ["rank", "0", "a"]
