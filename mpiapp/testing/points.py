"""Densities of point atoms: a list of positions with weights, and the map they make."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mpiapp.testing.maps import cosine_edge, radial_frequency

_PADDING = 2
_WIDTH = 6


@dataclass(frozen=True)
class FormFactor:
    """Scattering of one kind of atom: ``sum_i a_i exp(-b_i s^2 / 4)`` with s in 1/A (b = 0: a point)."""

    a: tuple[float, ...] = (1.0,)
    b_A2: tuple[float, ...] = (0.0,)

    def at(self, s: NDArray) -> NDArray[np.float64]:
        """Value at spatial frequencies ``s`` (1/A), same shape."""
        total = np.zeros(np.shape(s))
        for a, b in zip(self.a, self.b_A2, strict=True):
            total += a * np.exp(-0.25 * b * np.square(s))
        return total


@dataclass(frozen=True)
class PointModel:
    """Atoms of a model, relative to the box centre.

    Attributes
    ----------
    positions_A : (n, 3) float64, x, y, z
    weights : (n,) float64, occupancies, or any other factor
    kinds : (n,) int, index into ``form_factors``
    form_factors : scattering of each kind
    """

    positions_A: NDArray[np.float64]
    weights: NDArray[np.float64]
    kinds: NDArray[np.int64]
    form_factors: tuple[FormFactor, ...] = field(default=(FormFactor(),))

    @property
    def radius_A(self) -> float:
        """Distance of the outermost atom from the box centre."""
        return float(np.sqrt((self.positions_A**2).sum(axis=1).max()))

    def replicated(self, operators: NDArray[np.float64]) -> PointModel:
        """The model and its copies under rotations (g, 3, 3) about the box centre, the identity included."""
        copies = np.einsum("gij,nj->gni", operators, self.positions_A).reshape(-1, 3)
        g = len(operators)
        return PointModel(copies, np.tile(self.weights, g), np.tile(self.kinds, g), self.form_factors)

    def centred(self) -> PointModel:
        """The model with its centre of mass in the box centre."""
        centre = np.average(self.positions_A, axis=0, weights=self.weights)
        return PointModel(self.positions_A - centre, self.weights, self.kinds, self.form_factors)


def density(
    model: PointModel, box: int, pixel_size_A: float, bfactor_A2: float = 0.0, edge: float = 0.1
) -> NDArray[np.float32]:
    """Density map of a point model, band-limited to the Nyquist sphere.

    The transform of the points is computed as a non-uniform Fourier transform (spread on a grid twice as
    fine, divided by the transform of the window), so atoms need not lie on voxels and nothing is aliased.

    Parameters
    ----------
    model : atoms relative to the box centre, voxel ``box // 2``
    box : even number of voxels
    pixel_size_A : voxel size
    bfactor_A2 : damping exp(-B s^2 / 4) on top of the form factors
    edge : fraction of Nyquist over which the last frequencies fade out, to keep ringing low

    Returns
    -------
    (box, box, box) float32, [z, y, x], density per cubic angstrom (form-factor units)
    """
    shells = radial_frequency(box)
    s = shells / (box * pixel_size_A)
    transform = np.zeros(shells.shape, np.complex128)
    for kind, factor in enumerate(model.form_factors):
        chosen = model.kinds == kind
        if chosen.any():
            points = _point_transform(model.positions_A[chosen] / pixel_size_A, model.weights[chosen], box)
            transform += points * factor.at(s)
    fade = cosine_edge(shells, (1.0 - edge) * box / 2, edge * box / 2 - 1.0) * (shells < box / 2)
    transform *= np.exp(-0.25 * bfactor_A2 * s**2) * fade
    volume = scipy.fft.irfftn(transform, s=(box,) * 3) / pixel_size_A**3
    return np.fft.fftshift(volume).astype(np.float32)


def _point_transform(
    positions_px: NDArray[np.float64], weights: NDArray[np.float64], box: int
) -> NDArray[np.complex128]:
    """Half transform (box, box, box//2 + 1) of weighted points, positions in voxels from the origin."""
    from mpiapp.testing.window import scatter, window_shape, window_transform

    fine = _PADDING * box
    beta = window_shape(_WIDTH, _PADDING)
    grid = np.zeros((fine,) * 3, np.float32)
    scatter(np.ascontiguousarray(positions_px * _PADDING), weights.astype(np.float64), _WIDTH, beta, grid)
    rows = np.r_[0 : box // 2, fine - box // 2 : fine]
    transform = np.asarray(scipy.fft.rfftn(grid, overwrite_x=True))[rows][:, rows][:, :, : box // 2 + 1]
    full = 1.0 / window_transform(np.fft.fftfreq(box) / _PADDING, _WIDTH, beta)
    half = 1.0 / window_transform(np.arange(box // 2 + 1) / fine, _WIDTH, beta)
    return np.asarray(transform * (full[:, None, None] * full[None, :, None] * half[None, None, :]))
