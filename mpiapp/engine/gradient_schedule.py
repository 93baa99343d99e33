"""Schedule of a gradient classification: mini-batches, step sizes, regularisation (refinement.md 7.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.noise import particle_generator
from mpiapp.model.pixels import round_half_away

# Initial and final fractions are scaled such that this much is left for the iterations between them
LEAST_BETWEEN = 0.1
# Step size at the start of a scheme that is not given, and the final one
FIRST_STEP, LAST_STEP = 0.9, 0.3
# Mini-batches: share of the particles, least and largest number, of the first and the last iterations
PLANE_FIRST, PLANE_LAST = (0.005, 200, 10_000), (0.05, 1_000, 100_000)
VOLUME_FIRST, VOLUME_LAST = (0.1, 200, 100_000), (0.1, 1_000, 100_000)
# Most poses of a particle in the fine pass, for each class
PLANE_POSES, VOLUME_POSES = 5, 100
# Iterations between two looks at the expected accuracies
ACCURACY_EVERY = 10


@dataclass(frozen=True)
class GradientRules:
    """What does not change during a run.

    Attributes
    ----------
    first, last : particles of a mini-batch in the initial and in the final iterations
    step_size, step_factor : final step size, and what the first one is in its units; 1 for a constant step size
    tau2_fudge, tau2_factor : final T, and what it is in units of the first one; 1 for a constant T
    """

    n_iter: int
    initial: float
    final: float
    n_particles: int
    first: int
    last: int
    step_size: float
    step_factor: float
    tau2_fudge: float
    tau2_factor: float
    em_iterations: int
    mu: float
    max_significant: int
    inactivity: float
    one_class: bool
    firstiter_cc: bool

    @property
    def n_initial(self) -> int:
        """Iterations with the first mini-batch size and step."""
        return int(self.n_iter * self.initial / self._scale)

    @property
    def n_between(self) -> int:
        """Iterations that lead from the first to the last sizes."""
        return self.n_iter - self.n_initial - int(self.n_iter * self.final / self._scale)

    @property
    def _scale(self) -> float:
        total = self.initial + self.final
        return total + LEAST_BETWEEN if total > 1 - LEAST_BETWEEN else 1.0


@dataclass(frozen=True)
class GradientStep:
    """One iteration.

    Attributes
    ----------
    gradient : a gradient step, or a step of expectation-maximization
    size : particles of the mini-batch; None for all
    mu : what is kept of the noise spectra, priors and so on
    inactivity : share of the mean size below which a class is idle and may be replaced; 0 when none may
    centres : whether references are centred, if asked for
    """

    gradient: bool
    size: int | None
    step_size: float
    tau2_fudge: float
    mu: float
    inactivity: float
    centres: bool


def gradient_step(rules: GradientRules, iteration: int) -> GradientStep:
    """What an iteration, counted from 1, does."""
    is_gradient = iteration <= rules.n_iter - rules.em_iterations and not (
        rules.firstiter_cc and iteration == 1
    )
    size: int | None = batch_size(rules, iteration)
    whole = iteration == rules.n_iter and not rules.one_class
    if not is_gradient or whole or batch_size(rules, iteration) >= rules.n_particles:
        size = None
    end = rules.n_initial + rules.n_between
    return GradientStep(
        is_gradient,
        size,
        rules.step_size * _fall(rules, iteration, rules.n_between // 2, rules.step_factor),
        rules.tau2_fudge * _fall(rules, iteration, rules.n_between // 4, 1 / rules.tau2_factor),
        rules.mu if size is not None else 0.0,
        rules.inactivity if is_gradient and rules.n_initial < iteration < end else 0.0,
        not is_gradient or iteration < end,
    )


def batch_size(rules: GradientRules, iteration: int) -> int:
    """Particles of a mini-batch: constant, then growing by as much in each iteration, then constant."""
    past = iteration - rules.n_initial
    if past < 0:
        return rules.first
    if past < rules.n_between:
        return rules.first + int(round_half_away(past / rules.n_between * (rules.last - rules.first)))
    return rules.last


def _fall(rules: GradientRules, iteration: int, width: int, first: float) -> float:
    """From a first value to 1 along a sigmoid that begins with the iterations between and has this width."""
    if width == 0:
        return 1.0 if iteration >= rules.n_initial else first
    exponent = (iteration - rules.n_initial - width / 2) / (width / 4)
    share = 1 / (10.0 ** min(exponent, 300.0) + 1)
    return first * share + 1 - share


def default_size(n_particles: int, limits: tuple[float, int, int]) -> int:
    """Mini-batch of a share of the particles within limits."""
    share, least, largest = limits
    return max(least, min(int(share * n_particles), largest))


def mini_batch(seed: int, iteration: int, n_particles: int, size: int | None) -> NDArray[np.bool_] | None:
    """Which particles an iteration looks at: (n_particles,), the same on every rank; None for all."""
    if size is None:
        return None
    chosen = np.zeros(n_particles, bool)
    chosen[particle_generator(seed, "mini-batch", iteration).permutation(n_particles)[:size]] = True
    return chosen
