"""What the science needs to know of each particle and each optics group: plain arrays, no files."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class OpticsModel:
    """Geometry of one optics group relative to the model (refinement.md 1.7, 3.5)."""

    box: int
    pixel_size_A: float
    ratio: float  # m_o: image frequency pixels in one of the model
    magnification: tuple[float, float, float, float]
    even_zernike: tuple[float, ...]
    odd_zernike: tuple[float, ...]  # beam tilt folded in
    premultiplied: bool

    @property
    def turn(self) -> NDArray[np.float64]:
        """m_o M^-1 (2, 2): image frequency of a model frequency at psi = 0."""
        return self.ratio * np.linalg.inv(np.asarray(self.magnification, float).reshape(2, 2))

    @property
    def density(self) -> float:
        """Image pixels in one pixel of the model plane."""
        return float(abs(np.linalg.det(self.turn)))


@dataclass
class Poses:
    """Hidden variables and per-particle results; every array has one entry a particle."""

    rot_deg: F64
    tilt_deg: F64
    psi_deg: F64
    origin_A: F64  # (n, 2)
    norm: F64
    log_likelihood: F64
    p_max: F64
    n_significant: F64
    class_number: F64  # counted from 1

    @classmethod
    def zeros(cls, n: int) -> Poses:
        """Poses at the origin with norm correction 1, in class 1."""
        z = np.zeros
        return cls(z(n), z(n), z(n), z((n, 2)), np.ones(n), z(n), z(n), z(n), np.ones(n))

    def take(self, index: NDArray[np.integer]) -> Poses:
        """Rows of some particles."""
        return Poses(*(getattr(self, f.name)[index] for f in fields(self)))

    def put(self, index: NDArray[np.integer], other: Poses) -> None:
        """Write the rows of some particles."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(other, f.name)

    def pack(self) -> F64:
        """(n, 10) array of all columns, for messages."""
        return np.column_stack([getattr(self, f.name) for f in fields(self)])

    @classmethod
    def unpack(cls, rows: F64) -> Poses:
        """Inverse of :meth:`pack`."""
        c = np.ascontiguousarray(rows.T)
        return cls(c[0], c[1], c[2], np.ascontiguousarray(rows[:, 3:5]), *c[5:])


@dataclass(frozen=True)
class ParticleData:
    """Fixed facts of particles, one row each."""

    particle_id: NDArray[np.int64]  # seeds random numbers
    optics: NDArray[np.int32]
    group: NDArray[np.int32]
    ctf: F64  # (n, 8) coefficients; scale 0 where no CTF is applied
    stack_index: NDArray[np.int32]
    image_index: NDArray[np.int64]

    def take(self, index: NDArray[np.integer]) -> ParticleData:
        """Rows of some particles."""
        return ParticleData(*(getattr(self, f.name)[index] for f in fields(self)))

    def __len__(self) -> int:
        return int(self.optics.size)
