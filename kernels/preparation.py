"""Preparing particle images: moving by whole pixels, masking, and reading transforms (refinement.md 4.2).

Twins: ``mpiapp.model.fourier.shift_images``, ``mpiapp.model.masks.apply_soft_mask``, ``mpiapp.model.images.shell_power``.
One pass over an image while it is in the nearest cache: the same by arrays of a batch took four times as long.
"""

from __future__ import annotations

import numba
import numpy as np
from mpiapp.kernels.elementary import JIT

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@numba.njit(**JIT)
def move_images(images, shifts, gain, out):  # type: ignore[no-untyped-def]
    """Images moved by whole pixels and multiplied; what enters is 0.

    Parameters
    ----------
    images, out : (n, y, x) float32;  shifts : (n, 2) int64, x first;  gain : (n,) float32.
    """
    rows, columns = images.shape[1], images.shape[2]
    for i in range(images.shape[0]):
        dx, dy = shifts[i, 0], shifts[i, 1]
        left, right = min(max(dx, 0), columns), max(min(columns + dx, columns), 0)
        for y in range(rows):
            target = out[i, y]
            if y - dy < 0 or y - dy >= rows:
                target[:] = _ZERO
                continue
            target[:left] = _ZERO
            target[max(right, left) :] = _ZERO
            if right > left:
                source = images[i, y - dy, left - dx : right - dx]
                inside = target[left:right]
                for x in range(right - left):
                    inside[x] = source[x] * gain[i]


@numba.njit(**JIT)
def mask_images(images, mask, out):  # type: ignore[no-untyped-def]
    """Images inside a soft mask; outside is each image's own mean there, 0 where the mask leaves nothing outside.

    Parameters
    ----------
    images, out : (n, y, x) float32;  mask : (y, x) float32, 0 to 1.
    """
    size = mask.size
    inside = mask.reshape(size)
    total = 0.0
    for p in range(size):
        total += np.float64(_ONE - inside[p])
    for i in range(images.shape[0]):
        image = images[i].reshape(size)
        target = out[i].reshape(size)
        outside = 0.0
        for p in range(size):
            outside += np.float64(image[p]) * np.float64(_ONE - inside[p])
        mean = np.float32(outside / total) if total > 0.0 else _ZERO
        for p in range(size):
            target[p] = (image[p] - mean) * inside[p] + mean


@numba.njit(**JIT)
def read_pixels(transforms, index, factor, out):  # type: ignore[no-untyped-def]
    """Some elements of transforms times a factor: real parts, then imaginary parts.

    Parameters
    ----------
    transforms : (n, size) complex64;  index : (n_pix,) int64;  factor : (n_pix,) float32;  out : (n, 2, n_pix) float32.
    """
    for i in range(transforms.shape[0]):
        for p in range(index.size):
            value = transforms[i, index[p]]
            out[i, 0, p] = value.real * factor[p]
            out[i, 1, p] = value.imag * factor[p]


@numba.njit(**JIT)
def sum_shells(transforms, index, starts, factor, out):  # type: ignore[no-untyped-def]
    """Sums of |X|^2 by shell.

    Parameters
    ----------
    transforms : (n, size) complex64;  index : (n_pix,) int64 elements, shell by shell;  factor : of all sums.
    starts : (n_shells + 1,) int64, first element of each shell;  out : (n, n_shells) float64.
    """
    for i in range(transforms.shape[0]):
        for s in range(starts.size - 1):
            total = 0.0
            for p in range(starts[s], starts[s + 1]):
                value = transforms[i, index[p]]
                total += np.float64(value.real) ** 2 + np.float64(value.imag) ** 2
            out[i, s] = total * factor
