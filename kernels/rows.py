"""Rows of the image side of the score product: an image turned, weighted and shifted (engine.md 2)."""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT, KERNEL
from mpiapp.kernels.inplane import shift_row, turn_image, turn_weights, turned_ctf

_ONE = np.float32(1.0)


@numba.njit(**JIT)
def locate(images, optics, pixels, i, cosine, sine, scratch):  # type: ignore[no-untyped-def]
    """Fill scratch with the sampling of image i at one in-plane angle: k = turn Rz(psi) q."""
    m = optics.turn[images.group[i]]
    g00 = m[0, 0] * cosine - m[0, 1] * sine
    g01 = m[0, 0] * sine + m[0, 1] * cosine
    g10 = m[1, 0] * cosine - m[1, 1] * sine
    g11 = m[1, 0] * sine + m[1, 1] * cosine
    turn_weights(
        images.radius, g00, g01, g10, g11, pixels.qx, pixels.qy, scratch.place, scratch.sign, scratch.weights
    )


@numba.njit(**JIT)
def contrast(images, optics, pixels, i, psi, cosine, sine, out):  # type: ignore[no-untyped-def]
    """CTF of image i at the turned pixels; 1 without CTF correction."""
    if images.ctf[i, 6] == 0.0:
        out[:] = _ONE
        return
    even = optics.gamma_even[0, 0]
    if even.size:
        even = optics.gamma_even[images.group[i], psi]
    turned_ctf(images.ctf[i], cosine, sine, pixels.sx, pixels.sy, even, out)


@numba.njit(**KERNEL)
def weigh(row_re, row_im, ctf, inverse_sigma2, gain, scale, premultiplied, power):  # type: ignore[no-untyped-def]
    """Multiply a row by gain a c / sigma2 and write a^2 c^2 / sigma2, the weight of |P|^2.

    For CTF-premultiplied images c^2 takes the place of c in the reference, and 1 in the image row.
    """
    for p in range(ctf.size):
        c = ctf[p]
        if premultiplied:
            c = c * c
        w = scale * c * inverse_sigma2[p]
        power[p] = scale * c * w
        row_re[p] *= gain * w
        row_im[p] *= gain * w


@numba.njit(**JIT)
def base_row(images, optics, pixels, i, psi, cosine, sine, scratch, row, power):  # type: ignore[no-untyped-def]
    """Masked image i turned by one angle and weighted for the scores; leaves the sampling in scratch."""
    locate(images, optics, pixels, i, cosine, sine, scratch)
    turn_image(images.masked[i], images.radius, scratch.place, scratch.sign, scratch.weights, row[0], row[1])
    contrast(images, optics, pixels, i, psi, cosine, sine, scratch.ctf)
    g = images.group[i]
    weigh(
        row[0],
        row[1],
        scratch.ctf,
        optics.score_weight[g],
        images.gain[i],
        images.scale[i],
        images.premultiplied[i],
        power,
    )


@numba.njit(**KERNEL)
def _multiply(row, parent, child, shifts, step, out_re, out_im):  # type: ignore[no-untyped-def]
    """A row (2, n_pix) times the phases of some shifts.

    One call for all shifts: with one call a shift, counting the references to the arrays that threads share took a
    tenth of the time of a 2D classification.

    Parameters
    ----------
    parent, child : (n_trans, 2, n_pix), (n_children, 2, n_pix);  shifts : (n,) numbers, shift * n_children + child.
    out_re, out_im : flat, written; row r begins at r * step.
    """
    n_pix = row.shape[1]
    n_child = child.shape[0]
    for r in range(shifts.size):
        t = shifts[r] // n_child
        e = shifts[r] - t * n_child
        # unsigned: a place that could be negative keeps the compiler from vectors, a quarter of the speed
        o = np.uint64(r) * np.uint64(step)
        if n_child == 1:
            for p in range(n_pix):
                q = o + np.uint64(p)
                re = parent[t, 0, p]
                im = parent[t, 1, p]
                out_re[q] = row[0, p] * re - row[1, p] * im
                out_im[q] = row[0, p] * im + row[1, p] * re
        else:
            for p in range(n_pix):
                q = o + np.uint64(p)
                re = parent[t, 0, p] * child[e, 0, p] - parent[t, 1, p] * child[e, 1, p]
                im = parent[t, 0, p] * child[e, 1, p] + parent[t, 1, p] * child[e, 0, p]
                out_re[q] = row[0, p] * re - row[1, p] * im
                out_im[q] = row[0, p] * im + row[1, p] * re


@numba.njit(**KERNEL)
def multiply_twice(row_re, row_im, a_re, a_im, b_re, b_im, out_re, out_im):  # type: ignore[no-untyped-def]
    """A row times two phases: those of a coarse shift and of a child's offset."""
    for p in range(row_re.size):
        re = a_re[p] * b_re[p] - a_im[p] * b_im[p]
        im = a_re[p] * b_im[p] + a_im[p] * b_re[p]
        out_re[p] = row_re[p] * re - row_im[p] * im
        out_im[p] = row_re[p] * im + row_im[p] * re


@numba.njit(**JIT)
def shift_directly(row, optics, pixels, g, cosine, sine, shift_A, out_re, out_im):  # type: ignore[no-untyped-def]
    """A row shifted by a translation in A: the phase at k = G q is that of G^T t at q."""
    m = optics.turn[g]
    x = shift_A[0] * optics.cycles[g]
    y = shift_A[1] * optics.cycles[g]
    mx = m[0, 0] * x + m[1, 0] * y
    my = m[0, 1] * x + m[1, 1] * y
    tx = cosine * mx - sine * my
    ty = sine * mx + cosine * my
    shift_row(row[0], row[1], pixels.qx, pixels.qy, tx, ty, out_re, out_im)


@numba.njit(**JIT)
def shifted(row, images, optics, pixels, phases, i, psi, turns, shifts, step, out_re, out_im):  # type: ignore[no-untyped-def]
    """Row (2, n_pix) of image i at in-plane angle ``psi`` shifted by some translations of ``turns``.

    Parameters
    ----------
    shifts : (n,) int32 numbers of translations
    out_re, out_im : flat float32, written; row r begins at r * step.
    """
    g = images.group[i]
    if phases.parent.shape[4] > 0:
        e = optics.geometry[g]
        _multiply(row, phases.parent[e, psi], phases.child[e, psi], shifts, step, out_re, out_im)
        return
    n_pix = pixels.qx.size
    for r in range(shifts.size):
        at = slice(r * step, r * step + n_pix)
        shift_A = turns.shift_A[shifts[r]]
        shift_directly(
            row, optics, pixels, g, turns.cosine[psi], turns.sine[psi], shift_A, out_re[at], out_im[at]
        )


@numba.njit(**JIT)
def fill_phases(optics, pixels, group, cosine, sine, shift_A, out):  # type: ignore[no-untyped-def]
    """Phases of some shifts at every in-plane angle for the geometry of one optics group: (n_psi, n_shift, 2, n_pix)."""
    one = np.zeros((2, pixels.qx.size), np.float32)
    one[0] = _ONE
    for j in range(cosine.size):
        for t in range(shift_A.shape[0]):
            shift_directly(
                one, optics, pixels, group, cosine[j], sine[j], shift_A[t], out[j, t, 0], out[j, t, 1]
            )
