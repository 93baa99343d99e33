"""Selecting the significant states of one image from its log weights (refinement.md 4.8, engine.md 3).

Twin: ``mpiapp.model.posterior.significance_threshold``.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL

# States this far (in nats) below the best are left out of sums: 1e6 of them weigh less than 1e-4.
CUTOFF = np.float32(25.0)
_BINS = 1024
_LOWEST = -CUTOFF
_SMALL = np.float32(1.0 / 256.0)
_C2, _C3, _C4 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
_ONE = np.float32(1.0)


@numba.njit(**JIT)
def grown(array, size):  # type: ignore[no-untyped-def]
    """The array with room for at least ``size`` rows, and for twice as many as before."""
    bigger = np.empty((max(size, 2 * array.shape[0]), *array.shape[1:]), array.dtype)
    bigger[: array.shape[0]] = array
    return bigger


@numba.njit(**KERNEL)
def sum_of_weights(log_weight, best):  # type: ignore[no-untyped-def]
    """Sum of exp(log_weight - best), to 5e-5: exp(x) = exp(x / 256)^256 with a short series, which vectorises."""
    total = np.float32(0.0)
    for n in range(log_weight.size):
        y = max(log_weight[n] - best, _LOWEST) * _SMALL
        e = _ONE + y * (_ONE + y * (_C2 + y * (_C3 + y * _C4)))
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        total += e * e
    return total


@numba.njit(**JIT)
def significance_threshold(log_weight, count, best, fraction, maximum):  # type: ignore[no-untyped-def]
    """Smallest accepted log weight, and the sum of exp(log_weight - best) over all states.

    States are accepted in descending order until their sum exceeds ``fraction`` of the whole, and at most ``maximum``
    of them if that is positive. The threshold is found from a histogram and made exact inside one bin.
    """
    weight_of = np.zeros(_BINS, np.float64)
    number_of = np.zeros(_BINS, np.int64)
    per_nat = np.float32(_BINS) / CUTOFF
    total = 0.0
    for n in range(count):
        below = best - log_weight[n]
        if below < CUTOFF:
            w = np.exp(-np.float64(below))
            total += w
            b = min(int(below * per_nat), _BINS - 1)
            weight_of[b] += w
            number_of[b] += 1
    target = fraction * total
    reached = 0.0
    accepted = 0
    last = 0
    for b in range(_BINS):
        last = b
        full = maximum > 0 and accepted + number_of[b] >= maximum
        if reached + weight_of[b] > target or full:
            break
        reached += weight_of[b]
        accepted += number_of[b]
    inside = np.empty(number_of[last], np.float32)
    m = 0
    for n in range(count):
        below = best - log_weight[n]
        if below < CUTOFF and min(int(below * per_nat), _BINS - 1) == last:
            inside[m] = log_weight[n]
            m += 1
    if m == 0:
        return best - CUTOFF, total
    inside.sort()
    threshold = inside[m - 1]
    for n in range(m - 1, -1, -1):
        threshold = inside[n]
        reached += np.exp(np.float64(threshold - best))
        accepted += 1
        if reached > target or (maximum > 0 and accepted >= maximum):
            break
    return threshold, total
