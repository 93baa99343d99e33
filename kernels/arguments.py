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


class Family(NamedTuple):
    """How coarse states split: every direction, in-plane angle and shift has this many children."""

    directions: int
    psi: int
    shifts: int


class Candidates(NamedTuple):
    """Significant coarse states of the images of a batch, in CSR form.

    A row is a pair of class and direction, class * rows_per_class + direction.
    """

    offsets: NDArray[np.int64]  # (n_img + 1,)
    states: I32  # (n, 3) row, in-plane angle, shift
    priors: F32  # (n,) log prior of the orientation, shared by the children of a state


class FineRows(NamedTuple):
    """Slices of the references for the fine pass. Children of coarse row r are first[r], first[r] + 1, ..."""

    table: F32  # (n, 2, n_pix)
    first: I32  # (n_rows,)
    matrices: F32  # (n, 3, 3) orientations of the slices at psi = 0
    per_class: int  # coarse rows of each class


class Shifts(NamedTuple):
    """Priors of the shifts of the images of a batch; they have one centre, or one for each class."""

    log_prior: F32  # (n_img, n_centre, n_trans) at the coarse shifts
    square: F32  # (n_img, n_centre, n_fine) squared distance of the fine shifts from the centre, A^2
    old_A: F32  # (n_img, 2) whole-pixel offsets already applied


class Rule(NamedTuple):
    """How states are weighed."""

    correlate: bool  # cross-correlation: only the best state counts
    fraction: float  # of the weight that is accepted
    n_score: int  # pixels that take part in the scores; sums take all


class MapSide(NamedTuple):
    """Unmasked images on their own pixels, and where their rows go: what back-projection needs of a batch.

    Images go into the map as they are, at integer frequencies and full orientations: turned images, as the scores use
    them, were measured to cost up to 2 % of the mean FSC where a strong defocus spreads signal to the edge of the box.
    """

    rows: F32  # (n_img, 2, n_pix) transforms Y, real and imaginary parts
    kx: F32  # (n_group, n_pix) pixels of the image, at the origin where outside the sphere
    ky: F32
    sx: F32  # (n_group, n_pix) frequencies in 1/A, magnification applied
    sy: F32
    gamma_even: F32  # (n_group, n_pix) phase of even aberrations, or (1, 0)
    weight: F32  # (n_group, n_pix) 1 / sigma2 with the origin
    back_turn: F32  # (n_group, 2, 2) model-plane frequency of an image frequency
    parent: F32  # (n_trans, 2, n_pix) phases of the coarse shifts
    child: F32  # (n_children, 2, n_pix) phases of the children's offsets


class Grid(NamedTuple):
    """Accumulators of one thread and its work arrays."""

    values: F32  # (n_class * size, 4) real, imaginary, weight, unused
    size: int  # elements of the grid of one class
    planar: bool  # grids of class averages rather than of volumes
    radius: int  # R
    padding: np.float32
    ctf: F32  # (n_pix,)
    place: I32  # (CHUNK,)
    base: NDArray[np.uint64]  # (CHUNK,) first element of a class's grid
    work: F32  # (4, CHUNK)


class Posterior(NamedTuple):
    """What the fine pass leaves for each image of a batch, and for each coarse row."""

    best: I32  # (n_img, 5) coarse row, child, coarse psi, child, fine shift (shift * children + child)
    log_best: F32  # (n_img,) log weight of the best state
    log_sum: NDArray[np.float64]  # (n_img,) log of the sum of weights, relative to log_best
    best_weight: F32  # (n_img,) Pmax
    cross: NDArray[np.float64]  # (n_img, n_shell) sum of Re(conj(Ref) X_t) / sigma2, by shell
    power: NDArray[np.float64]  # (n_img, n_shell) sum of |Ref|^2 / sigma2, by shell
    row_weight: NDArray[np.float64]  # (n_rows,) sum of weights by coarse row
    row_shift: NDArray[np.float64]  # (n_rows, 2) sum of weights times total offset, A
    offset_variance: NDArray[np.float64]  # (n_img,) sum of weights times squared distance from the prior, A^2
    weight: NDArray[np.float64]  # (n_img,) sum of the accepted weights
