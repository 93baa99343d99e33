"""The coarse pass: scores of every (direction, in-plane angle, shift) of an image, and which of them matter.

Twin in float64: ``mpiapp.model.scores.log_weights`` followed by ``mpiapp.model.posterior.significant_weights``.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL
from mpiapp.kernels.rows import base_row, shifted
from mpiapp.kernels.select import CUTOFF, grown, significance_threshold, sum_of_weights

_HALF = np.float32(0.5)
_TINY = np.float32(1e-30)
_LOWEST = np.float32(-3.0e38)
_TURN = np.float32(360.0)


@numba.njit(**KERNEL)
def _combine(even, odd, power, log_prior):  # type: ignore[no-untyped-def]
    """Log weights at psi (into ``even``) and psi + 180 (into ``odd``) from the two products; returns the best."""
    best = _LOWEST
    for d in range(even.size):
        prior = log_prior[d] - _HALF * power[d]
        plus = even[d] + odd[d] + prior
        minus = even[d] - odd[d] + prior
        even[d] = plus
        odd[d] = minus
        best = max(best, max(plus, minus))
    return best


@numba.njit(**KERNEL)
def _combine_correlation(even, odd, power):  # type: ignore[no-untyped-def]
    """As :func:`_combine` for normalised cross-correlation (refinement.md 4.7)."""
    best = _LOWEST
    for d in range(even.size):
        norm = np.float32(1.0) / np.sqrt(power[d] + _TINY)
        plus = (even[d] + odd[d]) * norm
        minus = (even[d] - odd[d]) * norm
        even[d] = plus
        odd[d] = minus
        best = max(best, max(plus, minus))
    return best


@numba.njit(**JIT)
def _log_priors(log_row, log_shift, first):  # type: ignore[no-untyped-def]
    """Log prior of every shift (rows) and row of the table (columns), the rows counted from ``first``."""
    n_centre, n_trans = log_shift.shape
    out = np.empty((n_trans, log_row.size), np.float32)
    for t in range(n_trans):
        for d in range(log_row.size):
            out[t, d] = log_row[d] + log_shift[first + d if n_centre > 1 else 0, t]
    return out


@numba.njit(**JIT)
def _turned_rows(  # type: ignore[no-untyped-def]
    images, optics, pixels, turns, phases, i, scratch, row, powers, real, imaginary
):
    """Image i at every in-plane angle and shift (rows j * n_trans + t), and what |P|^2 counts at every angle."""
    n_trans, n_pix = turns.shift_A.shape[0], pixels.qx.size
    every = np.arange(n_trans).astype(np.int32)
    flat_re, flat_im = real.reshape(-1), imaginary.reshape(-1)
    for j in range(turns.cosine.size):
        base_row(images, optics, pixels, i, j, turns.cosine[j], turns.sine[j], scratch, row, powers[j])
        first = j * n_trans * n_pix
        shifted(
            row, images, optics, pixels, phases, i, j, turns, every, n_pix, flat_re[first:], flat_im[first:]
        )


@numba.njit(**JIT)
def _lowest_that_counts(even, odd, row_best, best, fraction):  # type: ignore[no-untyped-def]
    """Log weight below which all states together weigh less than what is left out anyway."""
    total = 0.0
    for r in range(row_best.size):
        if row_best[r] > best - CUTOFF:
            total += sum_of_weights(even[r], best) + sum_of_weights(odd[r], best)
    return best + np.float32(np.log((1.0 - fraction) * total / (2 * even.size)))


@numba.njit(**JIT)
def global_search(  # type: ignore[no-untyped-def]
    images,
    optics,
    pixels,
    turns,
    phases,
    table,
    table_power,
    log_row,
    log_shift,
    row_range,
    correlate,
    fraction,
    maximum,
    scratch,
):
    """Score all rows, in-plane angles and shifts of every image and keep the significant ones.

    A row is a direction of a class, class * n_dir + direction; for class averages it is the class.

    A slice half a turn on is the complex conjugate of itself, so the products of the real and of the imaginary parts,
    taken apart, give psi (their sum) and psi + 180 degrees (their difference): half the arithmetic.

    Parameters
    ----------
    turns : Turns with the first half of the in-plane angles; psi index j + n is half a turn on.
    table : (2, n_rows, n_pix) float32 slices;  table_power : (n_rows, n_pix) float32, |P|^2.
    log_row : (n_rows,) float32 log priors.
    log_shift : (n_img, n_centre, n_trans) float32 log priors around one centre, or one for each row.
    row_range : (n_img, 2) int32, the first row that an image is compared with and that after the last.
    correlate : bool, cross-correlation: only the best state is kept.

    Returns
    -------
    offsets : (n_img + 1,) int64;  states : (n, 3) int32 of row, psi, shift.
    priors : (n,) float32 log prior of the orientation of each state.
    """
    n_psi = turns.cosine.size
    n_trans = turns.shift_A.shape[0]
    n_pix = pixels.qx.size
    real = np.empty((n_psi * n_trans, n_pix), np.float32)
    imaginary = np.empty((n_psi * n_trans, n_pix), np.float32)
    powers = np.empty((n_psi, n_pix), np.float32)
    row = np.empty((2, n_pix), np.float32)
    row_best = np.empty(n_psi * n_trans, np.float32)
    n_img = images.group.size
    offsets = np.zeros(n_img + 1, np.int64)
    states = np.empty((1024, 3), np.int32)
    values = np.empty(1024, np.float32)
    found = np.empty((1024, 3), np.int32)
    found_prior = np.empty(1024, np.float32)
    priors = np.empty(1024, np.float32)
    for i in range(n_img):
        _turned_rows(images, optics, pixels, turns, phases, i, scratch, row, powers, real, imaginary)
        lo = row_range[i, 0]
        hi = row_range[i, 1]
        even = np.dot(real, table[0, lo:hi].T)
        odd = np.dot(imaginary, table[1, lo:hi].T)
        power = np.dot(powers, table_power[lo:hi].T)
        log_prior = _log_priors(log_row[lo:hi], log_shift[i], lo)
        best = _LOWEST
        for r in range(n_psi * n_trans):
            j = r // n_trans
            if correlate:
                row_best[r] = _combine_correlation(even[r], odd[r], power[j])
            else:
                row_best[r] = _combine(even[r], odd[r], power[j], log_prior[r - j * n_trans])
            best = max(best, row_best[r])
        limit = best
        if not correlate:
            limit = _lowest_that_counts(even, odd, row_best, best, fraction)
        m = 0
        for half in range(2):
            scores = even if half == 0 else odd
            for r in range(n_psi * n_trans):
                if row_best[r] < limit:
                    continue
                j = r // n_trans
                for d in range(hi - lo):
                    if scores[r, d] >= limit:
                        if m == values.size:
                            found = grown(found, m + 1)
                            values = grown(values, m + 1)
                            found_prior = grown(found_prior, m + 1)
                        values[m] = scores[r, d]
                        found_prior[m] = log_row[lo + d]
                        found[m, 0] = lo + d
                        found[m, 1] = j + half * n_psi
                        found[m, 2] = r - j * n_trans
                        m += 1
        states, priors = _accept(
            i, values, found_prior, found, m, best, correlate, fraction, maximum, offsets, states, priors
        )
    return offsets, states[: offsets[n_img]], priors[: offsets[n_img]]


@numba.njit(**JIT)
def _accept(  # type: ignore[no-untyped-def]
    i,
    values,
    found_prior,
    found,
    count,
    best,
    correlate,
    fraction,
    maximum,
    offsets,
    states,
    priors,
):
    """Append the significant ones of the candidates of image i to the list of states."""
    threshold = best
    if not correlate:
        threshold, _ = significance_threshold(values, count, best, fraction, maximum)
    k = offsets[i]
    for m in range(count):
        if values[m] >= threshold:
            if k == states.shape[0]:
                states = grown(states, k + 1)
                priors = grown(priors, k + 1)
            states[k] = found[m]
            priors[k] = found_prior[m]
            k += 1
            if correlate:
                break
    offsets[i + 1] = k
    return states, priors


@numba.njit(**JIT)
def _window(center, psi, cutoff):  # type: ignore[no-untyped-def]
    """Wrapped distance of two in-plane angles in degrees, and whether it is inside the window."""
    delta = abs(psi - center)
    delta -= _TURN * np.floor(delta / _TURN)
    delta = min(delta, _TURN - delta)
    return delta, delta < cutoff


@numba.njit(**JIT)
def _mark_angles(centers, psi, cutoff, wanted):  # type: ignore[no-untyped-def]
    """Mark the in-plane angles, evenly spaced over a turn, that lie in a window or just outside it."""
    wanted[:] = False
    n = psi.size
    per_degree = np.float32(n) / _TURN
    for center in centers:
        first = int(np.floor((center - cutoff - psi[0]) * per_degree))
        last = int(np.ceil((center + cutoff - psi[0]) * per_degree))
        for j in range(first, min(last + 1, first + n)):
            wanted[j % n] = True


@numba.njit(**JIT)
def local_search(  # type: ignore[no-untyped-def]
    images,
    optics,
    pixels,
    turns,
    phases,
    psi_deg,
    table,
    row_of,
    near_offsets,
    near_row,
    near_log_prior,
    near_psi,
    sigma_deg,
    cutoff_deg,
    log_shift,
    correlate,
    fraction,
    maximum,
    scratch,
):
    """Score the neighbourhood of each image's own orientation and keep the significant states.

    Parameters
    ----------
    turns, psi_deg : all in-plane angles of the grid, evenly spaced; psi_deg (n_psi,) float32.
    table : (n, 2, n_pix) float32 slices; ``row_of`` (n_rows,) int32 tells where a row is in it.
    near_offsets, near_row, near_log_prior, near_psi :
        Neighbourhoods in CSR form, sorted by near_psi, the in-plane angle that fits the prior best (degrees).
    log_shift : (n_img, 1, n_trans) float32.
    sigma_deg, cutoff_deg : float32, standard deviation of the prior of the in-plane angle, and where its window ends.

    Returns
    -------
    As :func:`global_search`.
    """
    n_psi = turns.cosine.size
    n_trans = turns.shift_A.shape[0]
    n_pix = pixels.qx.size
    n_img = images.group.size
    inverse = np.float32(0.5) / (sigma_deg * sigma_deg)
    offsets = np.zeros(n_img + 1, np.int64)
    states = np.empty((1024, 3), np.int32)
    rows = np.empty((n_trans, 2 * n_pix), np.float32)
    out_re, out_im = rows.reshape(-1), rows.reshape(-1)[n_pix:]
    every_shift = np.arange(n_trans).astype(np.int32)
    row = np.empty((2, n_pix), np.float32)
    power = np.empty(n_pix, np.float32)
    values = np.empty(4096, np.float32)
    found = np.empty((4096, 3), np.int32)
    found_prior = np.empty(4096, np.float32)
    priors = np.empty(1024, np.float32)
    slices = np.empty((64, 2 * n_pix), np.float32)
    wanted = np.empty(n_psi, np.bool_)
    for i in range(n_img):
        lo = near_offsets[i]
        n_near = near_offsets[i + 1] - lo
        if n_near > slices.shape[0]:
            slices = np.empty((2 * n_near, 2 * n_pix), np.float32)
        for d in range(n_near):
            slices[d] = table[row_of[near_row[lo + d]]].reshape(2 * n_pix)
        _mark_angles(near_psi[lo : lo + n_near], psi_deg, cutoff_deg, wanted)
        best = _LOWEST
        m = 0
        for j in range(n_psi):
            if not wanted[j]:
                continue
            started = False
            d = 0
            while d < n_near:
                delta, inside = _window(near_psi[lo + d], psi_deg[j], cutoff_deg)
                if not inside:
                    d += 1
                    continue
                first = d
                while d < n_near and _window(near_psi[lo + d], psi_deg[j], cutoff_deg)[1]:
                    d += 1
                if not started:
                    started = True
                    c = turns.cosine[j]
                    s = turns.sine[j]
                    base_row(images, optics, pixels, i, j, c, s, scratch, row, power)
                    shifted(
                        row,
                        images,
                        optics,
                        pixels,
                        phases,
                        i,
                        j,
                        turns,
                        every_shift,
                        2 * n_pix,
                        out_re,
                        out_im,
                    )
                run = slices[first:d]
                scores = np.dot(rows, run.T)
                if m + scores.size > values.size:
                    found = grown(found, m + scores.size)
                    values = grown(values, m + scores.size)
                    found_prior = grown(found_prior, m + scores.size)
                for e in range(d - first):
                    weight = reference_power(run[e], power)
                    delta, inside = _window(near_psi[lo + first + e], psi_deg[j], cutoff_deg)
                    prior = near_log_prior[lo + first + e] - delta * delta * inverse
                    norm = np.float32(1.0) / np.sqrt(weight + _TINY)
                    for t in range(n_trans):
                        if correlate:
                            value = scores[t, e] * norm
                        else:
                            value = scores[t, e] - _HALF * weight + prior + log_shift[i, 0, t]
                        values[m] = value
                        found_prior[m] = prior
                        found[m, 0] = near_row[lo + first + e]
                        found[m, 1] = j
                        found[m, 2] = t
                        m += 1
                        best = max(best, value)
        states, priors = _accept(
            i, values, found_prior, found, m, best, correlate, fraction, maximum, offsets, states, priors
        )
    return offsets, states[: offsets[n_img]], priors[: offsets[n_img]]


@numba.njit(**KERNEL)
def reference_power(slice_row, power):  # type: ignore[no-untyped-def]
    """H of engine.md 2 for one slice: sum of |P|^2 a^2 c^2 / sigma2."""
    n = power.size
    total = np.float32(0.0)
    for p in range(n):
        total += power[p] * (slice_row[p] * slice_row[p] + slice_row[n + p] * slice_row[n + p])
    return total
