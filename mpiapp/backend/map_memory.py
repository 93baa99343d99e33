"""What lives in device memory while sums over known poses and maps are made, in bytes (engine.md 7)."""

from __future__ import annotations

from math import pi

from mpiapp.backend.memory import COMPLEX, REAL, SUM, Item, grid_voxels, n_pixels, sum_bytes
from mpiapp.model.projection import padded_box

DOUBLE = 8
# elements of a half cube that lie inside its half ball
INSIDE = pi / 6


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
    box: int,
    padding: float,
    classes: int = 1,
    *,
    halves: int = 1,
    symmetric: bool = True,
    joined: bool = False,
) -> tuple[Item, ...]:
    """Arrays of the full-size reconstruction: the sums that a process holds, and one map at a time.

    They are the arrays that ``model.reconstruct`` and ``engine.iteration`` hold together where they hold most.

    Parameters
    ----------
    classes : whose sums are held.
    halves : 2 for a process that holds both halves of a refinement.
    symmetric : sums of symmetry mates are added, in a copy.
    joined : the sums of both halves are added for the final map, in a third array.
    """
    voxels = grid_voxels(box // 2, padding)
    copies = halves if symmetric else 0
    transform = voxels * COMPLEX
    making = max(_division(voxels), transform + _transform(voxels), _map(box, padding))
    items = (
        Item("accumulators", classes * halves * voxels * SUM),
        Item("symmetrised sums", copies * voxels * SUM),
        Item("sum of both halves", voxels * SUM if joined else 0),
        Item("padded transform", transform),
        Item("what is made on the way to a map", making),
    )
    return tuple(item for item in items if item.bytes)


def _division(voxels: int) -> int:
    """``wiener`` at its last line: arrays of the elements inside the ball, and masks of all.

    Inside: weight, shell, floor and its index (float32, int32), signal power, prior and denominator (float64), what
    damps elements without signal (float32); then the sums (float4), D (complex64), the divisor (float64), the quotient
    (complex128). Of all elements: the mask, and radii, shells or running numbers of the mask (int32).
    """
    inside = 4 * REAL + 3 * DOUBLE + SUM + COMPLEX + DOUBLE + 2 * COMPLEX
    return int(voxels * (INSIDE * inside + 1 + 2 * REAL))


def _transform(voxels: int) -> int:
    """``real_space_map`` along the first axis: the buffer, what is copied to it, that times the phases."""
    return 3 * voxels * COMPLEX


def _map(box: int, padding: float) -> int:
    """``real_space_map`` at its end: what was transformed last, and the map with its mask and correction."""
    size = padded_box(box, padding)
    return box**2 * (size // 2 + 1) * COMPLEX + box**2 * size * REAL + box**3 * (2 * DOUBLE + 3 * REAL)
