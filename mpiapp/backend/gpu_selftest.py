"""``mpiapp info``: every kernel on a small case on the device, against its equation in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpiapp.backend.device_query import load_cupy, visible_devices
from mpiapp.backend.gpu_kernels import KernelClock, Kernels
from mpiapp.backend.loader import KernelLoader, kernel_files, kernel_names, read_source


@dataclass(frozen=True)
class Outcome:
    """How far one kernel is from the truth, relative to the largest value of it.

    Attributes
    ----------
    name : as the kernel is launched.
    error, limit : what was found, and what rounding may do.
    """

    name: str
    error: float
    limit: float


# a family of tests yields an outcome for each kernel that it runs
Family = Callable[[Kernels], Iterator[Outcome]]
Report = Callable[[str, str], None]


def compare(name: str, found: Any, expected: Any, limit: float) -> Outcome:
    """Largest difference of two arrays over the largest value of the second; a device array is brought to the host."""
    found = found.get() if hasattr(found, "get") else found
    expected = np.asarray(expected)
    kind = np.complex128 if np.iscomplexobj(expected) else np.float64
    difference = np.abs(np.asarray(found).astype(kind) - expected)
    size = float(np.abs(expected).max(initial=0)) or 1.0
    return Outcome(name, float(difference.max(initial=0)) / size, limit)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a kernel with several results: that with the largest error in units of its limit, or a NaN."""
    return max(outcomes, key=lambda o: np.inf if np.isnan(o.error) else o.error / max(o.limit, 1e-30))


def self_test(report: Report) -> bool:
    """Run all tests on the current device; whether all passed.

    Parameters
    ----------
    report
        Called with name and outcome of each kernel as its family ends.

    Raises
    ------
    DeviceError
        CuPy does not load.
    """
    from mpiapp.backend.gpu_selftest_images import IMAGE_FAMILIES
    from mpiapp.backend.gpu_selftest_scores import SCORE_FAMILIES
    from mpiapp.backend.gpu_selftest_sums import SUM_FAMILIES

    cupy = load_cupy()
    if not visible_devices(cupy):
        report("devices", "FAILED: none visible to this process")
        return False
    loader = KernelLoader(cupy)
    compiled = _compile(loader, report)
    names = [name for file in kernel_files() for name in kernel_names(read_source(file))]
    families = {**IMAGE_FAMILIES, **SCORE_FAMILIES, **SUM_FAMILIES}
    return run_families(Kernels(cupy), families, names, report) and compiled


def run_families(kernels: Kernels, families: dict[str, Family], names: Sequence[str], report: Report) -> bool:
    """Run families one after the other; an exception fails its own family only. Whether all kernels passed.

    Parameters
    ----------
    names : all kernels; one that no family tests is a failure.
    """
    passed, tested = True, set()
    for family, test in families.items():
        try:
            list(test(kernels))  # the first launch of a kernel also loads it
            kernels.clock = KernelClock(kernels.cupy)
            outcomes = list(test(kernels))
            times = kernels.clock.take()
        except Exception as fault:  # whatever goes wrong on a device belongs on the page
            passed = False
            report(family, f"FAILED: {type(fault).__name__}: {fault}")
            continue
        finally:
            kernels.clock = None
        for outcome in outcomes:
            tested.add(outcome.name)
            good = outcome.error <= outcome.limit  # False for NaN
            passed = passed and good
            ms, launches = times.get(outcome.name, (0.0, 0))
            report(outcome.name, _line(outcome, good, ms / max(launches, 1)))
    for name in sorted(set(names) - tested):
        passed = False
        report(name, "FAILED: not tested")
    return passed


def _line(outcome: Outcome, good: bool, ms: float) -> str:
    word = "passed" if good else "FAILED"
    return f"{word}: error {outcome.error:.1e}, limit {outcome.limit:.0e}, {1e3 * ms:.0f} us"


def _compile(loader: KernelLoader, report: Report) -> bool:
    """Compile all sources; one that does not compile is told, and its kernels fail later as well."""
    passed = True
    for file in kernel_files():
        try:
            loader.module(file)
        except Exception as fault:
            passed = False
            report(file, f"FAILED: {type(fault).__name__}: {fault}")
    return passed
