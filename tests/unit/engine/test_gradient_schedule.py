"""Schedule of a gradient classification against RELION's formulas worked out by hand (refinement.md 7.4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.engine.gradient_schedule import batch_size, gradient_step, mini_batch
from mpiapp.engine.settings import gradient_rules

FILES = {"i": "p.star", "o": "out/run", "grad": True, "K": 4}
RULES = gradient_rules(Class2dConfig.from_options(FILES), 40_000)


def test_phases_of_a_run() -> None:
    assert (RULES.n_iter, RULES.n_initial, RULES.n_between) == (200, 60, 100)
    # 0.7 and 0.5 leave no tenth: divided by their sum and 0.1, 0.538 and 0.385 of 200
    odd = replace(RULES, initial=0.7, final=0.5)
    assert (odd.n_initial, odd.n_between) == (107, 200 - 107 - 76)


@pytest.mark.parametrize(
    ("iteration", "size"),
    [(1, 200), (59, 200), (60, 200), (110, 1100), (159, 1982), (160, 2000), (199, 2000)],
)
def test_mini_batches_grow(iteration: int, size: int) -> None:
    """0.5 % of 40,000 are 200 and 5 % are 2,000; between them a straight line over iterations 60 to 160."""
    assert batch_size(RULES, iteration) == size
    assert gradient_step(RULES, iteration).size == size


@pytest.mark.parametrize(
    ("n", "planar", "volume"),
    [
        (1_000, (200, 1_000), (200, 1_000)),
        (10**6, (5_000, 50_000), (100_000, 100_000)),
        (10**7, (10_000, 100_000), (100_000,) * 2),
    ],
)
def test_default_mini_batches(n: int, planar: tuple[int, int], volume: tuple[int, int]) -> None:
    rules = gradient_rules(Class2dConfig.from_options(FILES), n)
    assert (rules.first, rules.last) == planar
    rules = gradient_rules(Class3dConfig.from_options({**FILES, "ref": "m.mrc"}), n)
    assert (rules.first, rules.last) == volume


def test_the_last_iteration_and_large_mini_batches_take_all_particles() -> None:
    last = gradient_step(RULES, 200)
    assert (last.gradient, last.size, last.mu) == (True, None, 0.0)
    assert gradient_step(replace(RULES, one_class=True), 200).size == 2000
    few = replace(RULES, n_particles=1000)
    assert gradient_step(few, 120).size is None
    assert gradient_step(few, 60).size == 200
    assert gradient_step(few, 60).mu == 0.9


def test_expectation_maximization_at_the_end_and_after_a_correlation() -> None:
    rules = replace(RULES, em_iterations=3, firstiter_cc=True)
    kinds = [gradient_step(rules, n).gradient for n in (1, 2, 197, 198, 199, 200)]
    assert kinds == [False, True, True, False, False, False]
    assert gradient_step(rules, 198).size is None


@pytest.mark.parametrize(
    ("iteration", "step", "fudge"),
    [
        (1, 0.9, 1.0),  # far before the fall
        (85, 0.3 * (3 * 0.5 + 0.5), None),  # middle of the step's fall: 60 + 50 / 2
        (72.5, None, 2 * 0.75),  # middle of the rise of T: 60 + 25 / 2
        (97.5, 0.3 * (3 / 11 + 10 / 11), None),  # a quarter of the width further: 1 / (10 + 1)
        (200, 0.3, 2.0),
    ],
)
def test_step_size_and_regularisation(iteration: float, step: float | None, fudge: float | None) -> None:
    found = gradient_step(RULES, iteration)  # type: ignore[arg-type]
    if step is not None:
        assert found.step_size == pytest.approx(step, rel=1e-4)
    if fudge is not None:
        assert found.tau2_fudge == pytest.approx(fudge, rel=1e-4)


def test_maps_have_constant_steps() -> None:
    rules = gradient_rules(Class3dConfig.from_options({**FILES, "ref": "m.mrc"}), 40_000)
    for n in (1, 85, 200):
        step = gradient_step(rules, n)
        assert (step.step_size, step.tau2_fudge, step.inactivity) == pytest.approx((0.3, 4.0, 0.0))
    assert rules.max_significant == 400
    assert RULES.max_significant == 20


def test_schemes_that_are_given() -> None:
    options = {**FILES, "grad_stepsize": 0.2, "grad_stepsize_scheme": "2-step", "tau2_fudge_scheme": "plain"}
    rules = gradient_rules(Class2dConfig.from_options(options).validate(), 40_000)
    assert gradient_step(rules, 1).step_size == pytest.approx(0.4, rel=1e-3)
    assert gradient_step(rules, 200).step_size == pytest.approx(0.2, rel=1e-3)
    assert gradient_step(rules, 1).tau2_fudge == 2.0


def test_idle_classes_are_replaced_between_the_phases_only() -> None:
    found = [gradient_step(RULES, n).inactivity for n in (60, 61, 159, 160)]
    assert found == [0.0, 0.1, 0.1, 0.0]
    assert [gradient_step(RULES, n).centres for n in (1, 159, 160)] == [True, True, False]


def test_mini_batches_depend_on_seed_and_iteration_only() -> None:
    first, again = (mini_batch(5, 3, 1000, 200) for _ in (0, 1))
    assert first is not None
    assert first.sum() == 200
    np.testing.assert_array_equal(first, again)
    for other in (mini_batch(5, 4, 1000, 200), mini_batch(6, 3, 1000, 200)):
        assert other is not None
        assert 10 < (first & other).sum() < 80  # 40 in the mean
    assert mini_batch(5, 3, 1000, None) is None
