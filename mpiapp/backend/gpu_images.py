"""Particle images on the device: preparing those of a batch (engine.md 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.arguments import make_map_side
from mpiapp.backend.base import HalfModel, ImagingSetup
from mpiapp.backend.gpu_kernels import Kernels, blocks
from mpiapp.backend.gpu_pass import OPTICS
from mpiapp.backend.reach import image_radius, map_pixels
from mpiapp.model.aberrations import demodulation, magnify
from mpiapp.model.fourier import axis_frequencies
from mpiapp.model.interpolation import kaiser_transform, plane_radius
from mpiapp.model.masks import inscribed_circle, mask_noise, soft_circle
from mpiapp.model.noise import spectrum_to_group
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.pixels import round_half_away
from mpiapp.model.search import Search


@dataclass
class UnmaskedImages:
    """Images of a batch as they go into maps."""

    rows: Any  # (n, n_still) complex64 unmasked transforms at the pixels of the images
    ctf: Any  # (n, 8) float32
    scale: Any  # (n,) float32
    group: Any  # (n,) int32 optics group


@dataclass
class DeviceImages(UnmaskedImages):
    """Prepared images of a batch."""

    planes: Any  # (n, rows, columns) complex64 padded transforms of the masked images
    plane_radius: int
    old_A: NDArray[np.float64]  # (n, 2) whole-pixel offsets that were applied
    power: Any  # (n, L / 2 + 1) float32, |X|^2 by shell of the image
    bad: Any  # (n,) int32

    def part(self, first: int, last: int) -> DeviceImages:
        """Some of the images, without copies."""
        k = slice(first, last)
        return DeviceImages(
            self.rows[k], self.ctf[k], self.scale[k], self.group[k], self.planes[k], self.plane_radius, self.old_A[k],
            self.power[k], self.bad[k],
        )  # fmt: skip


@dataclass
class MapSide:
    """Back-projection's constants for images of one box and pixel size."""

    n_pix: int
    index: Any  # (n_pix,) int32 element of a half transform
    factor: Any  # (n_optics, n_pix) complex64: sign, scale, odd aberrations
    kx: Any  # (n_pix,)
    ky: Any
    place_x: Any  # (n_optics, n_pix)
    place_y: Any
    sx: Any
    sy: Any
    even: Any  # (n_optics, n_pix) or None
    weight: Any
    optics: Any  # OPTICS: back_turn, cycles, premultiplied


@dataclass
class Kind:
    """Images of one box and pixel size: masks, window and map side on the device."""

    box: int
    radius: int  # highest frequency that is read, pixels of the image
    circle: Any
    corners: Any
    window: Any
    phases: dict[int, Any]  # optics group: phase that takes odd aberrations out, (box, box / 2 + 1)
    still: MapSide


def make_kind(
    kernels: Kernels, setup: ImagingSetup, model: HalfModel, search: Search, box: int, pixel_size_A: float
) -> Kind:
    """Constants of the images of one box and pixel size."""
    put = kernels.cupy.asarray
    members = [(g, o) for g, o in enumerate(setup.optics) if (o.box, o.pixel_size_A) == (box, pixel_size_A)]
    circle = soft_circle(box, setup.particle_diameter_A / (2 * pixel_size_A), setup.mask_edge)
    window = 1.0 / (kaiser_transform(box) * box)
    phases = {g: put(_odd_phase(o)) for g, o in members if any(o.odd_zernike)}
    return Kind(
        box,
        max(image_radius(o, search.r_max) for _, o in members),
        put(circle),
        put(inscribed_circle(box)),
        put(window.astype(np.float32)),
        phases,
        make_still(kernels, setup, model.sigma2, search.r_max, box, pixel_size_A),
    )


def _odd_phase(optics: OpticsModel) -> NDArray[np.complex64]:
    unit = 1.0 / (optics.box * optics.pixel_size_A)
    kx, ky = np.meshgrid(np.arange(optics.box // 2 + 1) * unit, axis_frequencies(optics.box) * unit)
    phase = demodulation(optics.odd_zernike, *magnify(kx, ky, optics.magnification))
    return np.asarray(phase, np.complex64)


def make_still(
    kernels: Kernels,
    setup: ImagingSetup,
    sigma2: NDArray[np.float64],
    r_max: int,
    box: int,
    pixel_size_A: float,
) -> MapSide:
    """Back-projection's constants for images of one box and pixel size; ``sigma2`` as for `make_map_side`."""
    put = kernels.cupy.asarray
    side = make_map_side(setup, sigma2, r_max, box, pixel_size_A)
    pixels = map_pixels(setup, box, pixel_size_A, r_max)
    sign = (1 - 2 * ((pixels.kx + pixels.ky) % 2)) / float(box) ** 2
    factor = np.tile(sign.astype(np.complex64), (len(setup.optics), 1))
    for g, o in enumerate(setup.optics):
        if any(o.odd_zernike) and (o.box, o.pixel_size_A) == (box, pixel_size_A):
            unit = 1.0 / (box * pixel_size_A)
            x, y = np.asarray(o.magnification).reshape(2, 2) @ (np.stack([pixels.kx, pixels.ky]) * unit)
            factor[g] *= demodulation(o.odd_zernike, x, y)
    table = np.zeros(len(setup.optics), OPTICS)
    table["turn"] = side.back_turn.reshape(-1, 4)
    table["cycles"] = 1.0 / (box * pixel_size_A)
    table["premultiplied"] = [o.premultiplied for o in setup.optics]
    even = put(side.gamma_even) if side.gamma_even.size else None
    return MapSide(
        len(pixels), put(pixels.half_index(box).astype(np.int32)), put(factor),
        put(pixels.kx.astype(np.float32)), put(pixels.ky.astype(np.float32)), put(side.kx), put(side.ky),
        put(side.sx), put(side.sy), even, put(side.weight), put(table.view(np.uint8)),
    )  # fmt: skip


def prepare(
    kernels: Kernels,
    setup: ImagingSetup,
    model: HalfModel,
    kind: Kind,
    data: ParticleData,
    poses: Poses,
    raw: tuple[Any, Any],
) -> DeviceImages:
    """Shift by whole pixels, mask and transform a batch of images (twin of ``backend.prepare``)."""
    cupy, n, box = kernels.cupy, len(data), kind.box
    pixel_size_A = setup.optics[int(data.optics[0])].pixel_size_A
    moves = round_half_away(poses.origin_A / pixel_size_A)
    shift = cupy.asarray(np.clip(moves, -box, box).astype(np.int32))
    gain = cupy.asarray((model.average_norm / poses.norm).astype(np.float32))
    fill = None if setup.zero_mask else cupy.asarray(_noise(setup, model, data, box))
    masked = cupy.empty((n, box, box), np.float32)
    unmasked, bad = mask(kernels, raw, shift, gain, kind.circle, kind.corners, fill, masked)
    with kernels.timed("transforms of images"):
        transform = cupy.fft.rfft2(masked)
    power = cupy.zeros((n, box // 2 + 1), np.float32)
    kernels.launch("images.cu", "shell_power", (16, n), (transform, box, power), shared=4 * (box // 2 + 1))
    if kind.phases:
        masked = _demodulated(cupy, kind, data, transform, masked)
    planes = _planes(kernels, kind, masked)
    group = cupy.asarray(data.optics)
    rows = unmasked_rows(kernels, unmasked, kind.still, group)
    scale = np.maximum(model.scale[data.group], 0.001).astype(np.float32)
    return DeviceImages(
        rows, cupy.asarray(data.ctf.astype(np.float32)), cupy.asarray(scale), group,
        planes, plane_radius(kind.radius), np.asarray(moves * np.float64(pixel_size_A)), power, bad,
    )  # fmt: skip


def mask(
    kernels: Kernels,
    raw: tuple[Any, Any],
    shift: Any,
    gain: Any,
    circle: Any,
    corners: Any,
    fill: Any = None,
    masked: Any = None,
) -> tuple[Any, Any]:
    """Images shifted, scaled, and their corners taken away: (n, box, box) float32, and which are not finite: (n,) int32.

    Parameters
    ----------
    raw : store (n_slot, box, box) and the slot of each image.
    shift : (n, 2) int32 pixels;  gain : (n,) float32;  circle, corners : (box, box) masks of the inside.
    fill : (n, box, box) what surrounds the circle, None for the mean there.
    masked : (n, box, box), written with the images inside the circle; None where they are not needed.
    """
    cupy, n, box = kernels.cupy, int(gain.size), int(circle.shape[0])
    mean, bad = cupy.empty((n, 2), np.float32), cupy.empty(n, np.int32)
    kernels.launch("images.cu", "background", (n,), (*raw, shift, circle, corners, box, mean, bad))
    unmasked = cupy.empty((n, box, box), np.float32)
    arguments = (*raw, shift, gain, circle, corners, mean, bad, fill, box, masked, unmasked)
    kernels.launch("images.cu", "mask_images", (blocks(box * box), n), arguments)
    return unmasked, bad


def unmasked_rows(kernels: Kernels, unmasked: Any, still: MapSide, group: Any) -> Any:
    """Transforms at the pixels of the map side: (n, n_still) complex64."""
    with kernels.timed("transforms of images"):
        transform = kernels.cupy.fft.rfft2(unmasked)
    rows = kernels.cupy.empty((len(unmasked), still.n_pix), np.complex64)
    size = np.int64(transform[0].size)
    arguments = (transform, size, still.index, still.factor, group, still.n_pix, rows)
    kernels.launch("images.cu", "gather_rows", (blocks(still.n_pix), len(unmasked)), arguments)
    return rows


def _noise(setup: ImagingSetup, model: HalfModel, data: ParticleData, box: int) -> NDArray[np.float32]:
    """Noise of the estimated colour for the surroundings of particles."""
    fill = np.empty((len(data), box, box), np.float32)
    for g in np.unique(data.optics):
        rows = np.flatnonzero(data.optics == g)
        spectrum = spectrum_to_group(model.sigma2[g], box // 2 + 1, setup.optics[int(g)].ratio)
        fill[rows] = mask_noise(setup.seed, data.particle_id[rows], spectrum, box)
    return fill


def _demodulated(cupy: Any, kind: Kind, data: ParticleData, transform: Any, masked: Any) -> Any:
    """Masked images without the phase of odd aberrations (refinement.md 3.5)."""
    for g, phase in kind.phases.items():
        rows = np.flatnonzero(data.optics == g)
        if rows.size:
            at = cupy.asarray(rows)
            masked[at] = cupy.fft.irfft2(transform[at] * phase, s=masked.shape[1:])
    return masked


def _planes(kernels: Kernels, kind: Kind, masked: Any) -> Any:
    """Padded transforms, cut to what turned reading needs: (n, 2 R + 1, R + 3) complex64."""
    cupy, n, size, radius = kernels.cupy, len(masked), 2 * kind.box, plane_radius(kind.radius)
    padded = cupy.empty((n, size, size), np.float32)
    kernels.launch(
        "images.cu", "pad_images", (blocks(size * size), n), (masked, kind.window, kind.box, padded)
    )
    with kernels.timed("transforms of images"):
        transform = cupy.fft.rfft2(padded)
    planes = cupy.empty((n, 2 * radius + 1, radius + 3), np.complex64)
    kernels.launch(
        "images.cu", "assemble_planes", (blocks(planes[0].size), n), (transform, size, radius, planes)
    )
    return planes
