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


class MapSide(NamedTuple):
    """Unmasked images on their own pixels, and where their rows go: what back-projection needs of a batch.

    Images go into the map as they are, at integer frequencies and full orientations: turned images, as the scores use
    them, were measured to cost up to 2 % of the mean FSC where a strong defocus spreads signal to the edge of the box.
    """

    rows: NDArray[np.float32]  # (n_img, 2, n_pix) transforms Y, real and imaginary parts
    kx: NDArray[np.float32]  # (n_group, n_pix) pixels of the image, at the origin where outside the sphere
    ky: NDArray[np.float32]
    sx: NDArray[np.float32]  # (n_group, n_pix) frequencies in 1/A, magnification applied
    sy: NDArray[np.float32]
    gamma_even: NDArray[np.float32]  # (n_group, n_pix) phase of even aberrations, or (1, 0)
    weight: NDArray[np.float32]  # (n_group, n_pix) 1 / sigma2 with the origin
    back_turn: NDArray[np.float32]  # (n_group, 2, 2) model-plane frequency of an image frequency
    parent: NDArray[np.float32]  # (n_trans, 2, n_pix) phases of the coarse shifts
    child: NDArray[np.float32]  # (n_children, 2, n_pix) phases of the children's offsets


class Posterior(NamedTuple):
    """What the fine pass leaves for each image of a batch."""

    best: NDArray[
        np.int32
    ]  # (n_img, 5) coarse direction, child, coarse psi, child, fine shift (shift * children + child)
    log_best: NDArray[np.float32]  # (n_img,) log weight of the best state
    log_sum: NDArray[np.float64]  # (n_img,) log of the sum of weights, relative to log_best
    best_weight: NDArray[np.float32]  # (n_img,) Pmax
    cross: NDArray[np.float64]  # (n_img, n_shell) sum of Re(conj(Ref) X_t) / sigma2, by shell
    power: NDArray[np.float64]  # (n_img, n_shell) sum of |Ref|^2 / sigma2, by shell
    direction_weight: NDArray[np.float64]  # (n_dir,) sum of weights by coarse direction
    offset_variance: NDArray[
        np.float64
    ]  # (n_img,) sum of weights times squared distance from the offset prior, A^2
    weight: NDArray[np.float64]  # (n_img,) sum of the accepted weights


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
