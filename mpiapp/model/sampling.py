"""Grids of orientations and offsets: HEALPix directions, in-plane angles, translations, their oversampling.

Directions are pixel centres of the nested HEALPix scheme, reduced to the asymmetric unit of the point group
in the way RELION does it (refinement.md 4.3, 4.4, 8.2). Grids hold unperturbed angles; the random
perturbation of an iteration enters where matrices are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpiapp.errors import ConfigError
from mpiapp.model.rotations import FloatArray, euler_to_matrix
from mpiapp.model.symmetry import drop_seam_mates, in_asymmetric_unit, point_group

IntArray = NDArray[np.int64]

MAX_ORDER = 10
# Distinguishes the random stream of the perturbation from others of the same seed and iteration.
_PERTURBATION_STREAM = 0x70657274


@dataclass(frozen=True, eq=False)
class DirectionGrid:
    """Directions in the asymmetric unit and in-plane angles of one sampling order.

    Attributes
    ----------
    order
        HEALPix order h.
    group
        Name of the point group.
    pixel
        (n_dir,) int64 nested pixel indices, ascending.
    rot_deg, tilt_deg
        (n_dir,) float64 pixel centres, rot in [-180, 180], tilt in (0, 180).
    step_deg
        Angular step of the directions, 360/(6 * 2^h).
    psi_deg
        (n_psi,) float64: 0, step, 2 step, ...
    psi_step_deg
        Step of the in-plane angle.
    """

    order: int
    group: str
    pixel: IntArray
    rot_deg: FloatArray
    tilt_deg: FloatArray
    step_deg: float
    psi_deg: FloatArray
    psi_step_deg: float

    @property
    def n_directions(self) -> int:
        """Number of directions."""
        return int(self.pixel.size)

    @property
    def n_psi(self) -> int:
        """Number of in-plane angles."""
        return int(self.psi_deg.size)


def angular_step_deg(order: int) -> float:
    """Angular step of a HEALPix order in degrees: 60 / 2^order, so 7.5 at order 3."""
    return 60.0 / 2.0**order


def pixel_radius_deg(order: int) -> float:
    """Largest distance of a point of a HEALPix pixel from its centre, in degrees, at one order.

    It is the distance from the centre of the northernmost pixel next to the equatorial belt to its far
    corner, the ``max_pixrad`` of HEALPix.
    """
    nside = 2**order
    z_centre, phi_centre = 2.0 / 3.0, math.pi / (4 * nside)
    z_corner = 1.0 - (1.0 - 1.0 / nside) ** 2 / 3.0
    s_centre, s_corner = math.sqrt(1.0 - z_centre**2), math.sqrt(1.0 - z_corner**2)
    cosine = z_centre * z_corner + s_centre * s_corner * math.cos(phi_centre)
    return math.degrees(math.acos(min(1.0, cosine)))


def pixel_angles(order: int, pixel: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Angles of the centres of nested HEALPix pixels.

    Parameters
    ----------
    order
        HEALPix order.
    pixel
        (...) nested pixel indices.

    Returns
    -------
    rot_deg, tilt_deg
        (...) float64, rot in [-180, 180], tilt in [0, 180].
    """
    import healpix

    theta, phi = healpix.pix2ang(2**order, np.asarray(pixel, np.int64), nest=True)
    rot = np.rad2deg(np.asarray(phi, np.float64))
    rot = rot - 360.0 * np.round(rot / 360.0)
    return rot, np.rad2deg(np.asarray(theta, np.float64))


def direction_grid(order: int, group: str, psi_step_deg: float | None = None) -> DirectionGrid:
    """The grid of directions and in-plane angles of one order and point group.

    Parameters
    ----------
    order
        HEALPix order, 0 to 10.
    group
        Name of the point group.
    psi_step_deg
        Largest step of the in-plane angle; the step used divides 360. The step of the directions by default.

    Returns
    -------
    DirectionGrid
        Cached: the same object for the same arguments; its arrays are read-only.

    Raises
    ------
    ConfigError
        Unknown group, order or step out of range, or an order so coarse that no direction falls in the
        asymmetric unit.
    """
    if not 0 <= order <= MAX_ORDER:
        raise ConfigError(
            f"HEALPix order {order}: expected 0 to {MAX_ORDER}. Choose --healpix_order in that range."
        )
    step = angular_step_deg(order) if psi_step_deg is None else float(psi_step_deg)
    if not 0.0 < step <= 360.0:
        raise ConfigError(
            f"In-plane step of {step} degrees: expected more than 0 and at most 360. Change --psi_step."
        )
    return _direction_grid(order, point_group(group).name, step)


@lru_cache(maxsize=8)
def _direction_grid(order: int, group_name: str, psi_step_deg: float) -> DirectionGrid:
    group = point_group(group_name)
    pixel = np.arange(12 * 4**order, dtype=np.int64)
    rot, tilt = pixel_angles(order, pixel)
    inside = in_asymmetric_unit(group, rot, tilt)
    pixel, rot, tilt = pixel[inside], rot[inside], tilt[inside]
    stays = drop_seam_mates(group, rot, tilt, 0.5 * pixel_radius_deg(order))
    pixel, rot, tilt = pixel[stays], rot[stays], tilt[stays]
    if pixel.size == 0:
        raise ConfigError(
            f"HEALPix order {order} has no direction in the asymmetric unit of {group_name}. "
            f"Choose --healpix_order {order + 1} or higher."
        )
    n_psi = math.ceil(360.0 / psi_step_deg - 1e-9)
    psi_step = 360.0 / n_psi
    psi = np.arange(n_psi, dtype=np.float64) * psi_step
    for array in (pixel, rot, tilt, psi):
        array.flags.writeable = False
    return DirectionGrid(order, group_name, pixel, rot, tilt, angular_step_deg(order), psi, psi_step)


@lru_cache(maxsize=8)
def plane_grid(psi_step_deg: float) -> DirectionGrid:
    """The grid of class averages: one direction, and an even number of in-plane angles.

    Parameters
    ----------
    psi_step_deg
        Largest step of the in-plane angle; the step used divides 180.
    """
    n_psi = 2 * math.ceil(180.0 / psi_step_deg - 1e-9)
    step = 360.0 / n_psi
    psi = np.arange(n_psi, dtype=np.float64) * step
    zero = np.zeros(1)
    for array in (psi, zero):
        array.flags.writeable = False
    return DirectionGrid(0, "C1", np.zeros(1, np.int64), zero, zero, step, psi, step)


def child_pixels(pixel: ArrayLike, oversampling: int) -> IntArray:
    """Nested pixels of order h + o inside pixels of order h.

    Parameters
    ----------
    pixel
        (n,) nested indices at order h.
    oversampling
        o, 0 or more.

    Returns
    -------
    (n, 4^o) int64
        ``4^o p`` to ``4^o p + 4^o - 1``. For o = 1 this is the order of RELION's loops (y outer, x inner).
    """
    count = 4**oversampling
    children = np.asarray(pixel, np.int64)[..., None] * count + np.arange(count, dtype=np.int64)
    return np.asarray(children, np.int64)


def child_offsets(step: float, oversampling: int) -> FloatArray:
    """Offsets from a coarse sample to its 2^o children on one axis, (2^o,), in the unit of ``step``."""
    count = 2**oversampling
    return np.asarray(-0.5 * step + (np.arange(count) + 0.5) * (step / count), np.float64)


def child_psi(psi_deg: ArrayLike, step: float, oversampling: int) -> FloatArray:
    """Oversampled in-plane angles.

    Parameters
    ----------
    psi_deg
        (n,) coarse angles, degrees.
    step
        Coarse step, degrees.
    oversampling
        o, 0 or more.

    Returns
    -------
    (n, 2^o) float64
        Degrees, ascending in each row, not wrapped.
    """
    return np.asarray(psi_deg, np.float64)[..., None] + child_offsets(step, oversampling)


def direction_matrices(rot_deg: ArrayLike, tilt_deg: ArrayLike, perturbation_deg: float = 0.0) -> FloatArray:
    """Matrices D_d = Ry(tilt) Rz(rot) R(e, e, e) of directions; an orientation is Rz(psi) D_d.

    Parameters
    ----------
    rot_deg, tilt_deg
        (n,) degrees.
    perturbation_deg
        e: the perturbation instance times the coarse angular step.

    Returns
    -------
    (n, 3, 3) float64
        The perturbation multiplies from the right, so it is the same rotation of the object for every sample.
    """
    matrices = euler_to_matrix(rot_deg, tilt_deg, 0.0)
    if perturbation_deg == 0.0:
        return matrices
    return matrices @ euler_to_matrix(perturbation_deg, perturbation_deg, perturbation_deg)


def translation_lattice(range_A: float, step_A: float) -> IntArray:
    """Integer lattice points of the translation grid.

    Parameters
    ----------
    range_A, step_A
        Radius and step in Angstrom.

    Returns
    -------
    (n_trans, 2) int64
        (ix, iy), ix outer and iy inner, with ``(ix step)^2 + (iy step)^2 < range^2 + 0.001``; never empty.

    Raises
    ------
    ConfigError
        Negative range, or a step that is not positive.
    """
    if not (range_A >= 0.0 and step_A > 0.0):
        raise ConfigError(
            f"Offset range {range_A} A with step {step_A} A: expected at least 0 and a step above 0. "
            "Change --offset_range or --offset_step."
        )
    m = math.ceil(range_A / step_A)
    axis = np.arange(-m, m + 1, dtype=np.int64)
    ix, iy = (index.ravel() for index in np.meshgrid(axis, axis, indexing="ij"))
    inside = (ix * step_A) ** 2 + (iy * step_A) ** 2 < range_A**2 + 0.001
    return np.stack([ix[inside], iy[inside]], axis=-1)


def translations(range_A: float, step_A: float) -> FloatArray:
    """Offsets (x, y), (n_trans, 2) float64 Angstrom: the step times :func:`translation_lattice`."""
    return np.asarray(translation_lattice(range_A, step_A) * float(step_A), np.float64)


def child_translations(translation: ArrayLike, step: float, oversampling: int) -> FloatArray:
    """Oversampled translations.

    Parameters
    ----------
    translation
        (n, 2) coarse offsets.
    step
        Coarse step, same unit.
    oversampling
        o, 0 or more.

    Returns
    -------
    (n, 4^o, 2) float64
        x outer, y inner.
    """
    offsets = child_offsets(step, oversampling)
    x, y = np.meshgrid(offsets, offsets, indexing="ij")
    return np.asarray(translation, np.float64)[..., None, :] + np.stack([x.ravel(), y.ravel()], axis=-1)


def next_perturbation(u: float, seed: int, iteration: int, factor: float = 0.5) -> float:
    """The perturbation instance of the next iteration (refinement.md 4.3).

    ``u + uniform(f/2, f)``, wrapped into [-f, f]. Every rank that calls it with the same arguments gets the
    same number.

    Parameters
    ----------
    u
        Instance of the previous iteration, 0 at the start.
    seed, iteration
        Seed of the run and number of the iteration; they fix the draw.
    factor
        f, from 0 (no perturbation) to 1.

    Returns
    -------
    float
        Multiply by the coarse angular step for the angle e, by the coarse offset step for the shift.
    """
    if factor == 0.0:
        return 0.0
    rng = np.random.default_rng([abs(int(seed)), _PERTURBATION_STREAM, int(iteration)])
    moved = u + rng.uniform(0.5 * factor, factor)
    return float((moved + factor) % (2.0 * factor) - factor)
