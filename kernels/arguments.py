"""Argument groups of the expectation kernels: named tuples, which numba passes without cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Pixels(NamedTuple):
    """Half-plane pixels of the model plane up to one radius, sorted by radius."""

    qx: F32  # (n_pix,) pixels
    qy: F32
    sx: F32  # (n_pix,) 1/A
    sy: F32
    shell: I32  # (n_pix,)


class Images(NamedTuple):
    """Prepared transforms and imaging parameters of one batch."""

    masked: F32  # (n_img, plane size) padded transforms, interleaved; X of refinement.md 0
    radius: int  # R of the planes
    gain: F32  # (n_img,) norm correction applied to the image on use
    scale: F32  # (n_img,) intensity scale alpha of the reference
    ctf: F32  # (n_img, 8) coefficients; scale 0: no CTF
    group: I32  # (n_img,) row of `turn`, `cycles` and the weights below
    premultiplied: NDArray[np.bool_]  # (n_img,)


class Optics(NamedTuple):
    """What images of one optics group share."""

    turn: F32  # (n_group, 2, 2) box ratio and inverse magnification matrix: k = turn Rz(psi) q
    cycles: F32  # (n_group,) cycles per pixel of a shift of 1 A: 1 / (pixel size * box)
    score_weight: F32  # (n_group, n_pix) J / sigma2, 0 at the origin
    gamma_even: F32  # (n_group, n_psi, n_pix) phase of even aberrations, or (1, 1, 0)
    geometry: I32  # (n_group,) groups with the same turn and cycles share a row of Phases


class Turns(NamedTuple):
    """In-plane angles and translations of one pass."""

    cosine: F32  # (n_psi,)
    sine: F32
    shift_A: F32  # (n_trans, 2)


class Phases(NamedTuple):
    """Phases of shifts at every in-plane angle, shared by all images: products instead of sines.

    A fine shift is its coarse parent plus an offset of the child, so its phase is a product of two. Both are
    empty (n_pix = 0) when they would not fit in memory; phases are then computed for each image.
    """

    parent: F32  # (n_geometry, n_psi, n_trans, 2, n_pix)
    child: F32  # (n_geometry, n_psi, n_children, 2, n_pix); one child without offset in the coarse pass


class Scratch(NamedTuple):
    """Work arrays of one thread for one row of pixels."""

    place: I32  # (n_pix,)
    sign: F32
    weights: F32  # (8, n_pix)
    ctf: F32  # (n_pix,)


def scratch(n_pix: int) -> Scratch:
    """Allocate the work arrays once per thread and pass."""
    return Scratch(
        np.empty(n_pix, np.int32),
        np.empty(n_pix, np.float32),
        np.empty((8, n_pix), np.float32),
        np.empty(n_pix, np.float32),
    )
