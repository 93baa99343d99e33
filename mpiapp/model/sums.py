"""The weighted sums of an expectation step as an additive value: what ranks and threads reduce (engine.md 5)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass
class WeightedSums:
    """Sums over particles; ``a + b`` is the sum over both sets. All float64.

    Attributes
    ----------
    grid : (n_class, 2 R + 1, 2 R + 1, R + 1, 3) D (real, imaginary) and W; without the first axis of the grid for
        class averages.
    noise : (n_optics, n_shell) sum of |Ref - X|^2;  noise_pixels : (n_optics, n_shell) number of pixels summed.
    signal_product, signal_power : (n_group,) XA and AA of the intensity scales.
    direction_weight : (n_class, n_dir) posterior weight by coarse direction.
    class_shift : (n_class, 2) sum of weights times the total offset, A.
    totals : (6,) posterior weight, squared offset distance in A^2, norm corrections, log-likelihood, Pmax, particles.
    """

    grid: F64
    noise: F64
    noise_pixels: F64
    signal_product: F64
    signal_power: F64
    direction_weight: F64
    class_shift: F64
    totals: F64

    @classmethod
    def zeros(
        cls, grid: tuple[int, ...], n_optics: int, n_shell: int, n_group: int, n_class: int, n_dir: int
    ) -> WeightedSums:
        """Empty sums for a grid of the given shape, (n_class, ..., 3)."""
        return cls(
            np.zeros(grid),
            np.zeros((n_optics, n_shell)),
            np.zeros((n_optics, n_shell)),
            np.zeros(n_group),
            np.zeros(n_group),
            np.zeros((n_class, n_dir)),
            np.zeros((n_class, 2)),
            np.zeros(6),
        )

    def arrays(self) -> list[F64]:
        """The arrays, in a fixed order, for a reduction over ranks."""
        return [getattr(self, f.name) for f in fields(self)]

    @classmethod
    def from_arrays(cls, arrays: list[F64]) -> WeightedSums:
        """Inverse of :meth:`arrays`."""
        return cls(*arrays)

    def __iadd__(self, other: WeightedSums) -> WeightedSums:
        for mine, theirs in zip(self.arrays(), other.arrays(), strict=True):
            mine += theirs
        return self

    def __add__(self, other: WeightedSums) -> WeightedSums:
        return WeightedSums(*(a + b for a, b in zip(self.arrays(), other.arrays(), strict=True)))

    @property
    def weight(self) -> float:
        """Sum of all posterior weights."""
        return float(self.totals[0])

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return int(self.totals[5])


N_SUMS = len(fields(WeightedSums))
