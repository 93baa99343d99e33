"""Transforms of images and maps: one normalisation, one centring, one layout, kept in one place.

* forward transforms are divided by the number of real-space elements, inverse ones have no factor, so white
  noise of variance v per pixel has E|X(k)|^2 = v / L^2;
* the origin of an image is element L/2, which a factor (-1)^(i+j) moves to the corner (even boxes only);
* half transforms have shape (..., L, L//2 + 1): row i is k_y = i for i <= L/2 and i - L above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of
from mpiapp.model.pixels import pixel_list, shell_sums

FloatArray = NDArray[Any]
ComplexArray = NDArray[Any]


def apply_centring(transforms: ComplexArray, ndim: int) -> ComplexArray:
    """Multiply half transforms in place by (-1)^(sum of indices over the last `ndim` axes).

    Raises
    ------
    ValueError
        For an odd box, where no sign moves the origin to the centre.
    """
    if transforms.shape[-2] % 2:
        raise ValueError(f"boxes must be even, found {transforms.shape[-2]}")
    for axis in range(1, ndim + 1):
        odd: list[Any] = [Ellipsis] + [slice(None)] * ndim
        odd[-axis] = slice(1, None, 2)
        view = transforms[tuple(odd)]
        view *= -1
    return transforms


def _forward(values: FloatArray, ndim: int, centre: bool, workers: int) -> ComplexArray:
    axes = tuple(range(-ndim, 0))
    fft = module_of(values).fft
    transform: ComplexArray = fft.rfftn(values, axes=axes, norm="forward", workers=workers)
    return apply_centring(transform, ndim) if centre else transform


def _inverse(transforms: ComplexArray, ndim: int, centre: bool, workers: int) -> FloatArray:
    box = transforms.shape[-2]
    axes = tuple(range(-ndim, 0))
    source = apply_centring(transforms.copy(), ndim) if centre else transforms
    fft = module_of(source).fft
    values: FloatArray = fft.irfftn(source, s=(box,) * ndim, axes=axes, norm="forward", workers=workers)
    return values


def forward_2d(images: FloatArray, *, centre: bool = True, workers: int = 1) -> ComplexArray:
    """Transform images.

    Parameters
    ----------
    images : (..., y, x) float32 (or float64), square and even
    centre : put the phase origin on element L/2 of each axis
    workers : threads

    Returns
    -------
    (..., y, x//2 + 1) complex64 (complex128 for float64), divided by L^2.
    """
    return _forward(images, 2, centre, workers)


def inverse_2d(transforms: ComplexArray, *, centre: bool = True, workers: int = 1) -> FloatArray:
    """Undo `forward_2d`: (..., L, L//2 + 1) complex to (..., L, L) real, without a factor."""
    return _inverse(transforms, 2, centre, workers)


def forward_3d(volume: FloatArray, *, centre: bool = True, workers: int = 1) -> ComplexArray:
    """Transform a map (z, y, x) of even edge N: (N, N, N//2 + 1) complex64, divided by N^3."""
    return _forward(volume, 3, centre, workers)


def inverse_3d(transform: ComplexArray, *, centre: bool = True, workers: int = 1) -> FloatArray:
    """Undo `forward_3d`: (N, N, N//2 + 1) complex to (N, N, N) real, without a factor."""
    return _inverse(transform, 3, centre, workers)


def axis_frequencies(box: int) -> NDArray[np.int64]:
    """Return the (box,) integer frequencies of the full axes: 0..box/2, then -(box/2 - 1)..-1."""
    index = np.arange(box)
    return np.where(index <= box // 2, index, index - box)


def half_radius(box: int, ndim: int) -> NDArray[np.float32]:
    """Return |k| in Fourier pixels on a half transform: (box,) * (ndim - 1) + (box//2 + 1,) float32."""
    full = axis_frequencies(box).astype(np.float32) ** 2
    r2 = np.arange(box // 2 + 1, dtype=np.float32) ** 2
    for axis in range(ndim - 1):
        r2 = full.reshape((box,) + (1,) * (axis + 1)) + r2
    return np.sqrt(r2)


def resize_half(transforms: ComplexArray, box: int, ndim: int = 2) -> ComplexArray:
    """Crop or zero-pad half transforms by logical frequency; values and centring are kept.

    Parameters
    ----------
    transforms : (..., [L,] L, L//2 + 1) complex
    box : new even box
    ndim : 2 for images, 3 for a map

    Returns
    -------
    (..., [box,] box, box//2 + 1), same dtype. Cropping keeps the whole new square (its Nyquist row is the
    positive one); enlarging drops |k| > L/2, so that no lone corners appear.
    """
    old = transforms.shape[-2]
    if box == old:
        return transforms.copy()
    small = min(box, old)
    xp = module_of(transforms).xp
    out: ComplexArray = xp.zeros(
        (*transforms.shape[:-ndim], *(box,) * (ndim - 1), box // 2 + 1), transforms.dtype
    )
    frequencies = axis_frequencies(small)
    lead = (Ellipsis,)
    source = lead + np.ix_(*[frequencies % old] * (ndim - 1), np.arange(small // 2 + 1))
    target = lead + np.ix_(*[frequencies % box] * (ndim - 1), np.arange(small // 2 + 1))
    values = transforms[source]
    if box > old:
        values *= xp.asarray(half_radius(old, ndim) <= old / 2)
    out[target] = values
    return out


def resize_real(values: FloatArray, box: int, ndim: int) -> FloatArray:
    """Crop or zero-pad in real space about the centre: element L//2 becomes element box//2.

    Parameters
    ----------
    values : array whose last `ndim` axes are cropped or padded
    box : new length of those axes

    Returns
    -------
    New array of the same dtype.
    """
    source: list[Any] = [Ellipsis]
    target: list[Any] = [Ellipsis]
    for length in values.shape[-ndim:]:
        shift = box // 2 - length // 2
        count = min(box - max(shift, 0), length - max(-shift, 0))
        source.append(slice(max(-shift, 0), max(-shift, 0) + count))
        target.append(slice(max(shift, 0), max(shift, 0) + count))
    out = np.zeros((*values.shape[: values.ndim - ndim], *(box,) * ndim), values.dtype)
    out[tuple(target)] = values[tuple(source)]
    return out


# A resampled box is even, so the pixel size comes out rounded. The map is padded first until the rounding
# moves the edge of the box by less than this many pixels.
_EDGE_ERROR_PX = 0.02


def resample_boxes(box: int, pixel_in_A: float, pixel_out_A: float) -> tuple[int, int]:
    """Return the even (padded, resampled) boxes that change the pixel size of a map.

    The first padded box from `box` to twice that whose resampled box rounds to an even number with an error
    below 0.02 pixels at the edge of the map is taken, else the best one.
    """
    padded = np.arange(box + box % 2, 2 * box + 1, 2)
    wanted = padded * (pixel_in_A / pixel_out_A)
    resampled = np.maximum(2 * np.rint(wanted / 2).astype(int), 2)
    error = np.abs(resampled / wanted - 1.0) * box / 2
    good = np.flatnonzero(error <= _EDGE_ERROR_PX)
    best = good[0] if good.size else np.argmin(error)
    return int(padded[best]), int(resampled[best])


def resample_map(
    volume: FloatArray, pixel_in_A: float, pixel_out_A: float, box_out: int, *, workers: int = 1
) -> NDArray[np.float32]:
    """Change pixel size (by cropping or padding the transform) and box of a map; grey values are kept.

    Parameters
    ----------
    volume : (z, y, x) real map, cubic
    pixel_in_A, pixel_out_A : pixel sizes in angstrom
    box_out : even box of the result; the map is cropped or zero-padded about its centre

    Returns
    -------
    (box_out,) * 3 float32
    """
    if abs(pixel_in_A / pixel_out_A - 1.0) > 1e-6:
        padded, resampled = resample_boxes(volume.shape[0], pixel_in_A, pixel_out_A)
        transform = forward_3d(resize_real(volume, padded, 3), workers=workers)
        volume = inverse_3d(resize_half(transform, resampled, 3), workers=workers)
    return resize_real(volume, box_out, 3).astype(np.float32, copy=False)


def power_spectrum(
    transforms: ComplexArray, *, mean: bool = True, duplicates: bool = False
) -> NDArray[np.float64]:
    """Per-shell power |X|^2 of image transforms.

    Parameters
    ----------
    transforms : (..., L, L//2 + 1) complex
    mean : mean over the pixels of a shell instead of their sum
    duplicates : count the second copy of k_x = 0, k_y < 0 as well (the initial noise estimate does)

    Returns
    -------
    (..., L//2 + 1) float64, shells 0..L/2; the corners beyond are left out.
    """
    box = transforms.shape[-2]
    half = box // 2
    pixels = pixel_list(half, whole_shells=True, box=box)
    power = np.square(transforms.real) + np.square(transforms.imag)
    flat = power.reshape(*power.shape[:-2], -1)
    sums = shell_sums(flat.take(pixels.half_index(box), axis=-1).astype(np.float64), pixels)
    counts = np.diff(pixels.shell_start)
    if duplicates:
        sums[..., 1:half] += power[..., :half:-1, 0]
        counts[1:half] += 1
    return np.asarray(sums / counts if mean else sums)


def shift_images(images: FloatArray, shifts: NDArray[Any]) -> FloatArray:
    """Move every image by its own whole number of pixels; what enters is 0 and nothing wraps round.

    Parameters
    ----------
    images : (n, y, x)
    shifts : (n, 2) integers (x, y); content moves by +x columns and +y rows

    Returns
    -------
    (n, y, x) array of the same dtype.
    """
    n, rows, columns = images.shape
    limit = max(rows, columns)
    moves = np.clip(np.asarray(shifts, dtype=np.int64), -limit, limit)
    margin = int(np.abs(moves).max(initial=0))
    if margin == 0:
        return images.copy()
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(1, 2))  # type: ignore[call-overload]
    out: FloatArray = windows[np.arange(n), margin - moves[:, 1], margin - moves[:, 0]]
    return out


def phase_ramp(kx: FloatArray, ky: FloatArray, shifts: FloatArray, box: int) -> NDArray[np.complex64]:
    """Phase factors exp(-2 pi i k.t / L) that move images by t pixels.

    Parameters
    ----------
    kx, ky : (n_pix,) frequencies in Fourier pixels
    shifts : (..., 2) translations (x, y) in pixels
    box : L, the box in which those pixels are counted

    Returns
    -------
    (..., n_pix) complex64
    """
    t = np.asarray(shifts, dtype=np.float64) * (-2.0 * np.pi / box)
    angle = t[..., :1] * kx + t[..., 1:] * ky
    out = np.empty(angle.shape, np.complex64)
    out.real = np.cos(angle)
    out.imag = np.sin(angle)
    return out
