"""Single-precision sums that stay exact for any number of particles."""

from __future__ import annotations

import numpy as np

from mpiapp.backend.batches import runs_of
from mpiapp.backend.gpu_back_projection import PLANES, Target


def test_many_sums_are_compensated() -> None:
    """A thousand runs that each add to a grid: single precision alone loses a thousandth, the target nothing."""
    rng = np.random.default_rng(5)
    shape, runs = (2, PLANES + 3, 4, 3, 4), 1000
    target = Target(np.zeros(shape, np.float32), 2.0, False, kept=np.zeros(shape, np.float32))
    truth, plain = np.zeros(shape), np.zeros(shape, np.float32)
    for _ in range(runs):
        run = rng.uniform(0, 1e5, shape).astype(np.float32) ** 2 * rng.choice([1, -1, 1], shape)
        run = run.astype(np.float32)
        truth += run
        plain += run
        target.grid += run
        target.settle()
    scale = np.abs(truth).max()
    assert np.abs(plain - truth).max() > 3e-7 * scale
    assert np.abs(target.whole() - truth).max() <= 6e-8 * scale
    assert target.kept is None


def test_without_a_second_grid_nothing_is_moved() -> None:
    grid = np.ones((1, 3, 3, 2, 4), np.float32)
    assert Target(grid, 2.0, False).whole() is grid


def test_runs_of_batches() -> None:
    batches = [np.arange(n) for n in (4, 4, 4, 1, 9, 2)]
    runs = runs_of(batches, 8)
    assert [[rows.size for rows in run] for run in runs] == [[4, 4], [4, 1, 9], [2]]
    assert [[rows.size for rows in run] for run in runs_of(batches, 1000)] == [[4, 4, 4, 1, 9, 2]]
    assert runs_of([], 8) == []
