"""Back-projection of particles at known poses on a device (twin of ``backend.insertion``)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImageOptions, ImagingSetup, ReadImages
from mpiapp.backend.batches import PARTICLES_OF_A_SUM, batches_of, even_batch, runs_of
from mpiapp.backend.gpu_back_projection import ENTRY, ENTRY_WORDS, Target, back_project
from mpiapp.backend.gpu_images import MapSide, UnmaskedImages, make_still, mask, unmasked_rows
from mpiapp.backend.gpu_memory import too_small
from mpiapp.backend.map_memory import insertion_items
from mpiapp.backend.memory import RESERVED, Item, total
from mpiapp.backend.reach import map_pixels
from mpiapp.errors import DeviceError
from mpiapp.model.aberrations import even_gamma, magnify
from mpiapp.model.ctf import ctf
from mpiapp.model.masks import inscribed_circle
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.projection import grid_radius
from mpiapp.model.rotations import euler_to_matrix

if TYPE_CHECKING:
    from mpiapp.backend.gpu import GpuBackend

F64 = NDArray[np.float64]
# images of a batch at most: few enough that one batch is read while another is computed
LARGEST_BATCH = 256


@dataclass(frozen=True)
class Source:
    """Images of one box and pixel size: their mask and map side on the device."""

    mask: Any  # (box, box) float32
    still: MapSide
    even: dict[int, Any]  # optics group: phase of even aberrations (n_pix,) float64, where there are any
    back_turn: F64  # (n_optics, 2, 2) model-plane frequency of an image frequency


def insert_particles(
    backend: GpuBackend,
    setup: ImagingSetup,
    r_max: int,
    data: ParticleData,
    poses: Poses,
    read: ReadImages,
    options: ImageOptions,
    *,
    weights: F64 | None = None,
    step: Callable[[int], object] = lambda n: None,
) -> tuple[Any, int]:
    """Sums of all particles, as :meth:`mpiapp.backend.base.Backend.back_project` says.

    Raises
    ------
    DeviceError
        The sums and one image do not fit in the memory of the device: before any work by plan, or when it ends.
    """
    kernels, cupy = backend.kernels, backend.cupy
    items = insertion_items(r_max, setup.padding, max(o.box for o in setup.optics), len(data))
    needs = total(items, 1)
    what = f"the sums of a reconstruction at {2 * r_max} of {setup.box} px"
    if needs > backend.memory:
        raise DeviceError(too_small(what, needs, backend.memory, 0, ""))
    r = grid_radius(r_max, setup.padding)
    shape = (1, 2 * r + 1, 2 * r + 1, r + 1, 4)

    backend.cache.give_up()  # every image is looked at once

    def tables() -> tuple[Target, dict[tuple[int, float], Source]]:
        kinds = {(o.box, o.pixel_size_A) for o in setup.optics}
        sources = {kind: _source(backend, setup, r_max, *kind, options.corners) for kind in kinds}
        kept = cupy.zeros(shape, np.float32) if len(data) > PARTICLES_OF_A_SUM else None
        return Target(cupy.zeros(shape, np.float32), setup.padding, False, kept=kept), sources

    target, sources = backend.within_memory(what, tables, needs)
    of_class = cupy.zeros(1, np.int32)
    lock, bad_images = threading.Lock(), [0]

    def work(rows: NDArray[np.int64]) -> None:
        mine, its_poses = data.take(rows), poses.take(rows)
        optics = setup.optics[int(mine.optics[0])]
        source = sources[optics.box, optics.pixel_size_A]
        raw = backend.cache.get(mine, optics.box, read)
        with backend.busy.work():
            images, bad = _prepare(backend, source, mine, raw)
            gain = None if weights is None else weights[rows]
            start, entries, orientation = _entries(setup, source, mine, its_poses, gain, bad)
            contrasts = _contrasts(backend, setup, source, mine, options) if options.ctf else None
            on_device = (cupy.asarray(entries.view(np.float32).reshape(-1, ENTRY_WORDS)), cupy.asarray(start))
            turns = cupy.asarray(orientation)
            # from here on nothing takes memory, so that a batch counts as a whole or not at all
            back_project(kernels, images, source.still, target, of_class, *on_device, turns, None, contrasts)
        with lock:
            bad_images[0] += int(bad.sum())
        step(rows.size)

    size = even_batch(len(data), _planned_batch(backend, items), backend.lanes)
    for run in runs_of(list(batches_of(setup, data, np.arange(len(data)), size)), PARTICLES_OF_A_SUM):
        backend.in_batches(run, work)
        cupy.cuda.Device().synchronize()
        if target.kept is not None:
            target.settle()
    return target.whole()[0], bad_images[0]


def _planned_batch(backend: GpuBackend, items: tuple[Item, ...]) -> int:
    """Images of a batch, from the memory that the sums leave to each of the lanes."""
    fixed = total(items)
    free = (backend.memory - RESERVED - fixed) // backend.lanes
    return max(1, min(backend.batch or LARGEST_BATCH, free // (total(items, 1) - fixed)))


def _source(
    backend: GpuBackend, setup: ImagingSetup, r_max: int, box: int, pixel_size_A: float, corners: bool
) -> Source:
    put = backend.cupy.asarray
    inside = np.ones((box, box), np.float32) if corners else inscribed_circle(box)
    # images are not weighted by their noise
    sigma2 = np.ones((len(setup.optics), setup.n_shells))
    pixels = map_pixels(setup, box, pixel_size_A, r_max)
    still = make_still(backend.kernels, setup, sigma2, r_max, box, pixel_size_A)
    still.factor[:, 0] = 0  # the mean of an image says nothing of the particle
    turns = [np.asarray(o.magnification, float).reshape(2, 2) / o.ratio for o in setup.optics]
    even = {}
    for g, o in enumerate(setup.optics):
        if any(o.even_zernike) and (o.box, o.pixel_size_A) == (box, pixel_size_A):
            even[g] = put(even_gamma(o.even_zernike, *_frequencies(o, pixels.kx, pixels.ky)))
    return Source(put(inside), still, even, np.stack(turns))


def _prepare(
    backend: GpuBackend, source: Source, data: ParticleData, raw: tuple[Any, Any]
) -> tuple[UnmaskedImages, NDArray[np.bool_]]:
    """Images of a batch as they go into the map; waits until it is known which are not finite."""
    cupy, n = backend.cupy, len(data)
    one, still = cupy.ones(n, np.float32), cupy.zeros((n, 2), np.int32)
    unmasked, bad = mask(backend.kernels, raw, still, one, source.mask, source.mask)
    group = cupy.asarray(data.optics)
    rows = unmasked_rows(backend.kernels, unmasked, source.still, group)
    # coefficients of 0 stand for no CTF; where there is one, its values are computed apart
    return UnmaskedImages(rows, cupy.zeros((n, 8), np.float32), one, group), bad.get().astype(bool)


def _contrasts(
    backend: GpuBackend, setup: ImagingSetup, source: Source, data: ParticleData, options: ImageOptions
) -> Any:
    """CTF of each image, (n, n_pix) float32; its phases in double precision as on processors."""
    cupy, still = backend.cupy, source.still
    out = cupy.empty((len(data), still.n_pix), np.float32)
    for g in np.unique(data.optics):
        mine, (x, y) = np.flatnonzero(data.optics == g), _frequencies(setup.optics[g], still.kx, still.ky)
        out[cupy.asarray(mine)] = ctf(
            x,
            y,
            cupy.asarray(data.ctf[mine]),
            even_gamma=source.even.get(int(g)),
            phase_flipped=options.phase_flipped,
            only_flip_phases=options.only_flip_phases,
            intact_first_peak=options.intact_first_peak,
        )
    return out


def _frequencies(optics: OpticsModel, kx: Any, ky: Any) -> tuple[Any, Any]:
    """Frequencies of pixels in 1/A, magnification applied."""
    unit = 1.0 / (optics.box * optics.pixel_size_A)
    return magnify(kx.astype(np.float64) * unit, ky.astype(np.float64) * unit, optics.magnification)


def _entries(
    setup: ImagingSetup,
    source: Source,
    data: ParticleData,
    poses: Poses,
    weights: F64 | None,
    bad: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[Any], NDArray[np.float32]]:
    """The one state of each finite image: where its entries begin (n + 1,), entries (m,) and orientations (m, 6)."""
    good = np.flatnonzero(~bad)
    entries = np.zeros(good.size, ENTRY)
    entries["image"] = entries["base"] = good
    entries["weight"] = 1.0 if weights is None else weights[good]
    optics = setup.optics[int(data.optics[0])]
    entries["still"] = poses.origin_A[good] / (optics.pixel_size_A * optics.box)
    matrices = euler_to_matrix(poses.rot_deg, poses.tilt_deg, poses.psi_deg)[good, :2]
    turned = source.back_turn[data.optics[good]].swapaxes(1, 2) @ matrices
    start = np.concatenate([[0], np.cumsum(~bad)]).astype(np.int32)
    return start, entries, np.ascontiguousarray(turned.reshape(-1, 6), np.float32)
