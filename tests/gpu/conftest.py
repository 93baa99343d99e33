"""Tests that need a CUDA device; the simulated cases and float64 twins are those of the CPU kernels' tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))


def has_device() -> bool:
    """Whether CuPy loads and sees a device."""
    try:
        import cupy

        return bool(cupy.cuda.runtime.getDeviceCount())
    except Exception:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent)
    skip = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.gpu)
            if not has_device():
                item.add_marker(skip)


if has_device() and os.environ.get("MPIAPP_TEST_UNDER_CHECKER"):
    import checked_device

    checked_device.prepare()
