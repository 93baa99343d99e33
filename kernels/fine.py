"""The fine pass: children of the significant states, their posterior, and the weighted sums (engine.md 4 and 5).

Twins in float64: ``mpiapp.model.scores``, ``mpiapp.model.posterior``, ``mpiapp.model.sums``.
The states of an image come grouped by in-plane angle. Within a group every child direction meets every child shift
in one small matrix product; pairs whose parents were not accepted are left out afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from mpiapp.kernels.arguments import Posterior
from mpiapp.kernels.coarse import reference_power
from mpiapp.kernels.elementary import JIT, KERNEL
from mpiapp.kernels.inplane import shift_row, turned_ctf
from mpiapp.kernels.rows import base_row, multiply_twice, shifted
from mpiapp.kernels.select import grown, significance_threshold
from mpiapp.kernels.slicing import CHUNK, insert_image
from numpy.typing import NDArray

_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
_TINY = np.float32(1e-30)
_LOWEST = np.float32(-3.0e38)


class Family(NamedTuple):
    """How coarse states split: every direction, in-plane angle and shift has this many children."""

    directions: int
    psi: int
    shifts: int


class Grid(NamedTuple):
    """Accumulators of one thread and its work arrays."""

    values: NDArray[np.float32]  # (size, 4) real, imaginary, weight, unused
    radius: int  # R
    padding: np.float32
    ctf: NDArray[np.float32]  # (n_pix,)
    place: NDArray[np.int32]  # (CHUNK,)
    work: NDArray[np.float32]  # (4, CHUNK)


@numba.njit(**KERNEL)
def _add_pixels(reference, product, weight, power, cross_pixel, power_pixel):  # type: ignore[no-untyped-def]
    """Add one direction's |Ref|^2 and Re(conj(Ref) X) of every pixel to the sums of an image."""
    n = power.size
    for p in range(n):
        re = reference[p]
        im = reference[n + p]
        power_pixel[p] += weight * power[p] * (re * re + im * im)
        cross_pixel[p] += re * product[p] + im * product[n + p]


@numba.njit(**KERNEL)
def _map_weights(ctf, inverse_sigma2, gain, scale, premultiplied, factor, power):  # type: ignore[no-untyped-def]
    """Factor of the image, gain a c / sigma2, and its weight a^2 c^2 / sigma2, for back-projection (refinement.md 4.9)."""
    for p in range(ctf.size):
        c = ctf[p]
        w = inverse_sigma2[p]
        if premultiplied:
            factor[p] = gain * w
            power[p] = scale * c * c * w
        else:
            factor[p] = gain * scale * c * w
            power[p] = scale * scale * c * c * w


@numba.njit(**JIT)
def fill_still_phases(kx, ky, shifts, out):  # type: ignore[no-untyped-def]
    """Phases of shifts (cycles per pixel, (n, 2)) at the pixels of an image: (n, 2, n_pix)."""
    one = np.ones(kx.size, np.float32)
    zero = np.zeros(kx.size, np.float32)
    for t in range(shifts.shape[0]):
        shift_row(one, zero, kx, ky, shifts[t, 0], shifts[t, 1], out[t, 0], out[t, 1])


@numba.njit(**JIT)
def _orientation(direction, cosine, sine, back_turn, out):  # type: ignore[no-untyped-def]
    """First two rows of back_turn^T Rz(psi) D: grid position of an image frequency (refinement.md 1.7)."""
    for c in range(3):
        a = cosine * direction[0, c] + sine * direction[1, c]
        b = cosine * direction[1, c] - sine * direction[0, c]
        out[0, c] = back_turn[0, 0] * a + back_turn[1, 0] * b
        out[1, c] = back_turn[0, 1] * a + back_turn[1, 1] * b


@numba.njit(**JIT)
def _unique(states, lo, hi, column, stamp, mark, names):  # type: ignore[no-untyped-def]
    """Distinct values of one column of states[lo:hi] in order of appearance; stamp[value] = position."""
    n = 0
    for k in range(lo, hi):
        v = states[k, column]
        if mark[v] == 0:
            mark[v] = 1
            stamp[v] = n
            names[n] = v
            n += 1
    for k in range(n):
        mark[names[k]] = 0
    return n


@numba.njit(**JIT)
def fine_pass(  # type: ignore[no-untyped-def]
    images,
    optics,
    pixels,
    turns,
    phases,
    family,
    offsets,
    states,
    n_dir,
    table,
    row_of,
    matrices,
    priors,
    log_shift,
    shift_square,
    correlate,
    fraction,
    still,
    grid,
    scratch,
    n_shell,
):
    """Posterior over the children of the significant states, and its weighted sums.

    Parameters
    ----------
    turns : Turns of the fine in-plane angles (n_psi * family.psi,) and fine shifts (n_trans * family.shifts, 2).
    offsets, states : significant coarse states in CSR form: (direction, psi, shift).
    table : (n_row, 2, n_pix) float32 fine slices; children of coarse direction d are rows row_of[d], row_of[d] + 1, ...
    matrices : (n_row, 3, 3) float32 of the same rows.
    priors : (n_states,) float32 log prior of the orientation of each coarse state, shared by its children.
    log_shift : (n_img, n_trans) float32 at the coarse shifts;  shift_square : (n_img, n_fine_shift) float32, A^2.

    Returns
    -------
    Posterior
    """
    n_img = images.group.size
    n_pix = pixels.qx.size
    n_trans = turns.shift_A.shape[0] // family.shifts
    best_state = np.zeros((n_img, 5), np.int32)
    log_best = np.empty(n_img, np.float32)
    log_sum = np.empty(n_img, np.float64)
    best_weight = np.empty(n_img, np.float32)
    cross = np.zeros((n_img, n_shell), np.float64)
    power_shell = np.zeros((n_img, n_shell), np.float64)
    direction_weight = np.zeros(n_dir, np.float64)
    offset_variance = np.zeros(n_img, np.float64)
    weight_sum = np.zeros(n_img, np.float64)
    dir_stamp = np.empty(n_dir, np.int32)
    dir_mark = np.zeros(n_dir, np.int8)
    dir_names = np.empty(n_dir, np.int32)
    shift_stamp = np.empty(n_trans, np.int32)
    shift_mark = np.zeros(n_trans, np.int8)
    shift_names = np.empty(n_trans, np.int32)
    values = np.empty(1024, np.float32)
    where = np.empty(
        (1024, 4), np.int32
    )  # group, child psi, position of fine direction, position of fine shift
    cross_pixel = np.empty(n_pix, np.float32)
    power_pixel = np.empty(n_pix, np.float32)
    n_still = still.kx.shape[1]
    factor = np.empty(n_still, np.float32)
    map_power = np.empty(n_still, np.float32)
    shift_place = np.full(turns.shift_A.shape[0], -1, np.int32)
    for i in range(n_img):
        first = offsets[i]
        last = offsets[i + 1]
        order = np.argsort(states[first:last, 1], kind="mergesort")
        own = np.empty((last - first, 3), np.int32)
        own_prior = np.empty(last - first, np.float32)
        for k in range(last - first):
            own[k] = states[first + order[k]]
            own_prior[k] = priors[first + order[k]]
        n_group = 0
        for k in range(last - first):
            if k == 0 or own[k, 1] != own[k - 1, 1]:
                n_group += 1
        starts = np.empty(n_group + 1, np.int64)
        n_group = 0
        for k in range(last - first):
            if k == 0 or own[k, 1] != own[k - 1, 1]:
                starts[n_group] = k
                n_group += 1
        starts[n_group] = last - first
        bases = np.empty((n_group * family.psi, 2, n_pix), np.float32)
        powers = np.empty((n_group * family.psi, n_pix), np.float32)
        m = 0
        best = _LOWEST
        for g in range(n_group):
            lo = starts[g]
            hi = starts[g + 1]
            n_d = _unique(own, lo, hi, 0, dir_stamp, dir_mark, dir_names)
            n_t = _unique(own, lo, hi, 2, shift_stamp, shift_mark, shift_names)
            slices = _family_slices(table, row_of, dir_names, n_d, family.directions, n_pix)
            for child in range(family.psi):
                b = g * family.psi + child
                j = own[lo, 1] * family.psi + child
                c = turns.cosine[j]
                s = turns.sine[j]
                base_row(images, optics, pixels, i, j, c, s, scratch, bases[b], powers[b])
                rows = _family_shifts(
                    bases[b], images, optics, pixels, phases, i, j, turns, shift_names, n_t, family.shifts
                )
                scores = np.dot(rows, slices.T)
                h = np.empty(slices.shape[0], np.float32)
                for d in range(slices.shape[0]):
                    h[d] = reference_power(slices[d], powers[b])
                need = m + (hi - lo) * family.directions * family.shifts
                if need > values.size:
                    values = grown(values, need)
                    where = grown(where, need)
                for k in range(lo, hi):
                    d0 = dir_stamp[own[k, 0]] * family.directions
                    t0 = shift_stamp[own[k, 2]] * family.shifts
                    prior = own_prior[k] + log_shift[i, own[k, 2]]
                    for d in range(d0, d0 + family.directions):
                        for t in range(t0, t0 + family.shifts):
                            if correlate:
                                value = scores[t, d] / np.sqrt(h[d] + _TINY)
                            else:
                                value = scores[t, d] - _HALF * h[d] + prior
                            values[m] = value
                            where[m, 0] = b
                            where[m, 1] = k
                            where[m, 2] = d - d0
                            where[m, 3] = t - t0
                            m += 1
                            best = max(best, value)
        threshold = best
        total = 1.0
        if not correlate:
            threshold, total = significance_threshold(values, m, best, fraction, 0)
        log_best[i] = best
        log_sum[i] = np.log(total)
        best_weight[i] = np.float32(1.0 / total)
        cross_pixel[:] = _ZERO
        power_pixel[:] = _ZERO
        seen_best = False
        gi = images.group[i]
        _still_contrast(images, still, i, gi, grid.ctf)
        _map_weights(
            grid.ctf,
            still.weight[gi],
            images.gain[i],
            images.scale[i],
            images.premultiplied[i],
            factor,
            map_power,
        )
        shift_place[:] = -1
        shift_rows = np.empty((8, 2, n_still), np.float32)
        n_shifted = 0
        n_entry = 0
        entries = np.empty((m, 4), np.int32)  # table row, in-plane angle, shift, place in a chunk
        entry_weight = np.empty(m, np.float32)
        k = 0
        while k < m:
            b = where[k, 0]
            end = k
            any_accepted = False
            while end < m and where[end, 0] == b:
                any_accepted = any_accepted or values[end] >= threshold
                end += 1
            if any_accepted:
                j = own[where[k, 1], 1] * family.psi + b % family.psi
                # fine directions and shifts that carry weight in this group
                n_acc = 0
                chosen = np.empty((end - k, 2), np.int32)  # table row, fine shift
                chosen_weight = np.empty(end - k, np.float32)
                for e in range(k, end):
                    if values[e] >= threshold:
                        st = where[e, 1]
                        fine_t = own[st, 2] * family.shifts + where[e, 3]
                        w = np.exp(np.float64(values[e] - best)) / total
                        chosen[n_acc, 0] = row_of[own[st, 0]] + where[e, 2]
                        chosen[n_acc, 1] = fine_t
                        chosen_weight[n_acc] = np.float32(w)
                        n_acc += 1
                        weight_sum[i] += w
                        direction_weight[own[st, 0]] += w
                        offset_variance[i] += w * shift_square[i, fine_t]
                        if not seen_best and values[e] == best:
                            seen_best = True
                            best_state[i, 0] = own[st, 0]
                            best_state[i, 1] = where[e, 2]
                            best_state[i, 2] = own[st, 1]
                            best_state[i, 3] = b % family.psi
                            best_state[i, 4] = fine_t
                        if correlate:
                            break
                _reference_sums(
                    i,
                    chosen[:n_acc],
                    chosen_weight[:n_acc],
                    bases[b],
                    powers[b],
                    images,
                    optics,
                    pixels,
                    phases,
                    j,
                    turns,
                    table,
                    cross_pixel,
                    power_pixel,
                )
                for e in range(n_acc):
                    t = chosen[e, 1]
                    if shift_place[t] < 0:
                        if n_shifted == shift_rows.shape[0]:
                            shift_rows = grown(shift_rows, n_shifted + 1)
                        parent = still.parent[t // family.shifts]
                        offset = still.child[t % family.shifts]
                        multiply_twice(
                            still.rows[i, 0],
                            still.rows[i, 1],
                            parent[0],
                            parent[1],
                            offset[0],
                            offset[1],
                            shift_rows[n_shifted, 0],
                            shift_rows[n_shifted, 1],
                        )
                        shift_place[t] = n_shifted
                        n_shifted += 1
                    entries[n_entry, 0] = chosen[e, 0]
                    entries[n_entry, 1] = j
                    entries[n_entry, 2] = shift_place[t]
                    entry_weight[n_entry] = chosen_weight[e]
                    n_entry += 1
            k = end
        _back_project(
            entries[:n_entry],
            entry_weight[:n_entry],
            shift_rows[:n_shifted],
            factor,
            map_power,
            turns,
            still.back_turn[gi],
            matrices,
            still.kx[gi],
            still.ky[gi],
            grid,
        )
        for p in range(n_pix):
            cross[i, pixels.shell[p]] += cross_pixel[p]
            power_shell[i, pixels.shell[p]] += power_pixel[p]
    return Posterior(
        best_state,
        log_best,
        log_sum,
        best_weight,
        cross,
        power_shell,
        direction_weight,
        offset_variance,
        weight_sum,
    )


@numba.njit(**JIT)
def _family_slices(table, row_of, names, count, children, n_pix):  # type: ignore[no-untyped-def]
    """Slices of the children of several coarse directions as rows of a matrix."""
    slices = np.empty((count * children, 2 * n_pix), np.float32)
    for d in range(count):
        for c in range(children):
            slices[d * children + c] = table[row_of[names[d]] + c].reshape(2 * n_pix)
    return slices


@numba.njit(**JIT)
def _family_shifts(base, images, optics, pixels, phases, i, psi, turns, names, count, children):  # type: ignore[no-untyped-def]
    """The base row shifted by the children of several coarse shifts, as rows of a matrix."""
    n_pix = pixels.qx.size
    rows = np.empty((count * children, 2, n_pix), np.float32)
    for t in range(count):
        for e in range(children):
            r = t * children + e
            shifted(
                base,
                images,
                optics,
                pixels,
                phases,
                i,
                psi,
                turns,
                names[t] * children + e,
                rows[r, 0],
                rows[r, 1],
            )
    return rows.reshape(count * children, 2 * n_pix)


@numba.njit(**JIT)
def _still_contrast(images, still, i, group, out):  # type: ignore[no-untyped-def]
    """CTF of image i at its own pixels; 1 without CTF correction."""
    if images.ctf[i, 6] == 0.0:
        out[:] = np.float32(1.0)
        return
    even = still.gamma_even[0]
    if even.size:
        even = still.gamma_even[group]
    turned_ctf(images.ctf[i], np.float32(1.0), _ZERO, still.sx[group], still.sy[group], even, out)


@numba.njit(**JIT)
def _number(values, place, names):  # type: ignore[no-untyped-def]
    """Number the distinct values in order of appearance; returns how many there are."""
    n = 0
    for k in range(values.size):
        place[k] = -1
        for e in range(n):
            if names[e] == values[k]:
                place[k] = e
                break
        if place[k] < 0:
            names[n] = values[k]
            place[k] = n
            n += 1
    return n


@numba.njit(**JIT)
def _reference_sums(  # type: ignore[no-untyped-def]
    i,
    chosen,
    weight,
    base,
    power,
    images,
    optics,
    pixels,
    phases,
    psi,
    turns,
    table,
    cross_pixel,
    power_pixel,
):
    """Add |Ref|^2 and Re(conj(Ref) X_t) of the accepted states of one in-plane angle, pixel by pixel."""
    n = chosen.shape[0]
    n_pix = pixels.qx.size
    row_at = np.empty(n, np.int32)
    shift_at = np.empty(n, np.int32)
    table_row = np.empty(n, np.int32)
    shift = np.empty(n, np.int32)
    n_d = _number(chosen[:, 0], row_at, table_row)
    n_t = _number(chosen[:, 1], shift_at, shift)
    matrix = np.zeros((n_d, n_t), np.float32)
    total = np.zeros(n_d, np.float32)
    for k in range(n):
        matrix[row_at[k], shift_at[k]] += weight[k]
        total[row_at[k]] += weight[k]
    rows = np.empty((n_t, 2, n_pix), np.float32)
    for t in range(n_t):
        shifted(base, images, optics, pixels, phases, i, psi, turns, shift[t], rows[t, 0], rows[t, 1])
    product = np.dot(matrix, rows.reshape(n_t, 2 * n_pix))
    for d in range(n_d):
        reference = table[table_row[d]].reshape(2 * n_pix)
        _add_pixels(reference, product[d], total[d], power, cross_pixel, power_pixel)


@numba.njit(**JIT)
def _back_project(  # type: ignore[no-untyped-def]
    entries,
    weight,
    shift_rows,
    factor,
    power,
    turns,
    back_turn,
    matrices,
    kx,
    ky,
    grid,
):
    """Insert the mean image of every accepted orientation of one image into the grid, CHUNK orientations at a time."""
    n_pix = kx.size
    n_shift = shift_rows.shape[0]
    orientation = np.empty((6, CHUNK), np.float32)
    matrix = np.empty((CHUNK, n_shift), np.float32)
    total = np.empty(CHUNK, np.float32)
    one = np.empty((2, 3), np.float32)
    k = 0
    while k < weight.size:
        matrix[:] = _ZERO
        total[:] = _ZERO
        first = k
        n = 0
        while k < weight.size:
            place = -1
            for e in range(k - 1, first - 1, -1):
                if entries[e, 1] != entries[k, 1]:
                    break
                if entries[e, 0] == entries[k, 0]:
                    place = entries[e, 3]
                    break
            if place < 0:
                if n == CHUNK:
                    break
                j = entries[k, 1]
                _orientation(matrices[entries[k, 0]], turns.cosine[j], turns.sine[j], back_turn, one)
                for c in range(6):
                    orientation[c, n] = one[c // 3, c % 3]
                place = n
                n += 1
            entries[k, 3] = place
            matrix[place, entries[k, 2]] += weight[k]
            total[place] += weight[k]
            k += 1
        mean = np.dot(matrix[:n], shift_rows.reshape(n_shift, 2 * n_pix))
        insert_image(
            mean,
            total[:n],
            factor,
            power,
            orientation,
            kx,
            ky,
            grid.radius,
            grid.padding,
            grid.values,
            grid.place,
            grid.work,
        )
