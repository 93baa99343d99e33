"""Self-test of the kernels that prepare, turn and slice, and of those of the maximization: small cases and equations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from mpiapp.backend.gpu_cache import STORED, place_images
from mpiapp.backend.gpu_kernels import Kernels, blocks
from mpiapp.backend.gpu_pass import OPTICS
from mpiapp.backend.gpu_selftest import Family, Outcome, compare, worst
from mpiapp.model.ctf import ctf, ctf_coefficients
from mpiapp.model.fourier import shift_images
from mpiapp.model.interpolation import sample_plane, window_polynomials
from mpiapp.model.masks import soft_circle
from mpiapp.model.pixels import pixel_list
from mpiapp.model.projection import slice_volume
from mpiapp.model.symmetry import point_group

F64 = NDArray[np.float64]
BOX, N = 24, 3
KINDS = {"half": np.float16, "float": np.float32, "double": np.float64}
# what the number type leaves of a value; the kernels themselves compute in single precision
ROUNDING = {"half": 1e-3, "float": 1e-5, "double": 1e-5}


def random_complex(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    """Complex normal deviates."""
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def coefficients(rng: np.random.Generator, n: int) -> F64:
    """CTFs of n images with astigmatism and an envelope."""
    u, angle = rng.uniform(3000, 6000, n), rng.uniform(-90, 90, n)
    return ctf_coefficients(300.0, 2.7, 0.1, u, u - 800, angle, 10.0, 20.0, rng.uniform(0.9, 1.1, n))


def optics_table() -> tuple[NDArray[Any], Any]:
    """Two optics groups: records, and what the kernels take; the second has premultiplied images."""
    table = np.zeros(2, OPTICS)
    table["turn"] = [(1.0, 0.0, 0.0, 1.0), (1.05, 0.03, -0.02, 0.97)]
    table["cycles"] = [1 / (BOX * 3.0), 1 / (BOX * 2.5)]
    table["premultiplied"] = [0, 1]
    return table, table.view(np.uint8)


def placing(kernels: Kernels) -> Iterator[Outcome]:
    """Every type that a stack may have, all images in turn and some of them."""
    cupy, rng = kernels.cupy, np.random.default_rng(1)
    to, some = np.array([6, 0, 3, 2]), np.array([4, 1, 1, 0])
    for kind, name in STORED.items():
        stored = rng.integers(0, 100, size=(5, BOX, BOX)).astype(kind)
        results = []
        for start in (None, some):
            store = cupy.zeros((7, BOX, BOX), np.float32)
            place_images(
                kernels,
                cupy.asarray(stored),
                None if start is None else cupy.asarray(start),
                cupy.asarray(to),
                store,
            )
            expected = np.zeros((7, BOX, BOX))
            expected[to] = stored[:4] if start is None else stored[start]
            results.append(compare(f"place_images<{name}>", store, expected, 0.0))
        yield worst(results)


def masking(kernels: Kernels) -> Iterator[Outcome]:
    """Means outside masks and bad images; masked images with the mean and with noise around."""
    cupy, rng = kernels.cupy, np.random.default_rng(2)
    raw = rng.normal(1.0, 1.0, size=(5, BOX, BOX)).astype(np.float32)
    raw[0, 3, 4] = np.inf
    slot, shift = np.array([4, 0, 2]), np.array([[3, -2], [0, 1], [-30, 5]], np.int32)
    gain = np.array([0.9, 1.0, 1.2], np.float32)
    masks = [np.asarray(soft_circle(BOX, 7, 3)), np.asarray(soft_circle(BOX, BOX / 2 - 1, 2))]
    put = cupy.asarray
    on_device = (put(raw), put(slot), put(shift))
    circles = tuple(put(m.astype(np.float32)) for m in masks)
    mean, bad = cupy.empty((N, 2), np.float32), cupy.empty(N, np.int32)
    kernels.launch("images.cu", "background", (N,), (*on_device, *circles, BOX, mean, bad))
    good = np.array([0, 2])
    moved = np.where(np.isfinite(raw), raw, 0)[slot].astype(float)
    moved = np.asarray(shift_images(moved, shift))
    expected = np.stack([((1 - m) * moved).sum((1, 2)) / (1 - m).sum() for m in masks], axis=1)
    yield worst([
        compare("background", mean.get()[good], expected[good], 1e-5), compare("background", bad, [0, 1, 0], 0.0)
    ])  # fmt: skip
    results = []
    for fill in (None, rng.normal(size=(N, BOX, BOX)).astype(np.float32)):
        out = [cupy.empty((N, BOX, BOX), np.float32) for _ in range(2)]
        arguments = (*on_device, put(gain), *circles, put(expected.astype(np.float32)), bad,
                     None if fill is None else put(fill), BOX, *out)  # fmt: skip
        kernels.launch("images.cu", "mask_images", (blocks(BOX * BOX), N), arguments)
        value, around = gain[:, None, None] * moved, (gain[:, None] * expected).T[..., None, None]
        outside = around[0] if fill is None else fill
        for found, mask, rest in zip(out, masks, (outside, around[1]), strict=True):
            truth = (value - rest) * mask + rest
            truth[1] = 0
            results.append(compare("mask_images", found, truth, 1e-5))
    yield worst(results)


def transforming(kernels: Kernels) -> Iterator[Outcome]:
    """What comes before and after the transforms of images."""
    cupy, rng = kernels.cupy, np.random.default_rng(3)
    put, size, radius = cupy.asarray, 2 * BOX, 19
    images, window = (
        rng.normal(size=(N, BOX, BOX)).astype(np.float32),
        rng.uniform(1, 2, BOX).astype(np.float32),
    )
    padded = cupy.empty((N, size, size), np.float32)
    kernels.launch(
        "images.cu", "pad_images", (blocks(size * size), N), (put(images), put(window), BOX, padded)
    )
    large = np.zeros((N, size, size))
    large[:, :BOX, :BOX] = images * np.outer(window, window)
    large = np.roll(large, (-BOX // 2, -BOX // 2), axis=(1, 2))
    yield compare("pad_images", padded, large, 1e-6)
    whole = np.fft.fft2(large)
    planes = cupy.empty((N, 2 * radius + 1, radius + 3), np.complex64)
    half = whole[:, :, : BOX + 1].astype(np.complex64)
    arguments: tuple[Any, ...] = (put(half), size, radius, planes)
    kernels.launch("images.cu", "assemble_planes", (blocks(planes[0].size), N), arguments)
    rows, columns = np.arange(-radius, radius + 1) % size, np.arange(-2, radius + 1) % size
    yield compare("assemble_planes", planes, whole[:, rows[:, None], columns], 1e-6)
    transform = np.fft.rfft2(images.astype(float))
    power = cupy.zeros((N, BOX // 2 + 1), np.float32)
    arguments = (put(transform.astype(np.complex64)), BOX, power)
    kernels.launch("images.cu", "shell_power", (2, N), arguments, shared=4 * (BOX // 2 + 1))
    pixels = pixel_list(BOX // 2, whole_shells=True, box=BOX)
    flat = np.abs(transform.reshape(N, -1)[:, pixels.half_index(BOX)] / BOX**2) ** 2
    yield compare(
        "shell_power",
        power,
        [np.bincount(pixels.shell, row, BOX // 2 + 1)[: BOX // 2 + 1] for row in flat],
        1e-5,
    )
    index = rng.permutation(transform[0].size)[:100].astype(np.int32)
    factor, group = random_complex(rng, 2, 100), np.array([1, 0, 1], np.int32)
    found = cupy.empty((N, 100), np.complex64)
    arguments = (put(transform.astype(np.complex64)), np.int64(transform[0].size), put(index), put(factor), put(group),
                 100, found)  # fmt: skip
    kernels.launch("images.cu", "gather_rows", (1, N), arguments)
    yield compare("gather_rows", found, transform.reshape(N, -1)[:, index] * factor[group], 1e-6)


def turning(kernels: Kernels) -> Iterator[Outcome]:
    """Images at in-plane angles, weighted; and the same rows shifted, in all number types."""
    cupy, rng = kernels.cupy, np.random.default_rng(4)
    put, pixels, radius = cupy.asarray, pixel_list(6), 17
    n_pix, pitch, unit = len(pixels), 128, 1 / (BOX * 3.0)
    q = np.zeros((2, pitch), np.float32)
    q[:, :n_pix] = pixels.kx, pixels.ky
    image_of, psi_of = np.array([0, 1, 1, 2], np.int32), np.array([0, 1, 2, 1], np.int32)
    group, psi = np.array([0, 1, 0], np.int32), np.array([0.3, 1.9, -2.4])
    table, optics = optics_table()
    planes, curves = random_complex(rng, N, 2 * radius + 1, radius + 3), coefficients(rng, N)
    scale = np.array([0.9, 1.0, 1.1], np.float32)
    weight, even = rng.uniform(1, 2, (2, n_pix)), rng.normal(size=(2, psi.size, n_pix))
    balance = rng.uniform(0.5, 1, n_pix)
    small = [put(a.astype(np.float32)) for a in (weight, even, np.cos(psi), np.sin(psi), q[0], q[1], balance)]
    base, power = cupy.empty((4, pitch), np.complex64), cupy.empty((4, pitch), np.float32)
    arguments: tuple[Any, ...] = (
        put(image_of), put(psi_of), 4, put(planes), np.int64(planes[0].size), radius, put(curves.astype(np.float32)),
        put(scale), put(group), put(optics), small[0], n_pix, small[1], psi.size, *small[2:6], unit, small[6],
        put(window_polynomials().ravel()), n_pix, pitch, base, power,
    )  # fmt: skip
    kernels.launch("inplane.cu", "turn_rows", (1, 4), arguments)
    rows, weights, moved = (np.zeros((4, *shape), kind) for shape, kind in (
        ((pitch,), complex), ((pitch,), float), ((2, pitch), complex)))  # fmt: skip
    shifts_A = np.array([[4.0, -7.0], [0.5, 2.0]])
    for k, (i, j) in enumerate(zip(image_of, psi_of, strict=True)):
        o, turn = group[i], table["turn"][group[i]].reshape(2, 2).astype(float)
        c, s = np.cos(psi[j]), np.sin(psi[j])
        x, y = np.array([[c, s], [-s, c]]) @ q[:, :n_pix]
        f = ctf(x * unit, y * unit, curves[i : i + 1], even_gamma=even[o, j], dtype=np.float64)[0]
        f = scale[i] * (f**2 if table["premultiplied"][o] else f) * balance
        at = turn @ np.stack([x, y])
        rows[k, :n_pix] = f * weight[o] * sample_plane(planes[i], *at)
        weights[k, :n_pix] = f**2 * weight[o]
        cycles = shifts_A @ at * table["cycles"][o]
        moved[k, :, :n_pix] = rows[k, :n_pix] * np.exp(-2j * np.pi * cycles)
    yield worst([compare("turn_rows", base, rows, 1e-4), compare("turn_rows", power, weights, 1e-4)])
    narrow = put(rows.astype(np.complex64))
    for name, kind in KINDS.items():
        parts = [cupy.empty((4, 2, pitch), kind) for _ in range(2)]
        arguments = (put(image_of), put(psi_of), 4, put(group), put(optics), small[2], small[3],
                     put(shifts_A.astype(np.float32)), 2, *small[4:6], n_pix, narrow, pitch, pitch, *parts)  # fmt: skip
        kernels.launch("inplane.cu", f"shift_rows<{name}>", (1, 4), arguments)
        results = [compare(f"shift_rows<{name}>", part, truth, ROUNDING[name])
                   for part, truth in zip(parts, (moved.real, moved.imag), strict=True)]  # fmt: skip
        yield worst(results)


def slicing(kernels: Kernels) -> Iterator[Outcome]:
    """Central slices of a random transform, and their power, in all number types."""
    cupy, rng, radius, padding = kernels.cupy, np.random.default_rng(5), 17, 2.0
    put, pixels, pitch, n = cupy.asarray, pixel_list(8), 192, 7
    volumes, of_class = random_complex(rng, 2, 35, 35, 18), np.array([0, 1, 1, 0, 1, 0, 0], np.int32)
    matrices = Rotation.random(n, random_state=6).as_matrix()
    n_pix, inverse = len(pixels), rng.uniform(0.5, 1, len(pixels)).astype(np.float32)
    flat = matrices.reshape(n, 9).astype(np.float32)
    k = np.stack([pixels.kx, pixels.ky]).astype(float)
    both = [slice_volume(volume, padding, flat.reshape(n, 3, 3), k[0], k[1]) * inverse for volume in volumes]
    arrays = (put(flat), put(k[0].astype(np.float32)), put(k[1].astype(np.float32)), put(inverse))
    for name, kind in KINDS.items():
        table, results = cupy.empty((2, n, pitch), kind), []
        for classes in (None, of_class):
            section = both[0] if classes is None else np.where(classes[:, None], both[1], both[0])
            expected = np.zeros((2, n, pitch))
            expected[:, :, :n_pix] = section.real, section.imag
            arguments = (put(volumes), None if classes is None else put(classes), radius, padding, *arrays, n_pix, pitch,
                         np.int64(n), table)  # fmt: skip
            kernels.launch("slicing.cu", f"slice_directions<{name}>", (1, n), arguments)
            results.append(compare(f"slice_directions<{name}>", table, expected, ROUNDING[name]))
        yield worst(results)
        power = cupy.empty((n, pitch), np.float32)
        kernels.launch(
            "slicing.cu", f"slice_power<{name}>", (blocks(n * pitch),), (table, np.int64(n * pitch), power)
        )
        yield compare(f"slice_power<{name}>", power, (table.get().astype(float) ** 2).sum(0), 1e-6)


def maps(kernels: Kernels) -> Iterator[Outcome]:
    """Sums over a point group, and sums by bin."""
    cupy, rng, radius = kernels.cupy, np.random.default_rng(7), 9
    grid = rng.normal(size=(2 * radius + 1, 2 * radius + 1, radius + 1, 4)).astype(np.float32)
    # the plane x = 0 holds every pair twice, in agreement, so that the other half of the grid is known
    grid[:, :, 0] += grid[::-1, ::-1, 0] * np.array([1, -1, 1, 1], np.float32)
    operators = np.ascontiguousarray(point_group("C3").operators[1:].reshape(-1, 9))
    out = cupy.asarray(grid)
    arguments: tuple[Any, ...] = (cupy.asarray(grid), radius, cupy.asarray(operators), len(operators), out)
    kernels.launch("maps.cu", "symmetrise", (blocks(out.size // 4),), arguments)
    found, expected = out.get()[..., :3], _symmetrised(grid.astype(float), operators)
    yield compare("symmetrise", found, expected, 1e-5)
    bins = rng.integers(-1, 41, 5000).astype(np.int32)
    inside = (bins >= 0) & (bins < 40)
    for name in ("float", "double"):
        values = rng.normal(size=5000).astype(KINDS[name])
        sums = cupy.zeros(40, np.float64)
        arguments = (cupy.asarray(bins), cupy.asarray(values), np.int64(5000), 40, sums)
        kernels.launch("maps.cu", f"bin_sums<{name}>", (3,), arguments, shared=8 * 40)
        by_bin = np.bincount(bins[inside], values[inside].astype(float), 40)
        yield compare(f"bin_sums<{name}>", sums, by_bin, 1e-12)


def _symmetrised(grid: F64, operators: F64) -> F64:
    """The grid plus itself read at every operator's image of each point inside the sphere, from the whole cube."""
    radius = grid.shape[2] - 1
    mirrored = grid[::-1, ::-1, :0:-1] * np.array([1, -1, 1, 1])
    cube = np.concatenate([mirrored, grid], axis=2)
    z, y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1, : radius + 1]
    inside = x**2 + y**2 + z**2 <= (radius - 1) ** 2
    points = np.stack([x[inside], y[inside], z[inside]]).astype(float)
    total = grid[..., :3].copy()
    for operator in operators.reshape(-1, 3, 3):
        at = (operator @ points)[::-1] + radius
        for c in range(3):
            total[inside, c] += map_coordinates(cube[..., c], at, order=1)
    return total


IMAGE_FAMILIES: dict[str, Family] = {
    "images to their places": placing,
    "masks": masking,
    "transforms of images": transforming,
    "turned images": turning,
    "slices": slicing,
    "maps": maps,
}
