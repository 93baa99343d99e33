"""The self-test reports every kernel, knows all of them, and one that fails does not hide the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mpiapp.backend import gpu_selftest, gpu_selftest_images, gpu_selftest_scores, gpu_selftest_sums
from mpiapp.backend.gpu_selftest import Outcome, compare, run_families, worst
from mpiapp.backend.loader import kernel_files, kernel_names, read_source


def family(*outcomes: Outcome) -> Any:
    return lambda kernels: iter(outcomes)


def broken(kernels: Any) -> Iterator[Outcome]:
    yield Outcome("before", 0.0, 1.0)
    raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")


def outcomes(families: dict[str, Any], names: list[str]) -> tuple[bool, dict[str, str]]:
    told: dict[str, str] = {}
    kernels: Any = SimpleNamespace(cupy=None, clock=None)
    return run_families(kernels, families, names, told.__setitem__), told


def test_all_within_their_limits_pass() -> None:
    good = family(Outcome("slices", 1e-4, 1e-3), Outcome("sums", 0.0, 0.0))
    passed, told = outcomes({"good": good}, ["slices", "sums"])
    assert passed
    assert told == {
        "slices": "passed: error 1.0e-04, limit 1e-03, 0 us",
        "sums": "passed: error 0.0e+00, limit 0e+00, 0 us",
    }


def test_an_error_a_fault_and_a_nan_fail_and_the_rest_goes_on() -> None:
    families = {
        "wrong": family(Outcome("large", 2.0, 1.0), Outcome("nan", float("nan"), 1.0)),
        "broken": broken,
        "good": family(Outcome("good", 0.5, 1.0)),
    }
    passed, told = outcomes(families, ["large", "nan", "good", "before"])
    assert not passed
    assert told["large"].startswith("FAILED: error 2.0e+00")
    assert told["nan"].startswith("FAILED")
    assert told["broken"] == "FAILED: RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS"
    assert told["good"].startswith("passed")
    assert told["before"] == "FAILED: not tested"


def test_errors_are_relative_to_the_largest_value() -> None:
    assert compare("a", np.array([1.0, 100.5]), np.array([1.0, 100.0]), 1e-3).error == pytest.approx(0.005)
    assert compare("b", np.array([1j]), np.array([1 + 1j]), 1.0).error == pytest.approx(1 / np.sqrt(2))
    assert np.isnan(compare("c", np.array([np.nan, 1.0]), np.ones(2), 1.0).error)
    assert worst([Outcome("d", 1e-3, 1e-2), Outcome("d", 1e-4, 1e-5)]).error == 1e-4
    assert np.isnan(worst([Outcome("e", 9.0, 1.0), Outcome("e", float("nan"), 1.0)]).error)


def test_every_kernel_is_launched_by_some_family() -> None:
    """By name in the sources; on a device the self-test itself says which were not run."""
    modules = (gpu_selftest, gpu_selftest_images, gpu_selftest_scores, gpu_selftest_sums)
    text = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)
    names = {re.split("<", name)[0] for file in kernel_files() for name in kernel_names(read_source(file))}
    assert len(names) > 20
    assert not [name for name in names if f'"{name}' not in text]
