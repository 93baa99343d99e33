"""Slices of the references of all classes: once for all directions, or for those that a batch needs (engine.md 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.arguments import F32
from mpiapp.backend.base import HalfModel
from mpiapp.kernels.arguments import FineRows, Pixels
from mpiapp.kernels.slicing import slice_directions
from mpiapp.model.search import Search

I32 = NDArray[np.int32]
Slicer = Callable[[F32, int, float, NDArray[np.float64], F32, F32], F32]
# A table of all slices pays when it has at most this many directions for every particle
TABLE_ROWS_PER_PARTICLE = 8


class References:
    """Slices of the references. Row r of a table is direction r % n_dir of class r // n_dir.

    Parameters
    ----------
    slicer : ``slices`` of a backend, which works on all threads
    """

    def __init__(self, model: HalfModel, padding: float, slicer: Slicer) -> None:
        self.model, self.padding, self.slicer = model, np.float32(padding), slicer
        self.planar = model.transforms[0].ndim == 2
        self.radius = model.transforms[0].shape[-1] - 1
        self.volumes = [np.ascontiguousarray(t).view(np.float32).ravel() for t in model.transforms]

    @property
    def n_class(self) -> int:
        """Number of classes."""
        return len(self.volumes)

    def all_rows(self, matrices: NDArray[np.floating], pixels: Pixels) -> F32:
        """Slices of every class at the same directions, on all threads: (n_class * n, 2, n_pix)."""
        if self.planar:
            return self._averages(pixels)
        turned = np.asarray(matrices @ self.model.frame, np.float64)
        parts = [
            self.slicer(volume, self.radius, float(self.padding), turned, pixels.qx, pixels.qy)
            for volume in self.volumes
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def some_rows(self, of_class: NDArray[np.integer], matrices: NDArray[np.floating], pixels: Pixels) -> F32:
        """Slices of given classes (n,), in ascending order, at given directions (n, 3, 3), on the calling thread."""
        if self.planar:
            return self._averages(pixels)[of_class]
        out = np.empty((len(matrices), 2, pixels.qx.size), np.float32)
        turned = np.ascontiguousarray(matrices @ self.model.frame, np.float32)
        starts = np.searchsorted(of_class, np.arange(self.n_class + 1))
        for k, volume in enumerate(self.volumes):
            mine = slice(starts[k], starts[k + 1])
            slice_directions(volume, self.radius, self.padding, turned[mine], pixels.qx, pixels.qy, out[mine])
        return out

    def _averages(self, pixels: Pixels) -> F32:
        """Class averages at the pixels: they lie on whole frequencies, so nothing is interpolated."""
        x, y = pixels.qx.astype(np.int64), pixels.qy.astype(np.int64)
        rows = np.stack([t[y + self.radius, x] for t in self.model.transforms])
        return np.ascontiguousarray(np.stack([rows.real, rows.imag], axis=1), np.float32)


class RowTables:
    """Tables of coarse and fine slices, or the slices of a batch where a table would not pay."""

    def __init__(
        self,
        references: References,
        search: Search,
        pixels: tuple[Pixels, Pixels],
        n_particles: int,
        table_bytes: int,
    ) -> None:
        self.references, self.search = references, search
        self.coarse_pixels, self.fine_pixels = pixels
        self.n_particles, self.table_bytes = n_particles, table_bytes
        self.n_rows = references.n_class * search.n_directions
        self.fine_matrices = np.ascontiguousarray(search.fine_matrices, np.float32)
        self.coarse: F32 | None = None
        self.fine: FineRows | None = None
        if search.sigma_deg is None:
            table = references.all_rows(search.coarse_matrices, self.coarse_pixels)
            self.whole = np.ascontiguousarray(table.transpose(1, 0, 2))
            self.whole_power = table[:, 0] ** 2 + table[:, 1] ** 2
        elif self._pays(self.n_rows, self.coarse_pixels):
            self.coarse = references.all_rows(search.coarse_matrices, self.coarse_pixels)
        if self._pays(self.n_rows * search.children, self.fine_pixels):
            table = references.all_rows(self.fine_matrices, self.fine_pixels)
            matrices = np.tile(self.fine_matrices, (references.n_class, 1, 1))
            first = np.arange(self.n_rows, dtype=np.int32) * np.int32(search.children)
            self.fine = FineRows(table, first, matrices, search.n_directions)

    def _pays(self, n_rows: int, pixels: Pixels) -> bool:
        """Whether to slice all directions once rather than those that a batch needs."""
        small = 8 * n_rows * pixels.qx.size <= self.table_bytes
        few = n_rows <= TABLE_ROWS_PER_PARTICLE * max(self.n_particles, 64)
        return small and (few or self.search.planar)

    def coarse_rows(self, rows: I32) -> tuple[F32, I32]:
        """A table with the slices of some coarse rows, and where each row is in it."""
        place = np.arange(self.n_rows, dtype=np.int32)
        if self.coarse is not None:
            return self.coarse, place
        used = np.unique(rows)
        place[used] = np.arange(used.size, dtype=np.int32)
        of_class, direction = np.divmod(used, self.search.n_directions)
        matrices = self.search.coarse_matrices[direction]
        return self.references.some_rows(of_class, matrices, self.coarse_pixels), place

    def fine_rows(self, rows: I32) -> FineRows:
        """Slices of the children of some coarse rows."""
        if self.fine is not None:
            return self.fine
        children, n_dir = self.search.children, self.search.n_directions
        used = np.unique(rows)
        first = np.zeros(self.n_rows, np.int32)
        first[used] = np.arange(used.size, dtype=np.int32) * children
        of_class, direction = np.divmod(used, n_dir)
        matrices = self.fine_matrices[self.search.fine_rows_of(direction)]
        table = self.references.some_rows(np.repeat(of_class, children), matrices, self.fine_pixels)
        return FineRows(table, first, matrices, n_dir)
