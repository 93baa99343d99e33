"""The fine pass: children of the significant states, their posterior, and the weighted sums (engine.md 4 and 5).

Twins in float64: ``mpiapp.model.scores``, ``mpiapp.model.posterior``, ``mpiapp.model.sums``.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.arguments import Posterior
from mpiapp.kernels.elementary import JIT
from mpiapp.kernels.fine_scores import make_stamps, score_children
from mpiapp.kernels.fine_sums import back_project, map_weights, reference_sums, shift_still
from mpiapp.kernels.select import grown, significance_threshold

_ZERO = np.float32(0.0)


@numba.njit(**JIT)
def fine_pass(  # type: ignore[no-untyped-def]
    images,
    optics,
    pixels,
    turns,
    phases,
    family,
    candidates,
    rows,
    shifts,
    rule,
    still,
    grid,
    scratch,
    n_shell,
):
    """Posterior over the children of the significant states, and its weighted sums.

    Parameters
    ----------
    turns : Turns of the fine in-plane angles (n_psi * family.psi,) and fine shifts (n_trans * family.shifts, 2).
    candidates : Candidates;  rows : FineRows;  shifts : Shifts;  rule : Rule.
    still, grid : MapSide and Grid of the back-projection.

    Returns
    -------
    Posterior
    """
    n_img = images.group.size
    n_rows = rows.first.size
    posterior = Posterior(
        np.zeros((n_img, 5), np.int32),
        np.empty(n_img, np.float32),
        np.empty(n_img, np.float64),
        np.empty(n_img, np.float32),
        np.zeros((n_img, n_shell), np.float64),
        np.zeros((n_img, n_shell), np.float64),
        np.zeros(n_rows, np.float64),
        np.zeros((n_rows, 2), np.float64),
        np.zeros(n_img, np.float64),
        np.zeros(n_img, np.float64),
    )
    stamps = make_stamps(n_rows, turns.shift_A.shape[0] // family.shifts)
    shift_place = np.full(turns.shift_A.shape[0], -1, np.int32)
    for i in range(n_img):
        children = score_children(
            i, images, optics, pixels, turns, phases, family, candidates, rows, shifts, rule, scratch, stamps
        )
        threshold = children.best
        total = 1.0
        if not rule.correlate:
            threshold, total = significance_threshold(
                children.values, children.n_values, children.best, rule.fraction, 0
            )
        posterior.log_best[i] = children.best
        posterior.log_sum[i] = np.log(total)
        posterior.best_weight[i] = np.float32(1.0 / total)
        _sums_of_image(
            i,
            children,
            threshold,
            total,
            images,
            optics,
            pixels,
            turns,
            phases,
            family,
            rows,
            shifts,
            rule.correlate,
            still,
            grid,
            shift_place,
            posterior,
        )
    return posterior


@numba.njit(**JIT)
def _accept(  # type: ignore[no-untyped-def]
    i,
    first,
    last,
    children,
    threshold,
    total,
    family,
    rows,
    shifts,
    turns,
    correlate,
    chosen,
    of_class,
    weight,
    posterior,
    seen_best,
):
    """The accepted children first .. last, all at one in-plane angle; adds to the sums that need no pixels."""
    n = 0
    for e in range(first, last):
        if children.values[e] < threshold:
            continue
        state = children.own[children.where[e, 1]]
        row = state[0]
        fine_shift = state[2] * family.shifts + children.where[e, 3]
        w = np.exp(np.float64(children.values[e] - children.best)) / total
        chosen[n, 0] = rows.first[row] + children.where[e, 2]
        chosen[n, 1] = fine_shift
        of_class[n] = row // rows.per_class
        weight[n] = np.float32(w)
        n += 1
        posterior.weight[i] += w
        posterior.row_weight[row] += w
        for c in range(2):
            posterior.row_shift[row, c] += w * (shifts.old_A[i, c] + turns.shift_A[fine_shift, c])
        centre = row if shifts.square.shape[1] > 1 else 0
        posterior.offset_variance[i] += w * shifts.square[i, centre, fine_shift]
        if not seen_best and children.values[e] == children.best:
            seen_best = True
            posterior.best[i, 0] = row
            posterior.best[i, 1] = children.where[e, 2]
            posterior.best[i, 2] = state[1]
            posterior.best[i, 3] = children.where[e, 0] % family.psi
            posterior.best[i, 4] = fine_shift
        if correlate:
            break
    return n, seen_best


@numba.njit(**JIT)
def _sums_of_image(  # type: ignore[no-untyped-def]
    i,
    children,
    threshold,
    total,
    images,
    optics,
    pixels,
    turns,
    phases,
    family,
    rows,
    shifts,
    correlate,
    still,
    grid,
    shift_place,
    posterior,
):
    """Weighted sums over the accepted children of image i, and its back-projection."""
    n_still = still.kx.shape[1]
    cross_pixel = np.zeros(pixels.qx.size, np.float32)
    power_pixel = np.zeros(pixels.qx.size, np.float32)
    factor = np.empty(n_still, np.float32)
    map_power = np.empty(n_still, np.float32)
    map_weights(images, still, i, grid.ctf, factor, map_power)
    shift_place[:] = -1
    shift_rows = np.empty((8, 2, n_still), np.float32)
    n_shifted = 0
    entries = np.empty((children.n_values, 5), np.int32)  # slice, in-plane angle, shifted row, class, place
    chosen = np.empty((children.n_values, 2), np.int32)
    of_class = np.empty(children.n_values, np.int32)
    weight = np.empty(children.n_values, np.float32)
    n_entry = 0
    seen_best = False
    k = 0
    while k < children.n_values:
        b = children.where[k, 0]
        end = k
        any_accepted = False
        while end < children.n_values and children.where[end, 0] == b:
            any_accepted = any_accepted or children.values[end] >= threshold
            end += 1
        if any_accepted:
            j = children.own[children.where[k, 1], 1] * family.psi + b % family.psi
            mine = chosen[n_entry:]
            n, seen_best = _accept(
                i,
                k,
                end,
                children,
                threshold,
                total,
                family,
                rows,
                shifts,
                turns,
                correlate,
                mine,
                of_class[n_entry:],
                weight[n_entry:],
                posterior,
                seen_best,
            )
            reference_sums(
                i,
                mine[:n],
                weight[n_entry : n_entry + n],
                children.bases[b],
                children.powers[b],
                images,
                optics,
                pixels,
                phases,
                j,
                turns,
                rows.table,
                cross_pixel,
                power_pixel,
            )
            for e in range(n_entry, n_entry + n):
                t = chosen[e, 1]
                if shift_place[t] < 0:
                    if n_shifted == shift_rows.shape[0]:
                        shift_rows = grown(shift_rows, n_shifted + 1)
                    shift_still(still, i, t, family.shifts, shift_rows[n_shifted])
                    shift_place[t] = n_shifted
                    n_shifted += 1
                entries[e, 0] = chosen[e, 0]
                entries[e, 1] = j
                entries[e, 2] = shift_place[t]
                entries[e, 3] = of_class[e]
            n_entry += n
        k = end
    group = images.group[i]
    used = shift_rows[:n_shifted]
    back_project(
        entries[:n_entry], weight[:n_entry], used, factor, map_power, turns, still, group, rows.matrices, grid
    )
    for p in range(pixels.qx.size):
        posterior.cross[i, pixels.shell[p]] += cross_pixel[p]
        posterior.power[i, pixels.shell[p]] += power_pixel[p]
