"""Which states of a batch are looked at: neighbourhoods of several classes, fixed orientations, bad images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.batches import rows_of
from mpiapp.kernels.arguments import Candidates
from mpiapp.model.local_search import LocalNeighbourhoods

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def rows_near(
    near: LocalNeighbourhoods,
    particles: I64,
    n_class: int,
    n_dir: int,
    only: I32 | None,
    log_class: F32 | None = None,
) -> LocalNeighbourhoods:
    """Neighbourhoods of some particles as rows of all classes, or of the only class of each particle.

    Parameters
    ----------
    log_class : (n, n_class) log priors of the classes of each particle, where they differ.
    """
    part = rows_of(near, particles)
    offsets, row, log_prior, psi = part.offsets, part.direction, part.log_prior, part.psi_center_deg
    if only is not None:
        row = row + np.repeat(only, np.diff(offsets)).astype(np.int32) * np.int32(n_dir)
    elif n_class > 1:
        # classes of one direction together: entries stay sorted by in-plane angle
        row = (row[:, None] + np.arange(n_class, dtype=np.int32) * np.int32(n_dir)).ravel()
        log_prior, psi = np.repeat(log_prior, n_class), np.repeat(psi, n_class)
        if log_class is not None:
            log_prior = log_prior + np.repeat(log_class, np.diff(offsets), axis=0).ravel()
        offsets = offsets * n_class
    return LocalNeighbourhoods(offsets, row, log_prior, psi)


def row_range(n: int, n_rows: int, n_dir: int, only: I32 | None) -> I32:
    """First row that each image is compared with, and that after the last: (n, 2)."""
    if only is None:
        return np.tile(np.array([0, n_rows], np.int32), (n, 1))
    first = only.astype(np.int32) * np.int32(n_dir)
    return np.stack([first, first + np.int32(n_dir)], axis=1)


def fixed_candidates(n: int, log_class: F32, n_shift: int, own: bool, only: I32 | None) -> Candidates:
    """Every class of every image at the image's own orientation, number i of the in-plane angles.

    Parameters
    ----------
    log_class : (n_class,) log priors, or (n, n_class) of each image.
    n_shift : shifts that every image is tried at; 0 for its own shift, number i.
    own : whether each image has slices of its own, row class * n + i; else the row is the class.
    """
    n_class = log_class.shape[-1]
    log_class = np.broadcast_to(log_class, (n, n_class))
    shifts = max(n_shift, 1)
    i, k, t = (
        a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n_class), np.arange(shifts), indexing="ij")
    )
    states = np.stack([k * n + i if own else k, i, t if n_shift else i], axis=1).astype(np.int32)
    offsets = np.arange(n + 1, dtype=np.int64) * n_class * shifts
    log_prior = log_class[i, k]
    kept = log_prior > -1e29
    if only is not None:
        kept &= k == only[i]
    return _subset(Candidates(offsets, states, log_prior), kept)


def without_bad(candidates: Candidates, bad: NDArray[np.bool_]) -> Candidates:
    """States of a batch without those of bad images: an image without states adds nothing to any sum."""
    if not bad.any():
        return candidates
    return _subset(candidates, np.repeat(~bad, np.diff(candidates.offsets)))


def _subset(candidates: Candidates, kept: NDArray[np.bool_]) -> Candidates:
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets = before[candidates.offsets].astype(np.int64)
    return Candidates(offsets, candidates.states[kept], candidates.priors[kept])
