"""Local resolution of two half maps, on any number of threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.gpu_device import start_arrays
from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.engine.half_maps import load_halves
from mpiapp.engine.locres_files import write_local
from mpiapp.engine.memory_used import peak_memory_MiB
from mpiapp.engine.postprocess_curves import first_random_shell, warn_of_copies
from mpiapp.errors import ConfigError
from mpiapp.io.mtf import read_mtf
from mpiapp.io.outputs import PostprocessNames
from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.fourier import forward_3d, inverse_3d
from mpiapp.model.fsc import fsc_of_transforms
from mpiapp.model.locres import (
    Window,
    crossing,
    filtered_window,
    local_curve,
    make_window,
    sample_points,
    sphere_at,
    window_box,
)
from mpiapp.model.radial import filter_radially
from mpiapp.model.random_phases import randomise_transform
from mpiapp.model.sharpen import Sharpening, make_filter
from mpiapp.parallel.base import Team
from mpiapp.report import log
from mpiapp.report.progress import Progress

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """Sphere and sampling in pixels, resolutions in A."""

    box: int
    pixel_size_A: float
    radius: float
    edge: float
    step: int
    random_from_A: float
    lowest_A: float
    filter_edge: float
    exact: bool

    @classmethod
    def of(cls, config: PostprocessConfig, box: int, pixel_size_A: float) -> Geometry:
        """As the options say."""
        radius = config.locres_maskrad if config.locres_maskrad > 0 else config.locres_sampling / 2
        edge = config.locres_edgwidth if config.locres_edgwidth > 0 else config.locres_sampling
        return cls(
            box,
            pixel_size_A,
            radius / pixel_size_A,
            edge / pixel_size_A,
            max(1, round(config.locres_sampling / pixel_size_A)),
            config.locres_randomize_at,
            config.locres_minres,
            config.filter_edge_width,
            config.locres_exact or window_box(radius / pixel_size_A, edge / pixel_size_A) >= box,
        )


@dataclass(frozen=True)
class LocalSums:
    """What the spheres of all points add up to, and the curve of each point."""

    filtered: F32
    inverse_resolution: F32
    weight: F32
    curves: F64  # (n_points, n_shells)
    resolution_A: F64  # (n_points,)


def local_resolution(team: Team, config: PostprocessConfig, names: PostprocessNames) -> None:
    """Estimate and write the local resolution; all processes call this.

    Raises
    ------
    InputError
        A map or the mask can not be used.
    """
    begun = time.monotonic()
    threads = config.threads or team.threads
    here = start_arrays(team, config.gpu)
    if team.is_leader and config.without_effect():
        log.warn(f"{', '.join(config.without_effect())}: without effect on local resolution (--locres).")
    half1, half2, mask = load_halves(config)
    geometry = Geometry.of(config, half1.density.shape[0], half1.pixel_size_A)
    points = _points(geometry)
    maps = [here(half) for half in (half1.density, half2)]
    random, sharpened = prepare(config, maps, geometry, threads)
    team.assign([len(points)] if team.is_leader else None)
    ranges = team.my_ranges()
    sums: list[NDArray[Any]] | None = None
    if 0 in ranges:
        mine = points[slice(*ranges[0])]
        shown = config.verb > 0 and team.is_root(0)
        with Progress("Local resolution", len(mine), shown=shown, unit="points") as progress:
            found = scan(maps, random, sharpened, mine, geometry, threads, progress.advance)
        rows = np.zeros((len(points), found.curves.shape[1] + 1))
        rows[slice(*ranges[0])] = np.column_stack([found.resolution_A, found.curves])
        sums = team.reduce_set(0, [found.filtered, found.inverse_resolution, found.weight, rows])
    arrays = [team.to_leader(0, None if sums is None else sums[i]) for i in range(4)]
    if team.is_leader:
        filtered, inverse, weight, rows = (np.asarray(array) for array in arrays)
        total = LocalSums(filtered, inverse, weight, rows[:, 1:], rows[:, 0])
        write_local(config, names, geometry.pixel_size_A, points, total, mask)
        log.emit(
            [
                f"  + time:                          {time.monotonic() - begun:.1f} s for {len(points)} points",
                f"  + peak memory:                   {peak_memory_MiB():.0f} MiB",
            ]
        )


def _points(geometry: Geometry) -> NDArray[np.int64]:
    """Where the local resolution is asked for: (n, 3) voxels z, y, x."""
    points = sample_points(geometry.box, geometry.step, geometry.radius)
    if not len(points):
        box_A, radius_A = (n * geometry.pixel_size_A for n in (geometry.box, geometry.radius))
        raise ConfigError(
            f"no point to sample: spheres of radius {radius_A:g} A leave no place for their centres in a box of {box_A:g} "
            f"A; give a --locres_maskrad, which is half of --locres_sampling by default, well below {box_A / 2:g} A"
        )
    return points


def prepare(
    config: PostprocessConfig, maps: Sequence[F32], geometry: Geometry, workers: int
) -> tuple[list[F32], F32]:
    """Both halves with random phases, and their average divided by the MTF and sharpened by the given B-factor."""
    shell = first_random_shell(
        "locres_randomize_at", geometry.random_from_A, geometry.pixel_size_A, geometry.box
    )
    seed = config.random_seed if config.random_seed >= 0 else time.time_ns() % 2**31
    transforms = [forward_3d(half, centre=False, workers=workers) for half in maps]
    warn_of_copies(fsc_of_transforms(transforms[0], transforms[1], workers=workers))
    streams = np.random.default_rng(seed).spawn(2)
    random = [
        inverse_3d(randomise_transform(t, shell, rng, workers=workers), centre=False, workers=workers)
        for t, rng in zip(transforms, streams, strict=True)
    ]
    average = (transforms[0] + transforms[1]) * np.float32(0.5)
    pixel = config.mtf_angpix if config.mtf_angpix > 0 else geometry.pixel_size_A
    mtf = read_mtf(config.mtf, pixel) if config.mtf else None
    steps = Sharpening(mtf=mtf, bfactor_A2=config.adhoc_bfac or None)
    made = make_filter(average, geometry.pixel_size_A, steps, workers=workers)
    filter_radially(average, made.weights, workers=workers)
    return random, inverse_3d(average, centre=False, workers=workers)


def scan(
    maps: Sequence[F32],
    random: Sequence[F32],
    sharpened: F32,
    points: NDArray[np.int64],
    geometry: Geometry,
    threads: int,
    step: Callable[[int], object] = lambda n: None,
) -> LocalSums:
    """All points: on several threads, or one after the other for maps on a device.

    Parameters
    ----------
    maps, random : two (N, N, N) float32 each
    sharpened : (N, N, N) float32
    points : (n, 3) voxels z, y, x
    step : called with the number of points done
    """
    xp = module_of(sharpened).xp
    size = geometry.box if geometry.exact else window_box(geometry.radius, geometry.edge)
    window = make_window(size, geometry.radius, geometry.edge, moving=geometry.exact, xp=xp)
    margin = 0 if geometry.exact else size // 2
    # windows near the border reach beyond the box, where there is nothing
    wide = [xp.pad(volume, margin) for volume in (*maps, *random, sharpened)]
    totals = [xp.zeros_like(wide[0]) for _ in range(3)]
    curves, resolutions = np.zeros((len(points), size // 2 + 1)), np.zeros(len(points))
    lock = Lock()

    def work(i: int) -> None:
        place = _place(points[i], size, geometry)
        parts = [volume[place] for volume in wide]
        result = _at_point(parts, points[i], window, geometry)
        curves[i], resolutions[i] = result[0], result[1]
        mask, filtered = result[2:]
        with lock:
            for total, value in zip(
                totals, (filtered * mask, mask / np.float32(result[1]), mask), strict=True
            ):
                total[place] += value
        step(1)

    if xp is np:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(len(points))))
    else:
        for i in range(len(points)):
            work(i)
    inner = (slice(margin, margin + geometry.box),) * 3
    filtered, inverse, weight = (np.ascontiguousarray(to_host(total)[inner]) for total in totals)
    return LocalSums(filtered, inverse, weight, curves, resolutions)


def _place(point: NDArray[np.int64], size: int, geometry: Geometry) -> tuple[slice, ...]:
    """The window around a point in the padded map: its element size/2 is the point."""
    if geometry.exact:
        return (slice(None),) * 3
    return tuple(slice(int(c), int(c) + size) for c in point)


def _at_point(
    parts: list[F32], point: NDArray[np.int64], window: Window, geometry: Geometry
) -> tuple[F64, float, F32, F32]:
    """Curve, resolution in A, sphere and filtered part at one point."""
    z, y, x = (int(c) for c in point)
    mask = window.mask
    xp = module_of(parts[0]).xp
    if mask is None:
        mask = xp.asarray(sphere_at(window.box, (z, y, x), geometry.radius, geometry.edge))
    size_A = window.box * geometry.pixel_size_A
    halves, random = xp.stack(parts[:2]), xp.stack(parts[2:4])
    curve = local_curve(halves, random, mask, window, size_A / geometry.random_from_A)
    resolution = crossing(curve, size_A, geometry.lowest_A, whole_shells=geometry.exact)
    filtered = filtered_window(parts[4], curve, resolution, size_A, window, geometry.filter_edge)
    return curve, resolution, mask, filtered
