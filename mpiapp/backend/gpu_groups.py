"""Groups of states on the device: an image at one in-plane angle, with its directions and its shifts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass
class States:
    """Accepted coarse states, sorted by image and in-plane angle: device arrays of one length."""

    image: Any  # int32
    psi: Any  # int32
    direction: Any  # int32, coarse row: that of class after class
    shift: Any  # int32
    prior: Any  # float32 log prior of the orientation

    def take(self, index: Any) -> States:
        """Some of the states, in the order of an index."""
        return States(*(getattr(self, f.name)[index] for f in fields(self)))


@dataclass
class Groups:
    """Lists of every group, in CSR form: device arrays. ``directions`` and ``shifts`` are numbers of the coarse grid."""

    image: Any  # (n,) int32, ascending
    psi: Any  # (n,) int32
    d_start: Any  # (n,) int32
    n_d: Any
    t_start: Any
    n_t: Any
    directions: Any  # int32
    shifts: Any  # int32
    prior: Any = (
        None  # flat float32 (n_d, n_t) of each group from prior_start on: minus infinity where not accepted
    )
    prior_start: Any = None  # (n,) int64
    row_prior: Any = None  # float32 prior of each listed direction, where `prior` is not there

    def __len__(self) -> int:
        return int(self.image.size)

    def part(self, first: int, last: int) -> Groups:
        """Some of the groups; the lists stay as they are."""
        kept = ("image", "psi", "d_start", "n_d", "t_start", "n_t", "prior_start")
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Groups(**{k: v[first:last] if k in kept and v is not None else v for k, v in values.items()})


def starts(cupy: Any, counts: Any, dtype: Any = np.int64) -> Any:
    """(n + 1,) first element of each run of a length, and the end."""
    out = cupy.zeros(counts.size + 1, dtype)
    cupy.cumsum(counts, out=out[1:])
    return out


def expand(cupy: Any, counts: Any) -> tuple[Any, Any, Any]:
    """Run of each element, its place in the run, and the starts: for runs of the given lengths."""
    start = starts(cupy, counts)
    item = cupy.arange(int(start[-1]), dtype=np.int64)
    run = cupy.searchsorted(start[1:], item, side="right")
    return run, item - start[run], start


def group_states(
    cupy: Any, states: States, n_psi: int, n_dir: int, n_trans: int, log_shift: Any, per_class: int
) -> Groups:
    """Group states by image and in-plane angle; the pairs of a group that were not accepted get no weight.

    Parameters
    ----------
    n_dir : coarse rows, per_class of each class.
    log_shift : (n_img, n_centre, n_trans) log prior of the coarse shifts, one centre for all classes or one for each.
    """
    key = states.image.astype(np.int64) * n_psi + states.psi
    new = cupy.ones(key.size, bool)
    new[1:] = key[1:] != key[:-1]
    group = cupy.cumsum(new, dtype=np.int64) - 1
    first = cupy.flatnonzero(new)
    n = int(first.size)
    edges = cupy.arange(n + 1, dtype=np.int64)
    d_key, d_at = cupy.unique(group * n_dir + states.direction, return_inverse=True)
    t_key, t_at = cupy.unique(group * n_trans + states.shift, return_inverse=True)
    d_start, t_start = cupy.searchsorted(d_key, edges * n_dir), cupy.searchsorted(t_key, edges * n_trans)
    n_d, n_t = d_start[1:] - d_start[:-1], t_start[1:] - t_start[:-1]
    prior_start = starts(cupy, n_d * n_t)
    prior = cupy.full(int(prior_start[-1]), -np.inf, np.float32)
    place = prior_start[group] + (d_at - d_start[group]) * n_t[group] + (t_at - t_start[group])
    centre = states.direction // per_class if log_shift.shape[1] > 1 else 0
    prior[place] = states.prior + log_shift[states.image, centre, states.shift]
    small = np.int32
    return Groups(
        states.image[first], states.psi[first], d_start[:-1].astype(small), n_d.astype(small),
        t_start[:-1].astype(small), n_t.astype(small), (d_key % n_dir).astype(small), (t_key % n_trans).astype(small),
        prior, prior_start[:-1],
    )  # fmt: skip


def group_neighbourhoods(
    cupy: Any, near: Any, n_psi: int, psi_step_deg: float, sigma_deg: float, cutoff_deg: float, n_trans: int
) -> Groups:
    """Groups of a local search: every image with its neighbouring directions at every angle in their windows.

    Parameters
    ----------
    near : model.local_search.LocalNeighbourhoods of the images of a batch (host arrays).
    cutoff_deg : half width of the window of in-plane angles.
    """
    put = cupy.asarray
    image = put(np.repeat(np.arange(near.offsets.size - 1), np.diff(near.offsets)))
    centre = put(near.psi_center_deg.astype(np.float64))
    first = cupy.floor((centre - cutoff_deg) / psi_step_deg) + 1
    count = cupy.minimum(cupy.ceil((centre + cutoff_deg) / psi_step_deg) - first, n_psi).astype(np.int64)
    entry, place, _ = expand(cupy, count)
    psi = (first[entry].astype(np.int64) + place) % n_psi
    order = cupy.argsort((image[entry] * n_psi + psi) * entry.size + cupy.arange(entry.size))
    entry, psi = entry[order], psi[order]
    delta = cupy.abs((psi * psi_step_deg - centre[entry] + 180) % 360 - 180)
    log_prior = put(near.log_prior)[entry] - (delta**2 / (2 * sigma_deg**2)).astype(np.float32)
    key = image[entry] * n_psi + psi
    new = cupy.ones(key.size, bool)
    new[1:] = key[1:] != key[:-1]
    start = cupy.flatnonzero(new)
    n_d = cupy.diff(cupy.concatenate([start, cupy.full(1, key.size, start.dtype)]))
    n, small = int(start.size), np.int32
    return Groups(
        image[entry[start]].astype(small), psi[start].astype(small), start.astype(small), n_d.astype(small),
        cupy.zeros(n, small), cupy.full(n, n_trans, small), put(near.direction)[entry].astype(small),
        cupy.arange(n_trans, dtype=small), row_prior=log_prior.astype(np.float32),
    )  # fmt: skip
