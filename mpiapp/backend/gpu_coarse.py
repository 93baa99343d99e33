"""The coarse pass on the device: dense products for global searches, grouped ones for local searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpiapp.backend.gpu_groups import Groups, States, starts
from mpiapp.backend.gpu_images import DeviceImages
from mpiapp.backend.gpu_kernels import MOST_ROWS, blocks, multiply
from mpiapp.backend.gpu_pass import Pass
from mpiapp.backend.gpu_select import Selection, select

TILE = 32


def global_states(
    p: Pass,
    images: DeviceImages,
    table: Any,
    power: Any,
    log_direction: Any,
    log_shift: Any,
    only: Any,
    fraction: float,
    maximum: int,
    correlate: bool,
    n_class: int,
) -> tuple[States, Any]:
    """Score every direction, in-plane angle and shift; the significant states and their number for each image.

    A slice half a turn on is the complex conjugate of itself, so the products of the real and of the imaginary parts,
    taken apart, give psi (their sum) and psi + 180 degrees (their difference): half the arithmetic.

    Parameters
    ----------
    p : with the first half of the in-plane angles.
    table : (2, n_dir, pitch);  power : (n_dir, pitch) |P|^2; the directions of class after class.
    log_direction : (n_dir,);  log_shift : (n, n_centre, n_trans), float32.
    only : (n,) int32 the class that each image is compared with, or None.
    """
    cupy, n, n_psi, n_trans = p.kernels.cupy, len(images.planes), p.n_psi, p.n_trans
    n_dir, n_row = table.shape[1], n_psi * n_trans
    image_of = cupy.repeat(cupy.arange(n, dtype=np.int32), n_psi)
    psi_of = cupy.tile(cupy.arange(n_psi, dtype=np.int32), n)
    base, weight = p.turned(images, image_of, psi_of)
    real, imaginary = (cupy.empty((n * n_row, p.pitch), p.precision.dtype) for _ in range(2))
    arguments: tuple[Any, ...] = (
        image_of, psi_of, n * n_psi, images.group, p.optics, p.cosine, p.sine, p.shift_A, n_trans, p.qx, p.qy, p.n_pix,
        base, p.pitch, p.pitch, real, imaginary,
    )  # fmt: skip
    grid = (blocks(p.pitch), min(n * n_psi, MOST_ROWS))
    p.kernels.launch("inplane.cu", f"shift_rows<{p.precision.kernel}>", grid, arguments)
    scores = cupy.empty(n * 2 * n_row * n_dir, np.float32)
    half = n_row * n_dir
    for part, (rows, side) in enumerate(((real, table[0]), (imaginary, table[1]))):
        with p.kernels.timed("coarse product"):
            out = scores[part * half :]
            multiply(cupy, p.precision, rows, side, out, n_batch=n, n_rows=n_row, stride_out=2 * half)
    del real, imaginary
    with p.kernels.timed("coarse power"):
        h = weight @ power.T
    arguments = (scores, h, log_direction, log_shift, n_dir, n_dir // n_class, log_shift.shape[1], n_psi, n_trans, only,
                 correlate)  # fmt: skip
    p.kernels.launch("select.cu", "combine_halves", (blocks(n_dir), min(n_row, MOST_ROWS), n), arguments)
    start = cupy.arange(n + 1, dtype=np.int64) * (2 * half)
    chosen = select(p.kernels, scores, start, fraction, maximum, correlate)
    image, place = cupy.divmod(chosen.found, 2 * half)
    row, direction = cupy.divmod(place, n_dir)
    psi, shift = cupy.divmod(row, n_trans)  # the second half of the rows is psi + n_psi
    small = np.int32
    direction = direction.astype(small)
    states = States(
        image.astype(small), psi.astype(small), direction, shift.astype(small), log_direction[direction]
    )
    return states, chosen.count


def grouped(
    p: Pass,
    groups: Groups,
    images: DeviceImages,
    table: Any,
    rows: Any,
    log_shift: Any,
    family: tuple[int, int, int],
    correlate: bool,
    image_of: Any,
    psi_of: Any,
) -> tuple[Any, Any, Any, Any]:
    """Scores of groups: flat scores, first score of each group (n + 1,), turned rows, their weights.

    Parameters
    ----------
    rows : int32, row of the table of each listed direction's first child.
    log_shift : (n, 1, n_trans), where the groups hold no priors of their own.
    family : children of an in-plane angle, of a direction, of a shift.
    image_of, psi_of : of the groups; with children, those of a parent group follow one another.
    """
    cupy, kernels = p.kernels.cupy, p.kernels
    of_psi, of_rows, of_shifts = family
    n = int(image_of.size)
    n_d, n_t = groups.n_d.astype(np.int64) * of_rows, groups.n_t.astype(np.int64) * of_shifts
    size, tiles = n_d * n_t, (-(-n_d // TILE)) * (-(-n_t // TILE))
    if of_psi > 1:
        size, tiles = cupy.repeat(size, of_psi), cupy.repeat(tiles, of_psi)
    out_start, tile_start = starts(cupy, size), starts(cupy, tiles)
    ends = cupy.stack([out_start[-1], tile_start[-1]]).get()
    scores = cupy.empty(int(ends[0]), np.float32)
    base, weight = p.turned(images, image_of, psi_of)
    arguments = (tile_start, n, of_psi, of_rows, of_shifts, image_of, psi_of, out_start, groups.d_start, groups.n_d,
                 groups.t_start, groups.n_t, rows, groups.shifts, table, np.int64(table.shape[1]), p.pitch, p.n_score,
                 base, weight, images.group, p.optics, p.cosine, p.sine, p.shift_A, log_shift.shape[-1], p.qx, p.qy,
                 groups.prior, groups.prior_start, groups.row_prior, log_shift, correlate, scores)  # fmt: skip
    kernels.launch(
        "fine.cu",
        f"grouped_scores<{p.precision.kernel}, {p.precision.product}>",
        (int(ends[1]),),
        arguments,
        block=128,
    )
    return scores, out_start, base, weight


def image_starts(cupy: Any, image_of: Any, out_start: Any, n: int) -> Any:
    """First score of each of n images, (n + 1,), given the images of the groups in ascending order."""
    edges = cupy.searchsorted(image_of, cupy.arange(n + 1, dtype=image_of.dtype), side="left")
    return out_start[edges]


def local_states(
    p: Pass,
    images: DeviceImages,
    groups: Groups,
    table: Any,
    rows: Any,
    log_shift: Any,
    fraction: float,
    maximum: int,
    correlate: bool,
) -> tuple[States, Any]:
    """Score the neighbourhood of each image's own orientation; as `global_states`."""
    cupy, n = p.kernels.cupy, len(images.planes)
    scores, out_start, _, _ = grouped(
        p, groups, images, table, rows, log_shift, (1, 1, 1), correlate, groups.image, groups.psi
    )
    start = image_starts(cupy, groups.image, out_start, n)
    chosen: Selection = select(p.kernels, scores, start, fraction, maximum, correlate)
    group = cupy.searchsorted(out_start[1:], chosen.found, side="right")
    place, shift = cupy.divmod(chosen.found - out_start[group], groups.n_t[group])
    listed = groups.d_start[group] + place
    small = np.int32
    states = States(
        groups.image[group],
        groups.psi[group],
        groups.directions[listed],
        shift.astype(small),
        groups.row_prior[listed],
    )
    return states, chosen.count


def in_order(cupy: Any, states: States, n_psi: int) -> States:
    """States sorted by image and in-plane angle."""
    return states.take(cupy.argsort(states.image.astype(np.int64) * n_psi + states.psi))
