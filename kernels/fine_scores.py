"""Scores of the children of the significant states of one image (engine.md 4).

The states come grouped by in-plane angle. Within a group every child direction meets every child shift in one small
matrix product; pairs whose parents were not accepted are left out afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from mpiapp.kernels.arguments import F32, I32
from mpiapp.kernels.coarse import reference_power
from mpiapp.kernels.elementary import JIT
from mpiapp.kernels.rows import base_row, shifted
from numpy.typing import NDArray

_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
_TINY = np.float32(1e-30)
_LOWEST = np.float32(-3.0e38)


class Stamps(NamedTuple):
    """Work arrays that number the distinct rows and shifts of a group of states."""

    row_place: I32  # (n_rows,)
    row_mark: NDArray[np.int8]  # (n_rows,) all 0 between calls
    row_names: I32
    shift_place: I32  # (n_trans,)
    shift_mark: NDArray[np.int8]
    shift_names: I32


class Children(NamedTuple):
    """Scored children of the states of one image."""

    own: I32  # (n, 3) its states, grouped by in-plane angle
    values: F32  # (m,) log weights
    where: I32  # (m, 4) number of the fine in-plane angle, state, child direction, child shift
    n_values: int  # m; the arrays may be longer
    best: np.float32
    bases: F32  # (n_angles, 2, n_pix) weighted image at each fine in-plane angle
    powers: F32  # (n_angles, n_pix)


@numba.njit(**JIT)
def make_stamps(n_rows, n_trans):  # type: ignore[no-untyped-def]
    """Work arrays for one batch."""
    return Stamps(
        np.empty(n_rows, np.int32),
        np.zeros(n_rows, np.int8),
        np.empty(n_rows, np.int32),
        np.empty(n_trans, np.int32),
        np.zeros(n_trans, np.int8),
        np.empty(n_trans, np.int32),
    )


@numba.njit(**JIT)
def _unique(states, lo, hi, column, place, mark, names):  # type: ignore[no-untyped-def]
    """Distinct values of one column of states[lo:hi] in order of appearance; place[value] = position."""
    n = 0
    for k in range(lo, hi):
        v = states[k, column]
        if mark[v] == 0:
            mark[v] = 1
            place[v] = n
            names[n] = v
            n += 1
    for k in range(n):
        mark[names[k]] = 0
    return n


@numba.njit(**JIT)
def _grouped(candidates, first, last):  # type: ignore[no-untyped-def]
    """States of an image and their priors sorted by in-plane angle, and where each angle begins."""
    n = last - first
    order = np.argsort(candidates.states[first:last, 1], kind="mergesort")
    own = np.empty((n, 3), np.int32)
    prior = np.empty(n, np.float32)
    starts = np.empty(n + 1, np.int64)
    n_group = 0
    for k in range(n):
        own[k] = candidates.states[first + order[k]]
        prior[k] = candidates.priors[first + order[k]]
        if k == 0 or own[k, 1] != own[k - 1, 1]:
            starts[n_group] = k
            n_group += 1
    starts[n_group] = n
    return own, prior, starts[: n_group + 1]


@numba.njit(**JIT)
def _slices(rows, names, count, children):  # type: ignore[no-untyped-def]
    """Slices of the children of several coarse rows as rows of a matrix."""
    n_pix = rows.table.shape[2]
    out = np.empty((count * children, 2 * n_pix), np.float32)
    for d in range(count):
        for c in range(children):
            out[d * children + c] = rows.table[rows.first[names[d]] + c].reshape(2 * n_pix)
    return out


@numba.njit(**JIT)
def _shifted_rows(base, images, optics, pixels, phases, i, psi, turns, names, count, children):  # type: ignore[no-untyped-def]
    """The base row shifted by the children of several coarse shifts, as rows of a matrix."""
    n_pix = pixels.qx.size
    out = np.empty((count * children, 2, n_pix), np.float32)
    shifts = np.empty(count * children, np.int32)
    for r in range(shifts.size):
        shifts[r] = names[r // children] * children + r % children
    flat = out.reshape(-1)
    shifted(base, images, optics, pixels, phases, i, psi, turns, shifts, 2 * n_pix, flat, flat[n_pix:])
    return out


@numba.njit(**JIT)
def _products(rows, slices, power, n_score):  # type: ignore[no-untyped-def]
    """Scores S of shifted rows with slices, and H of the slices, over the first ``n_score`` pixels."""
    n_pix = power.size
    if n_score < n_pix:
        rows[:, :, n_score:] = _ZERO
        power = power.copy()
        power[n_score:] = _ZERO
    scores = np.dot(rows.reshape(rows.shape[0], 2 * n_pix), slices.T)
    h = np.empty(slices.shape[0], np.float32)
    for d in range(slices.shape[0]):
        h[d] = reference_power(slices[d], power)
    return scores, h


@numba.njit(**JIT)
def _append(  # type: ignore[no-untyped-def]
    own, prior, lo, hi, b, family, stamps, log_shift, scores, h, correlate, values, where, m, best
):
    """Log weights of the children of states lo .. hi at one fine in-plane angle, number b."""
    n_centre = log_shift.shape[0]
    for k in range(lo, hi):
        row = own[k, 0]
        d0 = stamps.row_place[row] * family.directions
        t0 = stamps.shift_place[own[k, 2]] * family.shifts
        log_prior = prior[k] + log_shift[row if n_centre > 1 else 0, own[k, 2]]
        for d in range(family.directions):
            for t in range(family.shifts):
                score = scores[t0 + t, d0 + d]
                if correlate:
                    value = score / np.sqrt(h[d0 + d] + _TINY)
                else:
                    value = score - _HALF * h[d0 + d] + log_prior
                values[m] = value
                where[m, 0] = b
                where[m, 1] = k
                where[m, 2] = d
                where[m, 3] = t
                m += 1
                best = max(best, value)
    return m, best


@numba.njit(**JIT)
def score_children(  # type: ignore[no-untyped-def]
    i, images, optics, pixels, turns, phases, family, candidates, rows, shifts, rule, scratch, stamps
):
    """Log weights of all children of the states of image i."""
    n_pix = pixels.qx.size
    own, prior, starts = _grouped(candidates, candidates.offsets[i], candidates.offsets[i + 1])
    n_group = starts.size - 1
    bases = np.empty((n_group * family.psi, 2, n_pix), np.float32)
    powers = np.empty((n_group * family.psi, n_pix), np.float32)
    size = own.shape[0] * family.psi * family.directions * family.shifts
    values = np.empty(size, np.float32)
    where = np.empty((size, 4), np.int32)
    m = 0
    best = _LOWEST
    s = stamps
    for g in range(n_group):
        lo = starts[g]
        hi = starts[g + 1]
        n_d = _unique(own, lo, hi, 0, s.row_place, s.row_mark, s.row_names)
        n_t = _unique(own, lo, hi, 2, s.shift_place, s.shift_mark, s.shift_names)
        slices = _slices(rows, s.row_names, n_d, family.directions)
        for child in range(family.psi):
            b = g * family.psi + child
            j = own[lo, 1] * family.psi + child
            base_row(
                images, optics, pixels, i, j, turns.cosine[j], turns.sine[j], scratch, bases[b], powers[b]
            )
            shifted_rows = _shifted_rows(
                bases[b], images, optics, pixels, phases, i, j, turns, s.shift_names, n_t, family.shifts
            )
            scores, h = _products(shifted_rows, slices, powers[b], rule.n_score)
            m, best = _append(
                own,
                prior,
                lo,
                hi,
                b,
                family,
                stamps,
                shifts.log_prior[i],
                scores,
                h,
                rule.correlate,
                values,
                where,
                m,
                best,
            )
    return Children(own, values, where, m, best, bases, powers)
