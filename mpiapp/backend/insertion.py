"""Back-projection of particles at known poses on the CPU: what a reconstruction is made from."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mpiapp.backend.base import ImageOptions, ImagingSetup, ReadImages
from mpiapp.backend.batches import batches_of
from mpiapp.backend.prepare import unmasked_rows
from mpiapp.backend.reach import map_pixels
from mpiapp.kernels.arguments import Grid
from mpiapp.kernels.insertion import add_sums, insert_image
from mpiapp.kernels.slicing import CHUNK
from mpiapp.model.aberrations import even_gamma
from mpiapp.model.ctf import ctf
from mpiapp.model.fourier import phase_ramp
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.pixels import PixelList
from mpiapp.model.projection import grid_radius
from mpiapp.model.rotations import euler_to_matrix

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
BATCH = 64
LANES_BYTES = 6 << 30  # grids of all threads together


def back_project(
    setup: ImagingSetup,
    r_max: int,
    data: ParticleData,
    poses: Poses,
    read: ReadImages,
    options: ImageOptions,
    *,
    weights: F64 | None = None,
    threads: int = 1,
    step: Callable[[int], object] = lambda n: None,
) -> tuple[F64, int]:
    """Sums D and W of all particles, without noise weighting: D += CTF X, W += CTF^2 (refinement.md 2.4).

    Parameters
    ----------
    r_max : highest frequency of the model in pixels
    weights : (n,) of the particles; none: 1
    threads : lanes of work, each with a grid of its own
    step : called with the number of particles done

    Returns
    -------
    grid : (2 R + 1, 2 R + 1, R + 1, 3) float64, as of `model.reconstruct`
    n_bad : images left out because they hold NaN or infinity
    """
    radius = grid_radius(r_max, setup.padding)
    shape = (2 * radius + 1, 2 * radius + 1, radius + 1)
    size = int(np.prod(shape))
    n_lanes = max(1, min(threads, LANES_BYTES // (16 * size), -(-len(data) // BATCH)))
    lanes: queue.Queue[Grid] = queue.Queue()
    grids = [_grid(size, radius, setup.padding) for _ in range(n_lanes)]
    for grid in grids:
        lanes.put(grid)

    def run(rows: NDArray[np.int64]) -> int:
        lane = lanes.get()
        try:
            gain = None if weights is None else weights[rows]
            return _insert_batch(setup, r_max, data.take(rows), poses.take(rows), read, options, gain, lane)
        finally:
            lanes.put(lane)
            step(rows.size)

    with threadpool_limits(1), ThreadPoolExecutor(n_lanes) as pool:
        n_bad = sum(pool.map(run, batches_of(setup, data, np.arange(len(data)), BATCH)))
    total = np.zeros((size, 3))
    for grid in grids:
        add_sums(grid.values, total)
    return total.reshape(*shape, 3), n_bad


def _grid(size: int, radius: int, padding: float) -> Grid:
    """Empty sums of one map and their work arrays."""
    return Grid(
        np.zeros((size, 4), np.float32),
        size,
        False,
        radius,
        np.float32(padding),
        np.empty(0, np.float32),
        np.empty(CHUNK, np.int32),
        np.zeros(CHUNK, np.uint64),
        np.empty((4, CHUNK), np.float32),
    )


def _insert_batch(
    setup: ImagingSetup,
    r_max: int,
    data: ParticleData,
    poses: Poses,
    read: ReadImages,
    options: ImageOptions,
    weights: F64 | None,
    grid: Grid,
) -> int:
    optics = setup.optics[int(data.optics[0])]
    raw = read(data.stack_index, data.image_index)
    bad = np.asarray(~np.isfinite(raw).all(axis=(1, 2)))
    raw = np.where(bad[:, None, None], np.float32(0), raw)
    pixels = map_pixels(setup, optics.box, optics.pixel_size_A, r_max)
    rows = unmasked_rows(setup, optics, raw, data, r_max, corners=options.corners)
    kx, ky = pixels.kx.astype(np.float32), pixels.ky.astype(np.float32)
    values = (rows[:, 0] + 1j * rows[:, 1]) * phase_ramp(
        kx, ky, poses.origin_A / optics.pixel_size_A, optics.box
    )
    values[:, 0] = 0  # the mean of an image says nothing of the particle
    rotations = euler_to_matrix(poses.rot_deg, poses.tilt_deg, poses.psi_deg)
    orientation = np.zeros((6, CHUNK), np.float32)
    flat = np.concatenate([values.real, values.imag], axis=1).astype(np.float32)
    for g in np.unique(data.optics):
        mine = np.flatnonzero((data.optics == g) & ~bad)
        factors, powers, place, back = _group_side(setup, int(g), pixels, data.take(mine), options, r_max)
        for i, factor, power in zip(mine, factors, powers, strict=True):
            orientation[:, 0] = (back.T @ rotations[i, :2]).ravel()
            gain = np.float32(1.0 if weights is None else weights[i])
            total = np.array([gain], np.float32)
            insert_image(
                flat[i : i + 1] * gain,
                total,
                factor,
                power,
                orientation,
                *place,
                grid,
            )
    return int(bad.sum())


def _group_side(
    setup: ImagingSetup, g: int, pixels: PixelList, data: ParticleData, options: ImageOptions, r_max: int
) -> tuple[F32, F32, tuple[F32, F32], F64]:
    """Of one optics group: what images and weights are multiplied with, pixels, and image to model frequencies."""
    optics = setup.optics[g]
    m = np.asarray(optics.magnification, float).reshape(2, 2)
    k = np.stack([pixels.kx, pixels.ky]).astype(float)
    x, y = m @ k / (optics.box * optics.pixel_size_A)
    inside = np.hypot(*(m @ k)) / optics.ratio <= r_max + 1e-6
    if options.ctf:
        even = even_gamma(optics.even_zernike, x, y) if any(optics.even_zernike) else None
        transfer = ctf(
            x,
            y,
            data.ctf,
            even_gamma=even,
            phase_flipped=options.phase_flipped,
            only_flip_phases=options.only_flip_phases,
            intact_first_peak=options.intact_first_peak,
        )
        factor = np.ones_like(transfer) if optics.premultiplied else transfer
        power = transfer**2
    else:
        factor = np.ones((len(data), x.size), np.float32)
        power = factor
    # what a magnification takes out of the sphere goes to the origin, without weight
    place = np.where(inside, k, 0.0).astype(np.float32)
    return (
        np.ascontiguousarray(factor * inside, np.float32),
        np.ascontiguousarray(power * inside, np.float32),
        (np.ascontiguousarray(place[0]), np.ascontiguousarray(place[1])),
        m / optics.ratio,
    )
