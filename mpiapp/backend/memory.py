"""What lives in device memory during an expectation step, in bytes (engine.md 7).

Pure functions of sizes, which `backend.step_plan` decides by. The sums leave out what the CUDA libraries take for
themselves (`RESERVED`), and scores and states of the fine pass, whose number only the data tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mpiapp.backend.batches import PARTICLES_OF_A_SUM
from mpiapp.model.images import plane_shape
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius

COMPLEX, REAL, SUM = 8, 4, 16  # bytes of complex64, float32 and of a voxel of the accumulators (float4)
# numbers; rows of tables begin at multiples of this many pixels, the step of the grouped products
ROW_ALIGNMENT = 64
RESERVED = 1 << 30  # CUDA context, cuBLAS, buffers of the threads that read, fragments of the pool
# Of the memory, what the sums of one half of a refinement may take while the same process works on the other half;
# larger ones wait in host memory
BESIDE_SHARE = 0.05
# Of the memory, what is made of the planes of a map that are worked on at a time, and bytes of an element of them: radii,
# shells, numbers in double precision, and what selects the elements inside the ball
SLAB_SHARE, SLAB_BYTES = 0.05, 48
# Directions whose slices are held for an image at a time where there is no table of all
FINE_DIRECTIONS = 64
# shares of the memory: images that are kept, scores of a batch that are held at a time
CACHE_SHARE, SCORE_SHARE = 0.4, 0.08
LOCAL_REACH = 3.0  # standard deviations of the prior of a local search
NUMBER_BYTES = {"auto": 2, "half": 2, "tf32": 4, "single": 4, "double": 8}


@dataclass(frozen=True)
class Load:
    """What the memory of an expectation step depends on.

    Attributes
    ----------
    box : largest image box in pixels.
    padding : padding factor of the transforms of maps.
    r_max, r_coarse : highest frequency of everything, and of the coarse pass, in Fourier pixels.
    n_dir, n_psi : coarse directions and in-plane angles of the whole grid.
    n_shifts : coarse shifts.
    near : directions and in-plane angles near one image in a local search; None for a global one.
    children, psi_children : fine directions of a coarse one, fine in-plane angles of a coarse one.
    classes : references.
    particles : images of the step: those of a process in one half.
    number_bytes : size of a number in the score products.
    planar : references are class averages.
    searched : orientations are searched for; otherwise slices are made at the known ones.
    n_map : pixels of an image that go into maps; 0 for those of the model up to r_max.
    one_geometry : all images have one box, pixel size and magnification.
    """

    box: int
    padding: float
    r_max: int
    r_coarse: int
    n_dir: int
    n_psi: int
    n_shifts: int
    near: tuple[int, int] | None = None
    children: int = 4
    psi_children: int = 2
    classes: int = 1
    particles: int = 1
    number_bytes: int = 2
    planar: bool = False
    searched: bool = True
    n_map: int = 0
    one_geometry: bool = True

    @property
    def map_pixels(self) -> int:
        """Pixels of an image that go into maps."""
        return self.n_map or n_pixels(self.r_max)


@dataclass(frozen=True)
class Tables:
    """What a step keeps for all directions: coarse slices, fine slices, sums by orientation (slice-space)."""

    coarse: bool
    fine: bool
    sums: bool


@dataclass(frozen=True)
class Item:
    """One kind of array: bytes in all, or for each image of a batch, of which no more than ``limit`` is held (0: all)."""

    name: str
    bytes: int
    per_image: bool = False
    limit: int = 0

    def held(self, batch: int) -> int:
        """Bytes for one batch."""
        if not self.per_image:
            return self.bytes
        whole = batch * self.bytes
        return min(whole, max(self.limit, self.bytes)) if self.limit else whole


@lru_cache(maxsize=1024)
def n_pixels(radius: int) -> int:
    """Pixels of a list up to a radius."""
    return len(pixel_list(radius))


def row_length(radius: int) -> int:
    """Pixels of an aligned row."""
    return -(-n_pixels(radius) // ROW_ALIGNMENT) * ROW_ALIGNMENT


def grid_voxels(r_max: int, padding: float) -> int:
    """Elements (2 R + 1)^2 (R + 1) of the padded transform of a map and of the accumulators."""
    radius = grid_radius(r_max, padding)
    return (2 * radius + 1) ** 2 * (radius + 1)


def sum_bytes(particles: int) -> int:
    """Of a voxel of the accumulators: those of very many particles are compensated, in a second array."""
    return SUM * (2 if particles > PARTICLES_OF_A_SUM else 1)


def near_counts(
    n_dir: int, n_psi: int, sphere: int, psi_step_deg: float, sigma_deg: float
) -> tuple[int, int]:
    """Directions and in-plane angles of a local search: a cap and a window of three standard deviations.

    Parameters
    ----------
    n_dir, n_psi : of the whole grid;  sphere : directions on all of the sphere, without symmetry.
    """
    reach = min(LOCAL_REACH * sigma_deg, 180.0)
    cap = int(sphere * (1 - np.cos(np.deg2rad(reach))) / 2) + 1
    return min(n_dir, cap), min(n_psi, int(2 * reach / psi_step_deg) + 1)


def table_bytes(load: Load, radius: int, children: int = 1) -> int:
    """Slices of all directions of all classes up to a radius."""
    return 2 * load.classes * load.n_dir * children * row_length(radius) * load.number_bytes


def orientation_bytes(load: Load) -> int:
    """Sums by orientation of the fine grid."""
    rows = load.classes * load.n_dir * load.children * load.n_psi * load.psi_children
    return SUM * rows * load.map_pixels


def step_items(load: Load, tables: Tables, memory: int = 0) -> tuple[Item, ...]:
    """Arrays of an expectation step, those of the device first, then those of an image of a batch.

    Parameters
    ----------
    memory : bytes that the process may use, of which scores take a share at most; 0 for no such limit.
    """
    voxels = grid_voxels(load.r_max, load.padding)
    if load.planar:
        voxels //= 2 * grid_radius(load.r_max, load.padding) + 1
    fixed = [
        Item("reference, padded transform", load.classes * voxels * COMPLEX),
        Item("accumulators", load.classes * voxels * sum_bytes(load.particles)),
    ]
    if tables.coarse:
        # |P|^2 of the slices is kept for dense products
        power = load.classes * load.n_dir * row_length(load.r_coarse) * REAL if load.near is None else 0
        fixed.append(Item("coarse slices", table_bytes(load, load.r_coarse) + power))
    if tables.fine:
        fixed.append(Item("fine slices", table_bytes(load, load.r_max, load.children)))
    if tables.sums:
        fixed.append(Item("sums by orientation", orientation_bytes(load)))
    limit = int(SCORE_SHARE * memory)
    images = [*_prepared(load), *(_dense if load.near is None else _local)(load, tables, limit)]
    return (*fixed, *(replace(item, per_image=True) for item in images if item.bytes))


def _prepared(load: Load) -> list[Item]:
    """An image on its way in, and what stays of it."""
    # raw, masked and unmasked image, the masked one in a box of twice the size, and the transform of that
    preparing = 3 * load.box**2 * REAL + 4 * load.box**2 * REAL + 2 * load.box * (load.box + 1) * COMPLEX
    rows, columns = plane_shape(load.r_max)
    return [
        Item("image while it is prepared", preparing),
        Item("prepared plane", rows * columns * COMPLEX),
        Item("unmasked transform", load.map_pixels * COMPLEX),
    ]


def _dense(load: Load, tables: Tables, limit: int) -> list[Item]:
    """An image compared with all directions, angles and shifts; its fine slices where they are made for a batch."""
    short, long = row_length(load.r_coarse), row_length(load.r_max)
    # scores at psi + 180 degrees come from the rows at psi
    half = -(-load.n_psi // 2)
    scores = load.classes * load.n_dir * load.n_psi * load.n_shifts * REAL
    shifted = half * load.n_shifts * 2 * short * load.number_bytes
    held = min(load.n_dir, FINE_DIRECTIONS) * load.children * load.classes
    return [
        Item("coarse scores", scores, limit=limit),
        Item("turned rows", half * short * (COMPLEX + REAL), limit=limit),
        Item("turned and shifted rows", shifted, limit=limit),
        Item("fine slices", 0 if tables.fine else held * 2 * long * load.number_bytes),
    ]


def _local(load: Load, tables: Tables, limit: int) -> list[Item]:
    """An image compared with the directions and angles near its own, or with what is known already."""
    assert load.near is not None
    n_dir, n_psi = load.near
    short, long = row_length(load.r_coarse), row_length(load.r_max)
    rows, turned = n_dir * load.classes, n_psi * (COMPLEX + REAL)
    held = min(n_dir, FINE_DIRECTIONS) * load.children * load.classes
    return [
        Item("coarse scores", rows * n_psi * load.n_shifts * REAL),
        Item("turned rows", turned * short),
        Item("turned rows, fine pass", turned * 2 * long, limit=limit),
        Item("coarse slices", 0 if tables.coarse else rows * 2 * short * load.number_bytes),
        Item("fine slices", 0 if tables.fine else held * 2 * long * load.number_bytes),
    ]


def total(items: tuple[Item, ...], batch: int = 0) -> int:
    """Bytes of all arrays, those of images for a whole batch, as if none of them had a limit."""
    return sum(item.bytes * (batch if item.per_image else 1) for item in items)


def left_free(memory: int) -> int:
    """Bytes that a step leaves: to the CUDA libraries, and to the sums of the other half of a refinement."""
    return RESERVED + int(BESIDE_SHARE * memory)


def slab_elements(memory: int) -> int:
    """Elements of a map that are worked on at a time."""
    return int(SLAB_SHARE * memory) // SLAB_BYTES


def stays_beside(size: int, memory: int) -> bool:
    """Whether sums of some bytes stay on a device while other particles are worked on."""
    return size <= BESIDE_SHARE * memory


def required(load: Load) -> int:
    """Fewest bytes that an expectation step works with: only the table of dense products, one image."""
    return total(step_items(load, Tables(load.searched and load.near is None, False, False)), 1)


def image_bytes(box: int) -> int:
    """An image that is kept: in single precision, whatever the stacks hold."""
    return box**2 * REAL


def images_held(n: int, box: int, room: int) -> int:
    """How many of n images are kept in a room of bytes; the others are read again for each step."""
    return min(n, max(room, 0) // image_bytes(box))


def cache_bytes(images: Mapping[int, int], memory: int) -> int:
    """Bytes of the images that are kept of given numbers of images by box, of a process with so much memory."""
    room = int(CACHE_SHARE * memory)
    used = 0
    for box, n in sorted(images.items()):
        used += images_held(n, box, room - used) * image_bytes(box)
    return used
