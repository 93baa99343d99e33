"""The half plane of an image transform as a flat list of pixels sorted by radius.

A transform of a real image is stored for k_x >= 0, and there the column k_x = 0 holds every value twice.
Sums over the half plane use each pixel once, so the list drops k_x = 0, k_y < 0. Sorting by radius makes
every smaller image size a prefix of the same arrays and every shell a contiguous segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]


def round_half_away(values: Any) -> NDArray[np.int64]:
    """Round to the nearest integer, halves away from zero (NumPy's own rounding takes halves to even).

    Parameters
    ----------
    values : array_like of float

    Returns
    -------
    int64 array of the same shape.
    """
    array = np.asarray(values, dtype=np.float64)
    return np.trunc(array + np.copysign(0.5, array)).astype(np.int64)


@dataclass(frozen=True)
class PixelList:
    """Half-plane pixels sorted by (k^2, k_x, k_y); element 0 is the origin.

    Attributes
    ----------
    radius : largest |k| held, in Fourier pixels (largest shell with `whole_shells`)
    kx, ky : (n,) int32, k_x >= 0 and k_y of either sign (k_y >= 0 where k_x = 0)
    r2 : (n,) int32, k_x^2 + k_y^2, ascending
    shell : (n,) int32, round(|k|), ascending
    shell_start : (n_shells + 1,) int64; shell s is the slice shell_start[s]:shell_start[s + 1]
    """

    radius: int
    kx: IntArray = field(repr=False)
    ky: IntArray = field(repr=False)
    r2: IntArray = field(repr=False)
    shell: IntArray = field(repr=False)
    shell_start: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return int(self.kx.size)

    @property
    def n_shells(self) -> int:
        """Number of shells, 0 to the radius."""
        return int(self.shell_start.size - 1)

    def prefix(self, radius: float) -> int:
        """Return the number of leading pixels with |k| <= radius."""
        return int(np.searchsorted(self.r2, radius * radius, side="right"))

    def half_index(self, box: int) -> NDArray[np.int64]:
        """Return the (n,) flat index of each pixel in a half transform of shape (box, box//2 + 1).

        Raises
        ------
        ValueError
            When the box is too small to hold the list.
        """
        if 2 * self.radius > box:
            raise ValueError(f"pixels up to radius {self.radius} do not fit a transform of box {box}")
        return (self.ky.astype(np.int64) % box) * (box // 2 + 1) + self.kx


@lru_cache(maxsize=64)
def pixel_list(radius: int, whole_shells: bool = False, box: int = 0) -> PixelList:
    """Return the sorted half-plane pixels with |k| <= radius (cached, arrays read-only).

    Parameters
    ----------
    radius : largest |k| in Fourier pixels, >= 0
    whole_shells : take round(|k|) <= radius instead, for sums that are divided by the size of a shell
    box : box of the transforms that will be read. It matters with `whole_shells` and radius = box/2 only:
        the row k_y = -box/2 does not exist there (it is the row k_y = +box/2), so it is left out.

    Returns
    -------
    PixelList
    """
    if radius < 0:
        raise ValueError(f"a pixel list needs a radius >= 0, found {radius}")
    ky, kx = np.mgrid[-radius : radius + 1, 0 : radius + 1].reshape(2, -1)
    r2 = kx * kx + ky * ky
    # round(|k|) <= r is |k| < r + 1/2, and k^2 is an integer
    keep = r2 <= (radius * radius + radius if whole_shells else radius * radius)
    keep &= (kx > 0) | (ky >= 0)
    if whole_shells and box == 2 * radius:
        keep &= ky > -radius
    kx, ky, r2 = kx[keep], ky[keep], r2[keep]
    order = np.lexsort((ky, kx, r2))
    kx, ky, r2 = (a[order].astype(np.int32) for a in (kx, ky, r2))
    shell = round_half_away(np.sqrt(r2)).astype(np.int32)
    start = np.searchsorted(shell, np.arange(radius + 2)).astype(np.int64)
    for array in (kx, ky, r2, shell, start):
        array.flags.writeable = False
    return PixelList(radius, kx, ky, r2, shell, start)


def shell_pixels(box: int) -> NDArray[np.int64]:
    """Count the half-plane pixels of each shell of a full-size transform (Npix of the noise estimate).

    Parameters
    ----------
    box : image box in pixels, even

    Returns
    -------
    (box//2 + 1,) int64, for shells 0..box/2; pixels in the corners are not counted.
    """
    return np.diff(pixel_list(box // 2, whole_shells=True, box=box).shell_start)


def shell_sums(values: NDArray[Any], pixels: PixelList, n: int | None = None) -> NDArray[Any]:
    """Sum values over the shells of a pixel list.

    Parameters
    ----------
    values : (..., n) array, the last axis runs over the first `n` pixels of the list
    pixels : the list
    n : length of the prefix held in `values`; default: the length of its last axis

    Returns
    -------
    (..., n_shells) array in the dtype of `values`; shells beyond the prefix are 0.
    """
    n = values.shape[-1] if n is None else n
    if n == 0:
        return np.zeros((*values.shape[:-1], pixels.n_shells), values.dtype)
    # every shell s holds (s, 0), so no segment is empty, which reduceat needs
    starts = pixels.shell_start[:-1]
    starts = starts[starts < n]
    sums = np.zeros((*values.shape[:-1], pixels.n_shells), values.dtype)
    np.add.reduceat(values[..., :n], starts, axis=-1, out=sums[..., : starts.size])
    return sums


def take_pixels(transforms: NDArray[np.complex64], pixels: PixelList) -> NDArray[np.complex64]:
    """Gather the pixels of a list from half transforms.

    Parameters
    ----------
    transforms : (n, box, box//2 + 1) complex
    pixels : list with radius <= box/2

    Returns
    -------
    (n, n_pix) array of the same dtype.
    """
    box = transforms.shape[-2]
    flat = transforms.reshape(*transforms.shape[:-2], box * (box // 2 + 1))
    return flat.take(pixels.half_index(box), axis=-1)


def put_pixels(values: NDArray[np.complex64], pixels: PixelList, box: int) -> NDArray[np.complex64]:
    """Scatter pixel values back into half transforms, with the second copy of the column k_x = 0.

    Parameters
    ----------
    values : (n, n_pix) complex, a prefix of the list
    pixels : list with radius <= box/2
    box : box of the transforms

    Returns
    -------
    (n, box, box//2 + 1) array of the same dtype; pixels that are not in the list are 0.
    """
    n = values.shape[-1]
    out = np.zeros((*values.shape[:-1], box * (box // 2 + 1)), values.dtype)
    out[..., pixels.half_index(box)[:n]] = values
    twin = np.flatnonzero((pixels.kx[:n] == 0) & (pixels.ky[:n] > 0) & (2 * pixels.ky[:n] < box))
    out[..., (box - pixels.ky[twin].astype(np.int64)) * (box // 2 + 1)] = values[..., twin].conj()
    return out.reshape(*values.shape[:-1], box, box // 2 + 1)
