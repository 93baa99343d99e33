"""Soft masks of images and maps, and what fills the solvent outside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.errors import InputError
from mpiapp.model.arrays import module_of
from mpiapp.model.noise import colour_noise, particle_generator

FloatArray = NDArray[Any]


def background_weight(radius: FloatArray, inner: float, edge: float) -> NDArray[np.float32]:
    """Weight of the background at distances `radius` from the centre.

    0 for r < r0, 1 for r > r0 + w, and 0.5 + 0.5 cos(pi (r0 + w - r)/w) between.

    Parameters
    ----------
    radius : distances in pixels, any shape
    inner : r0, where the edge begins
    edge : w, its width; 0 gives a sharp mask with r <= r0 inside

    Returns
    -------
    float32 array of that shape.
    """
    xp = module_of(radius).xp
    r = xp.asarray(radius, dtype=np.float64)
    if edge <= 0:
        sharp: NDArray[np.float32] = (r > inner).astype(np.float32)
        return sharp
    depth = xp.clip((inner + edge - r) / edge, 0.0, 1.0)
    weight: NDArray[np.float32] = (0.5 + 0.5 * xp.cos(np.pi * depth)).astype(np.float32)
    return weight


def radial_map(
    box: int, ndim: int, profile: Callable[[FloatArray], FloatArray], xp: Any = np
) -> NDArray[np.float32]:
    """A function of the distance from the centre, element box//2, over a box: (box,) * ndim float32.

    Parameters
    ----------
    profile : function of distances in pixels, float64; computed in one corner of the box, which the others mirror.
    xp : array module of the distances and of the result
    """
    axis = xp.arange(box // 2 + 1, dtype=np.float64) ** 2
    r2 = axis
    for _ in range(ndim - 1):
        r2 = r2[..., None] + axis
    values: NDArray[np.float32] = profile(xp.sqrt(r2)).astype(np.float32)
    mirror = abs(xp.arange(box) - box // 2)
    for k in range(ndim):
        values = values.take(mirror, axis=k)
    return values


def centre_distance(box: int, ndim: int, xp: Any = np, stride: int = 1) -> NDArray[np.float32]:
    """Distance in pixels of every element of a box from its centre, element box//2: (box,) * ndim float32.

    With a stride, of every few elements along each axis, the centre among them.
    """
    axis = (xp.arange(box // 2 % stride, box, stride, dtype=np.float32) - box // 2) ** 2
    r2 = axis
    for _ in range(ndim - 1):
        r2 = r2[..., None] + axis
    distance: NDArray[np.float32] = xp.sqrt(r2)
    return distance


def soft_circle(box: int, radius: float, edge: float, xp: Any = np) -> NDArray[np.float32]:
    """Mask of a particle image: 1 inside `radius`, a raised cosine over `edge` pixels, 0 beyond.

    Returns
    -------
    (box, box) float32
    """
    return radial_map(box, 2, lambda r: 1 - background_weight(r, radius, edge), xp)


def inscribed_circle(box: int) -> NDArray[np.float32]:
    """Mask that takes the corners of images away, (box, box) float32.

    They hold noise only, which would wrap around into the map (mean FSC of a simulated set without symmetry against the
    truth 0.729 without them, 0.723 with).
    """
    return soft_circle(box, box / 2 - 1, 2)


def soft_sphere(box: int, radius: float, edge: float, xp: Any = np) -> NDArray[np.float32]:
    """Mask of a map: as `soft_circle`, (box, box, box) float32."""
    return radial_map(box, 3, lambda r: 1 - background_weight(r, radius, edge), xp)


def background_mean(values: FloatArray, mask: FloatArray) -> NDArray[np.float64]:
    """Mean of the values outside a mask, weighted by 1 - mask.

    Parameters
    ----------
    values : (..., *mask.shape)
    mask : weights of the inside, 0 to 1

    Returns
    -------
    (...) float64, one mean an image; 0 where the mask leaves nothing outside.
    """
    outside = 1.0 - mask.ravel().astype(np.float64)
    total = outside.sum()
    flat = values.reshape(*values.shape[: values.ndim - mask.ndim], -1)
    xp = module_of(flat).xp
    return xp.asarray(flat @ outside / total if total > 0 else xp.zeros(flat.shape[:-1]))


def apply_soft_mask(values: FloatArray, mask: FloatArray, fill: FloatArray | None = None) -> FloatArray:
    """Blend the outside of a mask into a background: mask * values + (1 - mask) * fill.

    Parameters
    ----------
    values : (n, y, x) images, or one map; the trailing axes are those of the mask
    mask : (y, x) or (z, y, x), 0 to 1
    fill : background of the shape of `values`, such as noise; default: each image's mean outside the mask
        (that is what --zero_mask means: the mean of the solvent around, not the number 0)

    Returns
    -------
    New array in the dtype of `values`.
    """
    if fill is None:
        mean = background_mean(values, mask).astype(values.dtype)
        fill = mean.reshape(mean.shape + (1,) * mask.ndim)
    out: FloatArray = (values - fill) * mask
    out += fill
    return out.astype(values.dtype, copy=False)


def mask_noise(
    run_seed: int, particle_ids: Sequence[int] | NDArray[Any], sigma2: FloatArray, box: int
) -> NDArray[np.float32]:
    """Coloured noise for the surroundings of particles, the same for a particle on every rank and visit.

    Parameters
    ----------
    run_seed : seed of the run
    particle_ids : (n,) numbers that identify the particles
    sigma2 : (n_shells,) noise variance per component on the shells of the image (`noise.spectrum_to_group`)
    box : image box

    Returns
    -------
    (n, box, box) float32
    """
    white = np.empty((len(particle_ids), box, box), np.float32)
    # one generator a particle is what makes the noise independent of batches and ranks
    for image, particle in zip(white, particle_ids, strict=True):
        particle_generator(run_seed, "mask noise", int(particle)).standard_normal(out=image, dtype=np.float32)
    return colour_noise(white, sigma2)


def check_mask(mask: FloatArray, shape: tuple[int, ...], name: str = "the mask") -> None:
    """Refuse a solvent mask of the wrong shape or with values outside 0..1 (tolerance 1e-6).

    Raises
    ------
    InputError
    """
    if mask.shape != shape:
        raise InputError(f"{name} has shape {mask.shape}, expected {shape}; resample it to the map")
    low, high = float(mask.min()), float(mask.max())
    if not (low >= -1e-6 and high <= 1.0 + 1e-6):
        raise InputError(f"{name} has values from {low:g} to {high:g}, expected 0 to 1; rescale it")
