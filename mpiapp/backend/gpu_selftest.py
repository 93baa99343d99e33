"""``mpiapp info --self_test``: every family of kernels on small inputs, against NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpiapp.backend.device_query import load_cupy, visible_devices
from mpiapp.backend.loader import KernelLoader, kernel_files

# a test returns its error and the limit that the error may reach
Test = Callable[[], tuple[float, float]]
Report = Callable[[str, str], None]


def self_test(report: Report) -> bool:
    """Run all tests on the current device; whether all passed.

    Parameters
    ----------
    report
        Called with name and outcome of each test as it ends.

    Raises
    ------
    DeviceError
        CuPy does not load.
    """
    cupy = load_cupy()
    if not visible_devices(cupy):
        report("devices", "FAILED: none visible to this process")
        return False
    return run_tests(kernel_tests(cupy), report)


def kernel_tests(cupy: Any) -> list[tuple[str, Test]]:
    """Every test as (name, function)."""
    loader = KernelLoader(cupy)
    return [(f"compile {name}", _compiles(loader, name)) for name in kernel_files()]


def run_tests(tests: Sequence[tuple[str, Test]], report: Report) -> bool:
    """Run tests one after the other; an exception fails its own test only. Whether all passed."""
    passed = True
    for name, test in tests:
        try:
            error, limit = test()
        except Exception as fault:  # whatever goes wrong on a device belongs on the page
            passed = False
            report(name, f"FAILED: {type(fault).__name__}: {fault}")
            continue
        good = error <= limit  # False for NaN
        passed = passed and good
        report(name, f"{'passed' if good else 'FAILED'}: error {error:.2g}, limit {limit:.2g}")
    return passed


def _compiles(loader: KernelLoader, name: str) -> Test:
    def test() -> tuple[float, float]:
        loader.module(name)
        return 0.0, 0.0

    return test
