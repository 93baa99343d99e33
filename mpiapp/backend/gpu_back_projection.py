"""Back-projection on the device: images at their orientations into the padded grid (refinement.md 2.4, engine.md 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpiapp.backend.gpu_images import MapSide, UnmaskedImages
from mpiapp.backend.gpu_kernels import MOST_ROWS, Kernels, blocks
from mpiapp.backend.gpu_pass import Pass
from mpiapp.backend.gpu_references import Rows

# An accepted state (struct Entry of kernels/sums.cu): row of a table, row of turned images, weight, shift in cycles per
# pixel of the model plane and of the image, image.
ENTRY = np.dtype(
    [
        ("row", "i4"),
        ("base", "i4"),
        ("weight", "f4"),
        ("turned", "f4", 2),
        ("still", "f4", 2),
        ("image", "i4"),
    ]
)
ENTRY_WORDS = ENTRY.itemsize // 4

PLANES = 16  # of a grid, that are settled at a time, as it takes memory


@dataclass
class Target:
    """What back-projection adds to.

    Sums of very many particles are compensated: now and then the grid is added to another, ``kept``, and what rounding
    takes from that stays in the grid (two-sum: D. Knuth, The Art of Computer Programming 2, 4.2.2).
    """

    grid: Any  # (n_class, 2 R + 1, 2 R + 1, R + 1, 4) float32, without the first axis of space for averages
    padding: float
    planar: bool
    # (orientations of the fine grid of all classes, n_still, 4) float32: sums that are inserted at the end
    slices: Any = None
    kept: Any = None  # as grid, for more particles than `batches.PARTICLES_OF_A_SUM`

    def settle(self) -> None:
        """Add the grid to what is kept; the rounding errors of that are its new values."""
        for new, old in self._planes():
            total = old + new
            part = total - old
            new[...] = (old - (total - part)) + (new - part)
            old[...] = total

    def whole(self) -> Any:
        """The grid with all that was added; the target is spent."""
        if self.kept is not None:
            for new, old in self._planes():
                new += old
            self.kept = None
        return self.grid

    def _planes(self) -> Iterator[tuple[Any, Any]]:
        for new, old in zip(self.grid, self.kept, strict=True):
            for first in range(0, len(new), PLANES):
                yield new[first : first + PLANES], old[first : first + PLANES]

    @property
    def radius(self) -> int:
        """R of the grid."""
        return int(self.grid.shape[-2]) - 1


def back_project(
    kernels: Kernels,
    images: UnmaskedImages,
    still: MapSide,
    target: Target,
    of_class: Any,
    entries: Any,
    entry_start: Any,
    orientation: Any,
    number: Any = None,
    contrasts: Any = None,
) -> None:
    """Add every image at its accepted states to the grid, or to the slices of the target; takes no memory.

    Parameters
    ----------
    of_class : (n_row,) int32 class of each row that entries name.
    entries : (m, ENTRY_WORDS) float32, those of an image together;  entry_start : (n + 1,) int32.
    orientation : (m, 6) float32, first two rows of back_turn^T Rz(psi) D.
    number : (m,) int32 of the orientation, for slices.
    contrasts : (n, n_still) float32 values of the CTF; None where the kernel computes them.
    """
    arguments = (entry_start, entries, orientation, images.rows, still.kx, still.ky, still.place_x, still.place_y,
                 still.sx, still.sy, still.even, still.weight, still.n_pix, images.ctf, contrasts, images.scale,
                 images.group, still.optics, of_class, target.radius, target.padding, target.planar, target.grid,
                 number, target.slices)  # fmt: skip
    grid = (blocks(still.n_pix, 128), len(images.rows))
    kernels.launch("sums.cu", "back_project", grid, arguments, block=128)


def insert_slices(p: Pass, target: Target, still: MapSide, fine: Rows) -> None:
    """Add the sums by orientation to the grid, and begin anew with them."""
    rows = len(fine.matrices)
    arguments = (target.slices, fine.matrices, p.cosine, p.sine, rows, p.n_psi, still.optics, still.place_x, still.place_y,
                 still.n_pix, fine.of_class, target.radius, target.padding, target.planar, target.grid)  # fmt: skip
    grid = (blocks(still.n_pix, 128), min(rows * p.n_psi, MOST_ROWS))
    p.kernels.launch("sums.cu", "insert_slices", grid, arguments, block=128)
    target.slices[...] = 0
