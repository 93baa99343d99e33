"""The references of all classes on the device: their slices as tables, or those that a batch needs (engine.md 4).

Row r of a table of all directions is direction r % n_dir of class r // n_dir, as on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import HalfModel, ImagingSetup
from mpiapp.backend.gpu_kernels import Kernels
from mpiapp.backend.gpu_pass import Pass
from mpiapp.backend.memory import Tables
from mpiapp.model.arrays import to_host
from mpiapp.model.averages import average_spectrum
from mpiapp.model.projection import reference_spectrum
from mpiapp.model.search import Search

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class References:
    """Padded transforms of the maps of all classes, or transforms of class averages, one after the other.

    Attributes
    ----------
    stack : (n_class, 2 R + 1, 2 R + 1, R + 1) complex64, without the first axis of space for averages.
    planar : whether they are averages.
    """

    def __init__(self, kernels: Kernels, setup: ImagingSetup, model: HalfModel) -> None:
        cupy = kernels.cupy
        self.kernels, self.padding, self.model = kernels, float(setup.padding), model
        self.stack = cupy.asarray(model.transforms)
        self.planar = self.stack.ndim == 3

    @property
    def n_class(self) -> int:
        """Number of classes."""
        return int(self.stack.shape[0])

    @property
    def radius(self) -> int:
        """R of the transforms."""
        return int(self.stack.shape[-1]) - 1

    def spectrum(self, n_shells: int) -> F64:
        """Signal power per component and shell, mean of the classes."""
        cupy = self.kernels.cupy
        size = cupy.abs(self.stack[0])
        if self.n_class > 1:
            power = size**2
            for k in range(1, self.n_class):
                power += cupy.abs(self.stack[k]) ** 2
            size = cupy.sqrt(power / np.float32(self.n_class))
        if self.planar:
            return average_spectrum(to_host(size), n_shells)
        return reference_spectrum(size, self.padding, n_shells)

    def rows(self, p: Pass, of_class: I64, matrices: F64) -> Rows:
        """Slices of given classes (n,) at given directions (n, 3, 3)."""
        cupy = self.kernels.cupy
        classes = cupy.asarray(of_class.astype(np.int32))
        flat = cupy.asarray(np.ascontiguousarray(matrices, np.float32).reshape(-1, 9))
        if self.planar:
            return Rows(p.averages(self.stack, classes), flat, classes)
        framed = np.ascontiguousarray(matrices @ self.model.frame, np.float32).reshape(-1, 9)
        return Rows(p.slices(self.stack, classes, self.padding, cupy.asarray(framed)), flat, classes)

    def all_rows(self, p: Pass, matrices: F64) -> Rows:
        """Slices of every class at the same directions."""
        of_class = np.repeat(np.arange(self.n_class), len(matrices))
        return self.rows(p, of_class, np.tile(matrices, (self.n_class, 1, 1)))


@dataclass
class Rows:
    """A table of slices, the matrices of its rows in coordinates of the map that is made, and their classes."""

    table: Any  # (2, n, pitch)
    matrices: Any  # (n, 9) float32, object to image coordinates
    of_class: Any  # (n,) int32


@dataclass
class Slices:
    """Fine slices: a table, and the row of each coarse row's first child."""

    rows: Rows
    row_of: Any  # (n_rows,) int32


class SliceTables:
    """Tables of coarse and fine slices, or the slices of a batch where there is no table."""

    def __init__(
        self, references: References, search: Search, passes: tuple[Pass, Pass], kept: Tables
    ) -> None:
        self.references, self.search = references, search
        self.coarse_pass, self.fine_pass = passes
        self.n_rows = references.n_class * search.n_directions
        self.coarse: Rows | None = None
        self.fine: Rows | None = None
        if kept.coarse:
            self.coarse = references.all_rows(self.coarse_pass, search.coarse_matrices)
        if kept.fine:
            self.fine = references.all_rows(self.fine_pass, search.fine_matrices)
        self.every_row = references.kernels.cupy.arange(self.n_rows, dtype=np.int32)

    def coarse_slices(self, rows: Any) -> Slices:
        """Slices of some coarse rows."""
        if self.coarse is not None:
            return Slices(self.coarse, self.every_row)
        used, row_of = self._numbered(rows, 1)
        of_class, direction = np.divmod(used, self.search.n_directions)
        matrices = self.search.coarse_matrices_of(direction)
        return Slices(self.references.rows(self.coarse_pass, of_class, matrices), row_of)

    def fine_slices(self, rows: Any) -> Slices:
        """Slices of the children of some coarse rows."""
        children = self.search.children
        if self.fine is not None:
            return Slices(self.fine, self.every_row * np.int32(children))
        used, row_of = self._numbered(rows, children)
        of_class, direction = np.divmod(used, self.search.n_directions)
        matrices = self.search.fine_matrices_of(self.search.fine_rows_of(direction))
        return Slices(self.references.rows(self.fine_pass, np.repeat(of_class, children), matrices), row_of)

    def _numbered(self, rows: Any, step: int) -> tuple[I64, Any]:
        """The distinct rows of a batch (host memory), and the place of each in a table with `step` slices for each."""
        cupy = self.references.kernels.cupy
        used = cupy.unique(rows)
        row_of = cupy.zeros(self.n_rows, np.int32)
        row_of[used] = cupy.arange(used.size, dtype=np.int32) * np.int32(step)
        return to_host(used).astype(np.int64), row_of
