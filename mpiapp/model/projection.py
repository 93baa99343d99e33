"""The padded transform of a reference, its central slices, and their adjoint (refinement.md 2).

Arrays are (2 R + 1, 2 R + 1, R + 1), z, y, x >= 0, origin at (R, R, 0); R = round(p r_max) + 1 leaves a margin of
one sample. The functions here are the float64 twins of the kernels, and what both backends share.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import in_slabs, module_of, slabs_of, to_host
from mpiapp.model.filters import gridding_correction
from mpiapp.model.pixels import round_half_away

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]


def padded_box(box: int, padding: float) -> int:
    """Even size of the padded box."""
    size = int(round_half_away(padding * box))
    return size - size % 2


def grid_radius(r_max: int, padding: float) -> int:
    """R of the arrays for frequencies up to r_max pixels."""
    return int(round_half_away(padding * r_max)) + 1


def centred(radius: int) -> NDArray[np.int64]:
    """Logical coordinates -R .. R of one axis."""
    return np.arange(-radius, radius + 1)


ALL = slice(None)


def squared_radius(radius: int, xp: Any = np, planes: slice = ALL) -> NDArray[np.int32]:
    """|u|^2 of every element of an array of this radius, (2 R + 1, 2 R + 1, R + 1) int32, or of some of its planes."""
    # kept in host memory only: on a device it is made in no time, and its memory is wanted
    return _host_squared_radius(radius)[planes] if xp is np else _squared_radius(radius, xp, planes)


def shell_index(radius: int, padding: float, xp: Any = np, planes: slice = ALL) -> NDArray[np.int32]:
    """Shell round(|u| / p) of every element of an array of this radius, or of some of its planes."""
    return (
        _host_shell_index(radius, padding)[planes] if xp is np else _shell_index(radius, padding, xp, planes)
    )


def _squared_radius(radius: int, xp: Any, planes: slice) -> NDArray[np.int32]:
    axis = xp.arange(-radius, radius + 1, dtype=np.int32) ** 2
    half = xp.arange(radius + 1, dtype=np.int32) ** 2
    r2: NDArray[np.int32] = axis[planes][:, None, None] + axis[:, None] + half
    return r2


def _shell_index(radius: int, padding: float, xp: Any, planes: slice) -> NDArray[np.int32]:
    r2 = squared_radius(radius, xp, planes)
    shells: NDArray[np.int32] = (xp.sqrt(r2) / padding + 0.5).astype(np.int32)
    return shells


@lru_cache(maxsize=4)
def _host_squared_radius(radius: int) -> NDArray[np.int32]:
    r2 = _squared_radius(radius, np, ALL)
    r2.setflags(write=False)
    return r2


@lru_cache(maxsize=4)
def _host_shell_index(radius: int, padding: float) -> NDArray[np.int32]:
    shells = _shell_index(radius, padding, np, ALL)
    shells.setflags(write=False)
    return shells


def transform_reference(
    volume: Real, r_max: int, padding: float, *, correct_gridding: bool = True, workers: int = 1
) -> NDArray[np.complex64]:
    """Padded transform of a map up to |k| <= r_max, scaled so that a slice equals the transform of a projection.

    The map is divided by the transform of the trilinear window first (refinement.md 2.2). Each axis is transformed
    only where the input is not zero and the output is kept.

    Parameters
    ----------
    volume : (N, N, N) real;  r_max : highest frequency in pixels;  padding : p.

    Returns
    -------
    (2 R + 1, 2 R + 1, R + 1) complex64, zero outside the sphere of radius round(p r_max).
    """
    arrays = module_of(volume)
    xp, fft = arrays.xp, arrays.fft
    box = volume.shape[0]
    size = padded_box(box, padding)
    p = size / box
    radius = grid_radius(r_max, p)
    real: Any = xp.asarray(volume, np.float32)
    if correct_gridding:
        real = real / gridding_correction(box, size, xp=xp)
    k = xp.asarray(centred(radius))
    turn = xp.exp(2j * np.pi * k * (box // 2) / size).astype(np.complex64)
    keep = k % size
    columns = min(radius + 1, size // 2 + 1)
    rows = xp.empty((2 * radius + 1, box, columns), np.complex64)  # y in frequencies, z, x in frequencies
    out: NDArray[np.complex64] = xp.zeros((2 * radius + 1, 2 * radius + 1, radius + 1), np.complex64)

    def along_x_and_y(planes: slice) -> None:
        data = fft.rfft(real[planes], n=size, axis=2)[:, :, :columns] * turn[radius : radius + columns]
        data = fft.fft(data, n=size, axis=1)[:, keep] * turn[:, None]
        rows[:, planes] = data.swapaxes(0, 1)

    def along_z(planes: slice) -> None:
        data = fft.fft(rows[planes], n=size, axis=1)[:, keep] * (turn[:, None] / np.float32(box**2))
        data[squared_radius(radius, xp, planes)[:, :, :columns] > (radius - 1) ** 2] = 0
        out[:, planes, :columns] = data.swapaxes(0, 1)

    in_slabs(along_x_and_y, real, workers)
    in_slabs(along_z, rows, workers)
    return out


def translate(transform: NDArray[np.complex64], shift_px: Real, box: int, padding: float) -> None:
    """Move a map by a shift (x, y, z) in pixels, given its padded transform, which is changed."""
    radius = transform.shape[2] - 1
    unit = -2j * np.pi / padded_box(box, padding)
    xp = module_of(transform).xp
    x, y, z = (xp.asarray(np.exp(unit * centred(radius) * float(s)).astype(np.complex64)) for s in shift_px)
    for axis, phases in ((0, z[:, None, None]), (1, y[:, None]), (2, x[radius:])):
        if shift_px[2 - axis]:
            transform *= phases


def reference_spectrum(transform: Complex, padding: float, n_shells: int) -> NDArray[np.float64]:
    """Signal power per component and shell, mean |F|^2 / 2 (tau2 of refinement.md 2.2 step 6): (n_shells,)."""
    arrays = module_of(transform)
    xp, radius = arrays.xp, transform.shape[2] - 1
    total, count = 0.0, 0.0
    for part in slabs_of(transform):
        inside = squared_radius(radius, xp, part) <= (radius - 1) ** 2
        shells = shell_index(radius, padding, xp, part)[inside]
        power = xp.abs(transform[part][inside]).astype(np.float64) ** 2
        total = total + arrays.bincount(shells, power, n_shells)
        count = count + arrays.bincount(shells, None, n_shells)
    return np.asarray(to_host(total) / np.maximum(to_host(count), 1) / 2)


def _corners(
    radius: int, padding: float, matrices: Real, kx: Real, ky: Real
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.float64]]], NDArray[np.bool_]]:
    """Flat indices and coefficients of the eight neighbours of every sample, and where the mirror half is meant."""
    m = np.asarray(matrices, np.float64) * padding
    q = m[:, 0, :, None] * np.asarray(kx, float) + m[:, 1, :, None] * np.asarray(ky, float)
    mirror = q[:, 0] < 0
    q = np.where(mirror[:, None], -q, q)
    low = np.floor(q).astype(np.int64)
    f = q - low
    corners = []
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                weight = np.ones_like(f[:, 0])
                for axis, step in ((0, dx), (1, dy), (2, dz)):
                    weight = weight * (f[:, axis] if step else 1 - f[:, axis])
                z, y, x = low[:, 2] + dz + radius, low[:, 1] + dy + radius, low[:, 0] + dx
                corners.append(((z * (2 * radius + 1) + y) * (radius + 1) + x, weight))
    return corners, mirror


def slice_volume(
    transform: Complex, padding: float, matrices: Real, kx: Real, ky: Real
) -> NDArray[np.complex128]:
    """Central slices by trilinear interpolation, in float64: (n_rot, n_pix) (refinement.md 2.3)."""
    corners, mirror = _corners(transform.shape[2] - 1, padding, matrices, kx, ky)
    flat = transform.ravel()
    value = np.zeros(mirror.shape, np.complex128)
    for index, weight in corners:
        value += weight * flat[index]
    return np.where(mirror, value.conj(), value)


def insert_slices(
    values: Complex, weights: Real, radius: int, padding: float, matrices: Real, kx: Real, ky: Real
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Adjoint of :func:`slice_volume`: sums D and W of weighted slices, in float64 (refinement.md 2.4)."""
    corners, mirror = _corners(radius, padding, matrices, kx, ky)
    values = np.where(mirror, np.conj(values), values)
    shape = (2 * radius + 1, 2 * radius + 1, radius + 1)
    size = int(np.prod(shape))
    data = np.zeros(size, np.complex128)
    weight_sum = np.zeros(size)
    for index, c in corners:
        flat = index.ravel()
        data += np.bincount(flat, (c * values.real).ravel(), size)
        data += 1j * np.bincount(flat, (c * values.imag).ravel(), size)
        weight_sum += np.bincount(flat, (c * weights).ravel(), size)
    return data.reshape(shape), weight_sum.reshape(shape)
