"""The self-test reports every test, and one that fails does not hide the others."""

from __future__ import annotations

from mpiapp.backend.gpu_selftest import run_tests


def broken() -> tuple[float, float]:
    raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")


def outcomes(*tests: tuple[str, object]) -> tuple[bool, dict[str, str]]:
    told: dict[str, str] = {}
    return run_tests(tests, told.__setitem__), told  # type: ignore[arg-type]


def test_all_within_their_limits_pass() -> None:
    passed, told = outcomes(("slices", lambda: (1e-4, 1e-3)), ("sums", lambda: (0.0, 0.0)))
    assert passed
    assert told == {
        "slices": "passed: error 0.0001, limit 0.001",
        "sums": "passed: error 0, limit 0",
    }


def test_an_error_a_fault_and_a_nan_fail_and_the_rest_goes_on() -> None:
    passed, told = outcomes(
        ("large", lambda: (2.0, 1.0)),
        ("broken", broken),
        ("nan", lambda: (float("nan"), 1.0)),
        ("good", lambda: (0.5, 1.0)),
    )
    assert not passed
    assert told["large"] == "FAILED: error 2, limit 1"
    assert told["broken"] == "FAILED: RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS"
    assert told["nan"].startswith("FAILED")
    assert told["good"].startswith("passed")
