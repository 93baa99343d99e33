"""What lives in device memory while sums over known poses and maps are made, in bytes (engine.md 7)."""

from __future__ import annotations

from math import pi

from mpiapp.backend.memory import (
    COMPLEX,
    REAL,
    SLAB_BYTES,
    SUM,
    Item,
    grid_voxels,
    n_pixels,
    slab_elements,
    stays_beside,
    sum_bytes,
)
from mpiapp.model.arrays import SLAB
from mpiapp.model.projection import padded_box

DOUBLE = 8
# elements of a half cube that lie inside its half ball
INSIDE = pi / 6
# bytes of a device so small that halves take turns, and planes of a map are worked on a few at a time
LEAST = 1


def insertion_items(r_max: int, padding: float, box: int, particles: int = 1) -> tuple[Item, ...]:
    """Arrays of the sums over particles with known poses, in images of up to ``box`` pixels."""
    transform = box * (box // 2 + 1) * COMPLEX
    return (
        Item("accumulators", grid_voxels(r_max, padding) * sum_bytes(particles)),
        Item("image while it is prepared", 3 * box**2 * REAL + 2 * transform, per_image=True),
        Item("unmasked transform", n_pixels(box // 2) * COMPLEX, per_image=True),
        # its phases in double precision with what is made on the way, and its values
        Item("CTF", n_pixels(box // 2) * (4 * COMPLEX + REAL), per_image=True),
    )


def reconstruction_items(
    box: int, padding: float, classes: int = 1, *, halves: int = 1, symmetric: bool = True, memory: int = 0
) -> tuple[Item, ...]:
    """Arrays of the full-size reconstruction: the sums that a process holds, and one map at a time.

    They are the arrays that ``model.reconstruct`` and ``engine.iteration`` hold together where they hold most.

    Parameters
    ----------
    classes : whose sums are held.
    halves : 2 for a process that makes the maps of both halves of a refinement.
    symmetric : sums of symmetry mates are added, in a copy.
    memory : bytes of the device, in which the sums of a half may have to make room for the other's, and of which a share
        is for the planes that are worked on at a time; 0 for plenty.
    """
    voxels = grid_voxels(box // 2, padding)
    if memory and not stays_beside(voxels * SUM, memory):
        halves = 1
    transform = voxels * COMPLEX
    making = max(_division(voxels), _transform(box, padding), _map(box))
    items = (
        Item("accumulators", classes * halves * voxels * SUM),
        Item("symmetrised sums", voxels * SUM if symmetric else 0),
        Item("padded transform", transform),
        Item("what is made on the way to a map", making + _slab(box, padding, memory)),
    )
    return tuple(item for item in items if item.bytes)


def _division(voxels: int) -> int:
    """``wiener``: divisors (float32) and rings (int32) of the elements inside the ball, and which they are."""
    return int(voxels * (INSIDE * 2 * REAL + 1))


def _transform(box: int, padding: float) -> int:
    """``real_space_map`` beside the padded transform: what is transformed along one axis, and the map."""
    size = padded_box(box, padding)
    return box * size * (size // 2 + 1) * COMPLEX + box**3 * REAL


def _map(box: int) -> int:
    """``real_space_map`` at its end: the map, its mask, the outside of that and the map in double precision.

    Or ``downsampled_average``: the average, its weights, and what it is divided by.
    """
    return max(box**3 * (2 * DOUBLE + 2 * REAL), (box + 3) ** 2 * (box // 2 + 2) * 4 * DOUBLE)


def _slab(box: int, padding: float, memory: int) -> int:
    """What is made of the planes that are worked on at a time."""
    size = padded_box(box, padding)
    plane = size * (size // 2 + 1)
    at_once = min(slab_elements(memory), size * plane) if memory else size * plane
    return max(SLAB * plane, at_once) * SLAB_BYTES
