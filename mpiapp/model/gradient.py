"""Gradient steps of references from mini-batches of particles: the VDAM algorithm (refinement.md 7.4).

A mini-batch is accumulated in two pseudo-halves, whose difference tells signal from noise. Arrays are half transforms,
(2 R + 1, 2 R + 1, R + 1) of maps or (2 R + 1, R + 1) of class averages, x >= 0 and the origin at (R[, R], 0). The
transform of a reference is the one that its sums converge to: of the reference times the damping of the interpolation,
so that neither the gradient nor the update has to be corrected for it.

Source: D. Kimanius et al., Biochem. J. 478 (2021) 4169 (variable-metric gradient descent with adaptive moments).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.averages import average_of_transform, damped_average, squared_radius_planes
from mpiapp.model.filters import gridding_correction
from mpiapp.model.projection import centred, padded_box, shell_index, squared_radius, transform_reference
from mpiapp.model.reconstruct import real_space_map

C64 = NDArray[np.complex64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DECAY_1, DECAY_2 = 0.9, 0.999
TINY = 1e-12
# A class that takes the place of an idle one starts with this part of the momentum
DAMPING = 0.9


@dataclass
class Moments:
    """Running moments of the gradient of one reference.

    Attributes
    ----------
    first : (2, grid) complex64, mean gradient of each pseudo-half
    second : (grid) float32, mean disagreement of the pseudo-halves relative to what they agree on
    reach : padded frequencies |u| < reach have been seen
    """

    first: C64
    second: F32
    reach: int = 0

    @classmethod
    def none(cls, ndim: int) -> Moments:
        """Before the first gradient, of a map (3) or an average (2)."""
        shape = (1,) * ndim
        return cls(np.zeros((2, *shape), np.complex64), np.ones(shape, np.float32))

    @property
    def radius(self) -> int:
        """R of the arrays."""
        return int(self.second.shape[-1] - 1)

    def widened(self, radius: int) -> Moments:
        """The moments in arrays of at least this radius; what is new there counts as not seen."""
        if radius <= self.radius:
            return self
        xp, ndim = module_of(self.second).xp, self.second.ndim
        shape = (2 * radius + 1,) * (ndim - 1) + (radius + 1,)
        first, second = xp.zeros((2, *shape), np.complex64), xp.ones(shape, np.float32)
        first[(slice(None), *_window(radius, self.radius, ndim))] = self.first
        second[_window(radius, self.radius, ndim)] = self.second
        return Moments(first, second, self.reach)

    def damped(self) -> Moments:
        """A copy for a class that continues another one (refinement.md 7.4 step 7)."""
        return Moments(self.first * np.float32(DAMPING), self.second.copy(), self.reach)

    def moved(self, shift_px: F64, padded_box: int) -> Moments:
        """The moments of the reference moved by a shift (x first) in pixels."""
        xp, ndim = module_of(self.second).xp, self.second.ndim
        first = self.first
        for axis, s in enumerate(np.asarray(shift_px, float)[::-1]):
            k = np.arange(self.radius + 1) if axis == ndim - 1 else centred(self.radius)
            turn = np.exp(-2j * np.pi * k * s / padded_box).astype(np.complex64)
            first = first * xp.asarray(turn.reshape([-1 if a == axis else 1 for a in range(ndim)]))
        return Moments(first, self.second, self.reach)


@dataclass(frozen=True)
class Descent:
    """Direction of a gradient step and how far it can be trusted."""

    direction: C64  # G, zero outside the sphere of the sums
    noise: F64  # (n_shells,) mean |m_1 - m_2|

    @property
    def strength(self) -> float:
        """Mean |G|^2."""
        return float((abs(self.direction) ** 2).mean())


def transform_of(
    reference: NDArray[np.floating[Any]], r_max: int, padding: float, *, workers: int = 1
) -> C64:
    """F of a map or an average up to frequency r_max: what the sums of its noiseless images come to, D / W."""
    if reference.ndim == 2:
        return damped_average(reference, r_max, padding)
    box = reference.shape[0]
    damping = gridding_correction(box, padded_box(box, padding), xp=module_of(reference).xp)
    return transform_reference(reference * damping, r_max, padding, correct_gridding=False, workers=workers)


def reference_of(transform: C64, box: int, padding: float, *, workers: int = 1) -> F32:
    """The map or average of a transform: inverse of :func:`transform_of` inside the inscribed sphere or circle."""
    if transform.ndim == 2:
        return average_of_transform(transform, box, padding)
    return real_space_map(transform, box, padding, workers=workers)


def gradient(sums: F64, transform: C64) -> C64:
    """Gradient of one pseudo-half, (D - W F) / max(1, W), complex64: D of images less the reference (step 1).

    The reference is taken off the sums rather than off each image, so that the expectation step is that of
    expectation-maximization. W F is the insertion of slices of F up to the interpolation, so that the gradient vanishes
    where D / W is the transform of the reference, as expectation-maximization without a prior would have it.

    Parameters
    ----------
    sums : (grid, 3), Hermitian;  transform : (grid), F of the reference that entered the mini-batch
    """
    xp = module_of(sums).xp
    weight = sums[..., 2]
    data = sums[..., 0] + 1j * sums[..., 1] - weight * transform
    out: C64 = (data / xp.maximum(weight, 1.0)).astype(np.complex64)
    return out


def descend(
    moments: Moments, gradients: tuple[C64, C64], padding: float, n_shells: int
) -> tuple[Moments, Descent]:
    """Moments with the gradients of a mini-batch added, and the direction to go (steps 2 to 4).

    Parameters
    ----------
    moments : replaced; arrays may be widened, and are updated in place
    gradients : of both pseudo-halves
    """
    arrays = module_of(gradients[0])
    xp, ndim = arrays.xp, gradients[0].ndim
    radius = gradients[0].shape[-1] - 1
    # moments begin, and come back from a checkpoint, in host memory
    here = Moments(xp.asarray(moments.first), xp.asarray(moments.second), moments.reach)
    moments = here.widened(radius)
    window = _window(moments.radius, radius, ndim)
    first, second = moments.first[(slice(None), *window)], moments.second[window]
    r2 = _squared_radii(radius, ndim, xp)
    inside = r2 < (radius - 1) ** 2
    fresh = r2 >= moments.reach**2
    for h in (0, 1):
        mean = np.float32(DECAY_1) * first[h] + np.float32(1 - DECAY_1) * gradients[h]
        first[h][inside] = xp.where(fresh, gradients[h], mean)[inside]
    difference = abs(gradients[1] - gradients[0]) ** 2
    common = abs((gradients[0] + gradients[1]) / 2) ** 2
    ratio = difference / (common + np.float32(TINY))
    second[inside] = (np.float32(DECAY_2) * second + np.float32(1 - DECAY_2) * ratio)[inside]
    direction = (first[0] + first[1]) / 2 / (xp.sqrt(second) + np.float32(TINY))
    noise = shell_mean(abs(first[0] - first[1]), padding, n_shells)
    moments.reach = max(moments.reach, radius - 1)
    return moments, Descent(xp.where(inside, direction, 0).astype(np.complex64), noise)


def signal_share(transform: C64, noise: F64, tau2_fudge: float, padding: float) -> F64:
    """Share f of each shell that is signal, from the reference and the noise of its gradient (step 5): (n_shells,)."""
    power = shell_mean(abs(transform), padding, noise.size)
    snr = np.where(noise > 0, 2 * tau2_fudge * power / np.where(noise > 0, noise, 1), 0)
    return np.asarray(snr / (1 + snr))


def stepped(transform: C64, direction: C64, share: F64, step_size: float, padding: float) -> C64:
    """F + step (f G - (1 - f) F): the reference after a gradient step (step 5).

    Parameters
    ----------
    share : (n_shells,) f
    """
    xp, radius = module_of(transform).xp, transform.shape[-1] - 1
    shells = _shells(radius, transform.ndim, padding, xp)
    f = xp.asarray(share.astype(np.float32))[xp.minimum(shells, share.size - 1)]
    out: C64 = transform + np.float32(step_size) * (f * direction - (1 - f) * transform)
    return out


def shell_mean(values: Any, padding: float, n_shells: int) -> F64:
    """Mean by shell inside the sphere of a grid, (n_shells,) in host memory; 0 where there is nothing."""
    arrays = module_of(values)
    radius = values.shape[-1] - 1
    inside = _squared_radii(radius, values.ndim, arrays.xp) < (radius - 1) ** 2
    shells = _shells(radius, values.ndim, padding, arrays.xp)[inside]
    total = to_host(arrays.bincount(shells, values[inside].astype(np.float64), n_shells))
    count = to_host(arrays.bincount(shells, None, n_shells))
    return np.asarray(total / np.maximum(count, 1), np.float64)


def _squared_radii(radius: int, ndim: int, xp: Any) -> NDArray[np.integer[Any]]:
    """|u|^2 of every element of a grid of a map (3) or an average (2)."""
    return squared_radius(radius, xp) if ndim == 3 else xp.asarray(squared_radius_planes(radius))


def _shells(radius: int, ndim: int, padding: float, xp: Any) -> NDArray[np.int32]:
    if ndim == 3:
        return shell_index(radius, padding, xp)
    shells: NDArray[np.int32] = (xp.sqrt(_squared_radii(radius, ndim, xp)) / padding + 0.5).astype(np.int32)
    return shells


def _window(radius: int, inner: int, ndim: int) -> tuple[slice, ...]:
    """Where a grid of a smaller radius lies in one of this radius."""
    both = slice(radius - inner, radius + inner + 1)
    return (both,) * (ndim - 1) + (slice(inner + 1),)
