"""Significant states from a histogram against sorting all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpiapp.kernels.select import CUTOFF, significance_threshold, sum_of_weights

from mpiapp.model import posterior


def kernel_threshold(values: np.ndarray, fraction: float, maximum: int) -> tuple[float, float]:
    return significance_threshold(values, values.size, values.max(), fraction, maximum)


SPREADS = {"flat": 0.01, "few count": 3.0, "wide": 30.0, "one counts": 300.0}


@pytest.mark.parametrize("maximum", [0, 1, 5, 100_000])
@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("spread", SPREADS)
def test_threshold_is_that_of_sorting(
    spread: str, fraction: float, maximum: int, rng: np.random.Generator
) -> None:
    values = (SPREADS[spread] * rng.normal(size=20_000) - 40.0).astype(np.float32)
    threshold, total = kernel_threshold(values, fraction, maximum)
    exact = posterior.significance_threshold(values.astype(float), fraction, maximum)
    assert threshold == np.float32(exact)
    w = np.exp(values.astype(float) - values.max())
    assert total == pytest.approx(w.sum(), rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-60, 20, width=32), min_size=1, max_size=60),
    st.sampled_from([0.3, 0.9, 0.999]),
    st.integers(0, 8),
)
def test_threshold_of_any_list(values: list[float], fraction: float, maximum: int) -> None:
    """As many states as sorting accepts, or one more or less where rounding decides."""
    array = np.array(values, np.float32)
    threshold, _ = kernel_threshold(array, fraction, maximum)
    descending = np.sort(array)[::-1].astype(float)
    reached = np.cumsum(posterior.normalised(descending))
    accepted = int((descending >= threshold).sum())
    distinct = descending[descending >= threshold]
    ties = int((distinct == distinct[-1]).sum())
    if maximum and accepted - ties >= maximum:
        pytest.fail(f"{accepted} states accepted, at most {maximum} asked for")
    if not maximum:
        assert reached[accepted - 1] >= fraction - 1e-6
    if accepted - ties > 0:
        assert reached[accepted - ties - 1] <= fraction + 1e-6


def test_equal_states_all_pass() -> None:
    values = np.full(50, -3.0, np.float32)
    threshold, total = kernel_threshold(values, 0.5, 3)
    assert threshold == -3.0
    assert total == pytest.approx(50)


def test_only_the_first_states_are_looked_at() -> None:
    values = np.array([0.0, -1.0, 50.0], np.float32)
    threshold, total = significance_threshold(values, 2, np.float32(0.0), 0.999, 0)
    assert threshold == -1.0
    assert total == pytest.approx(1 + np.exp(-1.0))


@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0, 100.0])
def test_sum_of_weights(spread: float, rng: np.random.Generator) -> None:
    values = (-spread * rng.exponential(size=5_000)).astype(np.float32)
    exact = np.exp(np.maximum(values.astype(float), -float(CUTOFF))).sum()
    found = sum_of_weights(values, np.float32(0.0))
    # its documentation promises 5e-5
    assert found == pytest.approx(exact, rel=5e-5)
