"""Weighted sums over the accepted fine states of one image, and its back-projection (engine.md 5)."""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL
from mpiapp.kernels.inplane import shift_row, turned_ctf
from mpiapp.kernels.insertion import insert_image, insert_plane
from mpiapp.kernels.rows import multiply_twice, shifted
from mpiapp.kernels.slicing import CHUNK

_ZERO = np.float32(0.0)


@numba.njit(**KERNEL)
def _add_pixels(reference, product, weight, power, cross_pixel, power_pixel):  # type: ignore[no-untyped-def]
    """Add one direction's |Ref|^2 and Re(conj(Ref) X) of every pixel to the sums of an image."""
    n = power.size
    for p in range(n):
        re = reference[p]
        im = reference[n + p]
        power_pixel[p] += weight * power[p] * (re * re + im * im)
        cross_pixel[p] += re * product[p] + im * product[n + p]


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
def reference_sums(  # type: ignore[no-untyped-def]
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
    """Add |Ref|^2 and Re(conj(Ref) X_t) of the accepted states of one in-plane angle, pixel by pixel.

    Parameters
    ----------
    chosen : (n, 2) int32 slice and fine shift of each state;  weight : (n,) float32.
    """
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
    rows = np.empty((n_t, 2 * n_pix), np.float32)
    flat = rows.reshape(-1)
    shifted(base, images, optics, pixels, phases, i, psi, turns, shift[:n_t], 2 * n_pix, flat, flat[n_pix:])
    product = np.dot(matrix, rows)
    for d in range(n_d):
        reference = table[table_row[d]].reshape(2 * n_pix)
        _add_pixels(reference, product[d], total[d], power, cross_pixel, power_pixel)


@numba.njit(**JIT)
def fill_still_phases(kx, ky, shifts, out):  # type: ignore[no-untyped-def]
    """Phases of shifts (cycles per pixel, (n, 2)) at the pixels of an image: (n, 2, n_pix)."""
    one = np.ones(kx.size, np.float32)
    zero = np.zeros(kx.size, np.float32)
    for t in range(shifts.shape[0]):
        shift_row(one, zero, kx, ky, shifts[t, 0], shifts[t, 1], out[t, 0], out[t, 1])


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


@numba.njit(**KERNEL)
def _weigh(ctf, inverse_sigma2, gain, scale, premultiplied, factor, power):  # type: ignore[no-untyped-def]
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
def map_weights(images, still, i, ctf, factor, power):  # type: ignore[no-untyped-def]
    """What image i and its weight are multiplied with at each of its pixels."""
    g = images.group[i]
    _still_contrast(images, still, i, g, ctf)
    _weigh(ctf, still.weight[g], images.gain[i], images.scale[i], images.premultiplied[i], factor, power)


@numba.njit(**JIT)
def shift_still(still, i, fine_shift, children, out):  # type: ignore[no-untyped-def]
    """Unmasked image i shifted by a fine shift, into out (2, n_pix)."""
    parent = still.parent[fine_shift // children]
    offset = still.child[fine_shift % children]
    row = still.rows[i]
    multiply_twice(row[0], row[1], parent[0], parent[1], offset[0], offset[1], out[0], out[1])


@numba.njit(**JIT)
def _orientation(direction, cosine, sine, back_turn, out):  # type: ignore[no-untyped-def]
    """First two rows of back_turn^T Rz(psi) D: grid position of an image frequency (refinement.md 1.7)."""
    for c in range(3):
        a = cosine * direction[0, c] + sine * direction[1, c]
        b = cosine * direction[1, c] - sine * direction[0, c]
        out[0, c] = back_turn[0, 0] * a + back_turn[1, 0] * b
        out[1, c] = back_turn[0, 1] * a + back_turn[1, 1] * b


@numba.njit(**JIT)
def back_project(entries, weight, shift_rows, factor, power, turns, still, group, matrices, grid):  # type: ignore[no-untyped-def]
    """Insert the mean image of every accepted orientation of one image into the grids, CHUNK orientations at a time.

    Parameters
    ----------
    entries : (n, 5) int32 slice, in-plane angle, shifted row, class, and space for a place; one angle's together.
    weight : (n,) float32;  shift_rows : (n_shift, 2, n_pix) the image at the shifts.
    """
    kx, ky = still.kx[group], still.ky[group]
    back_turn = still.back_turn[group]
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
                    place = entries[e, 4]
                    break
            if place < 0:
                if n == CHUNK:
                    break
                j = entries[k, 1]
                _orientation(matrices[entries[k, 0]], turns.cosine[j], turns.sine[j], back_turn, one)
                for c in range(6):
                    orientation[c, n] = one[c // 3, c % 3]
                grid.base[n] = np.uint64(entries[k, 3]) * np.uint64(grid.size)
                place = n
                n += 1
            entries[k, 4] = place
            matrix[place, entries[k, 2]] += weight[k]
            total[place] += weight[k]
            k += 1
        mean = np.dot(matrix[:n], shift_rows.reshape(n_shift, 2 * n_pix))
        if grid.planar:
            insert_plane(mean, total[:n], factor, power, orientation, kx, ky, grid)
        else:
            insert_image(mean, total[:n], factor, power, orientation, kx, ky, grid)
