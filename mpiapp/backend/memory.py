"""What lives in device memory during an iteration, in bytes, and the batch that fits (engine.md 7).

Pure functions of sizes: ``mpiapp plan`` prints them, a backend on a device chooses its batch by them. The sums leave out
what the CUDA libraries take for themselves (`RESERVED`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from mpiapp.model.images import plane_shape
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import grid_radius, padded_box

COMPLEX, REAL, SUM = 8, 4, 16  # bytes of complex64, float32 and of a voxel of the accumulators (float4)
ROW_ALIGNMENT = 8  # numbers; rows of matrix products begin at multiples of 16 bytes
RESERVED = 1 << 30  # CUDA context, cuBLAS, buffers of the threads that read, fragments of the pool
# beyond the largest a batch hides no more of what its launches cost on the host
SMALLEST_BATCH, WANTED_BATCH, LARGEST_BATCH = 1, 32, 2048
# Directions whose fine slices are held for an image at a time where there is no table of all
FINE_DIRECTIONS = 64
NUMBER_BYTES = {"auto": 2, "half": 2, "tf32": 4, "single": 4, "double": 8}


@dataclass(frozen=True)
class Load:
    """What the memory of an expectation step depends on.

    Attributes
    ----------
    box : image box in pixels, that of the model.
    padding : padding factor of the transforms of maps.
    r_max, r_coarse : highest frequency of everything, and of the coarse pass, in Fourier pixels.
    n_dir, n_psi : coarse directions and in-plane angles: all of them, or in a local search those near one image.
    n_shifts : coarse shifts.
    children : fine directions of a coarse one.
    classes : references.
    local : slices are made for each image.
    table : the fine slices of all directions are kept (never in a local search).
    number_bytes : size of a number in the score products.
    planar : references are class averages.
    """

    box: int
    padding: float
    r_max: int
    r_coarse: int
    n_dir: int
    n_psi: int
    n_shifts: int
    children: int = 4
    classes: int = 1
    local: bool = False
    table: bool = True
    number_bytes: int = 2
    planar: bool = False


@dataclass(frozen=True)
class Item:
    """One kind of array: bytes in all, or for each image of a batch."""

    name: str
    bytes: int
    per_image: bool = False


@dataclass(frozen=True)
class StepPlan:
    """An expectation step as it fits: batch 0 where not even one image does."""

    load: Load
    batch: int
    items: tuple[Item, ...]

    @property
    def total(self) -> int:
        """Bytes with the whole batch."""
        return total(self.items, self.batch)

    @property
    def route(self) -> str:
        """Where fine slices come from."""
        if self.load.local:
            return "local"
        return "table" if self.load.table else "batch"


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


def step_items(load: Load) -> tuple[Item, ...]:
    """Arrays of an expectation step, those of the device first, then those of an image of a batch."""
    voxels = grid_voxels(load.r_max, load.padding)
    if load.planar:
        voxels //= 2 * grid_radius(load.r_max, load.padding) + 1
    short, long = row_length(load.r_coarse), row_length(load.r_max)
    coarse, fine = 2 * short * load.number_bytes, 2 * long * load.number_bytes
    rows = load.n_dir * load.classes
    held = min(load.n_dir, FINE_DIRECTIONS) * load.children * load.classes
    fixed = [
        Item("reference, padded transform", load.classes * voxels * COMPLEX),
        Item("accumulators", load.classes * voxels * SUM),
        Item("phases of the shifts", load.n_shifts * n_pixels(load.r_max) * COMPLEX),
    ]
    # raw, masked and unmasked image, the masked one in a box of twice the size, and the transform of that
    preparing = 3 * load.box**2 * REAL + 4 * load.box**2 * REAL + 2 * load.box * (load.box + 1) * COMPLEX
    images = [
        Item("image while it is prepared", preparing),
        Item("prepared plane", _product(plane_shape(load.r_max)) * COMPLEX),
        Item("unmasked transform", n_pixels(load.r_max) * COMPLEX),
        Item("coarse scores", rows * load.n_psi * load.n_shifts * REAL),
    ]
    slices = Item("coarse slices", rows * (coarse + short * REAL))
    if load.local:
        turned = load.n_psi * (short + 2 * long) * (COMPLEX + REAL)
        images += [Item("turned rows", turned), slices, Item("fine slices", held * fine)]
    else:
        # scores at psi + 180 degrees come from the rows at psi
        half = -(-load.n_psi // 2)
        images += [
            Item("turned rows", half * short * (COMPLEX + REAL)),
            Item("turned and shifted rows", half * load.n_shifts * coarse),
        ]
        fixed.append(slices)
        if load.table:
            fixed.append(Item("fine slices", rows * load.children * fine))
        else:
            images.append(Item("fine slices", held * fine))
    return (*fixed, *(replace(item, per_image=True) for item in images))


def insertion_items(r_max: int, padding: float, box: int) -> tuple[Item, ...]:
    """Arrays of the sums over particles with known poses, in images of up to ``box`` pixels."""
    transform = box * (box // 2 + 1) * COMPLEX
    return (
        Item("accumulators", grid_voxels(r_max, padding) * SUM),
        Item("image while it is prepared", 3 * box**2 * REAL + 2 * transform, per_image=True),
        Item("unmasked transform", n_pixels(box // 2) * COMPLEX, per_image=True),
        # its phases in double precision with what is made on the way, and its values
        Item("CTF", n_pixels(box // 2) * (4 * COMPLEX + REAL), per_image=True),
    )


def reconstruction_items(box: int, padding: float, classes: int = 1) -> tuple[Item, ...]:
    """Arrays of the final full-size reconstruction: the sums of all classes, and one map at a time."""
    voxels, size = grid_voxels(box // 2, padding), padded_box(box, padding)
    transform = size**2 * (size // 2 + 1) * COMPLEX
    return (
        Item("accumulators", classes * voxels * SUM),
        Item("symmetrised sums", voxels * SUM),
        Item("padded transform", transform),
        Item("work area of the FFT", transform),
        Item("map", box**3 * REAL),
    )


def total(items: tuple[Item, ...], batch: int = 0) -> int:
    """Bytes of all arrays, those of images for a whole batch."""
    return sum(item.bytes * (batch if item.per_image else 1) for item in items)


def plan_step(load: Load, free: int, largest: int = LARGEST_BATCH) -> StepPlan:
    """The largest batch that fits, with a table of all fine slices where that leaves room for a good batch.

    Parameters
    ----------
    free
        Bytes that the step may use.
    largest
        Most images of a batch.
    """
    with_table = _fitted(replace(load, table=not load.local), free, largest)
    if load.local or with_table.batch >= min(WANTED_BATCH, largest):
        return with_table
    without = _fitted(replace(load, table=False), free, largest)
    return without if without.batch > with_table.batch else with_table


def _fitted(load: Load, free: int, largest: int) -> StepPlan:
    items = step_items(load)
    fixed = total(items)
    batch = min(largest, max(free - fixed, 0) // (total(items, 1) - fixed))
    return StepPlan(load, batch, items)


def required(load: Load) -> int:
    """Fewest bytes that an expectation step works with: no table of fine slices, the smallest batch."""
    return total(step_items(replace(load, table=False)), SMALLEST_BATCH)


def cache_bytes(box: int, particles: int, float16: bool = False) -> int:
    """Images of all particles as they are read."""
    return box**2 * (2 if float16 else 4) * particles


def _product(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]
