"""Projections of a map at given or random poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.cpu import CpuBackend
from mpiapp.config.project import ProjectConfig
from mpiapp.engine.inputs import make_reader, particle_data
from mpiapp.errors import InputError
from mpiapp.io.atomic import check_writable
from mpiapp.io.maps_in import load_like, load_map
from mpiapp.io.mrc import write_map, write_stack
from mpiapp.model.aberrations import demodulation, even_gamma, fold_beam_tilt, magnify
from mpiapp.model.ctf import ctf
from mpiapp.model.fourier import inverse_2d, phase_ramp
from mpiapp.model.pixels import PixelList, pixel_list, put_pixels
from mpiapp.model.projection import padded_box, transform_reference
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.parallel.threads import available_cores
from mpiapp.report import log

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
BATCH = 256


@dataclass(frozen=True)
class _Views:
    """Euler angles in degrees and offsets in pixels of the map, one a projection."""

    angles_deg: F64  # (n, 3) rot, tilt, psi
    offset_px: F64  # (n, 2)


def project(config: ProjectConfig) -> F32:
    """Project a map, write the images and return them, (n, y, x) float32.

    Raises
    ------
    InputError
        The map, its mask or the particles can not be used.
    """
    log.setup()
    try:
        log.emit(log.options(config))
        return _run(config)
    finally:
        log.close()


def _run(config: ProjectConfig) -> F32:
    for name in _outputs(config):
        check_writable(name)
    source = load_map(config.input_map, config.angpix)
    volume, pixel = source
    if config.mask:
        volume = volume * load_like(config.mask, source, config.input_map)
    table = _particles(config, volume.shape[0], pixel)
    views = _views(config, table, pixel)
    images = project_views(config, volume, pixel, views, table)
    if config.white_noise:
        noise = np.random.default_rng([config.random_seed, 2]).standard_normal(images.shape, dtype=np.float32)
        images += np.float32(config.white_noise) * noise
    if config.subtract_exp and table is not None:
        images = make_reader(table.stack_paths)(table.stack_index, table.image_index) - images
    _write(config, images, views, table, pixel)
    return images


def _particles(config: ProjectConfig, box: int, pixel_size_A: float) -> ParticleTable | None:
    if not config.particles:
        return None
    from mpiapp.io.checks import check_poses
    from mpiapp.io.particles import read_particles

    table = read_particles(config.particles)
    check_poses(table)
    for line in table.notices:
        log.warn(line)
    for group in table.optics:
        if config.subtract_exp and (group.box != box or abs(group.pixel_size_A - pixel_size_A) > 1e-3):
            raise InputError(
                f"{config.particles}: optics group {group.name} has a box of {group.box} px of "
                f"{group.pixel_size_A:g} A, but the map has {box} of {pixel_size_A:g} A; --subtract_exp needs the same"
            )
    return table


def _views(config: ProjectConfig, table: ParticleTable | None, pixel_size_A: float) -> _Views:
    rng = np.random.default_rng([config.random_seed, 1])
    if table is not None:
        angles = np.stack([table.rot_deg, table.tilt_deg, table.psi_deg], axis=1)
        offset = table.origin_A / pixel_size_A
    elif config.nr_uniform > 0:
        n = config.nr_uniform
        tilt = np.degrees(np.arccos(rng.uniform(-1, 1, n)))
        angles = np.stack([rng.uniform(-180, 180, n), tilt, rng.uniform(-180, 180, n)], axis=1)
        offset = np.zeros((n, 2))
    else:
        angles = np.array([[config.rot, config.tilt, config.psi]])
        offset = np.array([[config.xoff, config.yoff]])
    if config.sigma_offset:
        offset = offset + rng.normal(0, config.sigma_offset, offset.shape)
    return _Views(angles, offset)


def project_views(
    config: ProjectConfig, volume: F32, pixel_size_A: float, views: _Views, table: ParticleTable | None
) -> F32:
    """Images (n, box, box) float32 of the map at all views, with CTFs where they are asked for."""
    box, workers = volume.shape[0], config.threads or len(available_cores())
    r_max = box // 2
    if config.maxres > 0:
        r_max = min(r_max, int(np.ceil(box * pixel_size_A / config.maxres)))
    padding = padded_box(box, config.pad) / box
    transform = transform_reference(volume, r_max, padding, workers=workers)
    flat = np.ascontiguousarray(transform).view(np.float32).ravel()
    pixels = pixel_list(r_max)
    kx, ky = pixels.kx.astype(np.float32), pixels.ky.astype(np.float32)
    backend = CpuBackend(workers)
    images = np.empty((len(views.angles_deg), box, box), np.float32)
    data = particle_data(table, True) if table is not None and config.ctf else None
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        matrices = euler_to_matrix(*views.angles_deg[rows].T)
        parts = backend.slices(flat, transform.shape[2] - 1, padding, matrices, kx, ky)
        values = (parts[:, 0] + 1j * parts[:, 1]) * phase_ramp(kx, ky, -views.offset_px[rows], box)
        if data is not None and table is not None:
            for g in np.unique(data.optics[rows]):
                mine = rows[data.optics[rows] == g]
                values[mine - start] *= _contrast(
                    config, table, int(g), data.ctf[mine], pixels, box * pixel_size_A
                )
        images[rows] = inverse_2d(put_pixels(values.astype(np.complex64), pixels, box), workers=workers)
    return images


def _contrast(
    config: ProjectConfig, table: ParticleTable, g: int, coefficients: F64, pixels: PixelList, field_A: float
) -> NDArray[Any]:
    """CTF of particles of one optics group, with its odd aberrations: (n, n_pix) real or complex."""
    group = table.optics[g]
    x, y = magnify(pixels.kx / field_A, pixels.ky / field_A, group.mag_matrix)
    values: NDArray[Any] = ctf(
        x,
        y,
        coefficients,
        even_gamma=even_gamma(group.even_zernike, x, y) if any(group.even_zernike) else None,
        phase_flipped=config.ctf_phase_flip,
        intact_first_peak=config.ctf_intact_first_peak,
    )
    odd = fold_beam_tilt(group.odd_zernike, group.beam_tilt_mrad, group.voltage_kV, group.cs_mm)
    return values * demodulation(odd, x, y).conj() if any(odd) else values


def _outputs(config: ProjectConfig) -> list[str]:
    """One image as .mrc; several as a stack and a STAR file that names poses and images."""
    root = config.output_root
    if not config.particles and config.nr_uniform < 0:
        return [root if Path(root).suffix else f"{root}.mrc"]
    return [f"{root}.mrcs", f"{root}.star"]


def _write(
    config: ProjectConfig, images: F32, views: _Views, table: ParticleTable | None, pixel_size_A: float
) -> None:
    stack, *stars = _outputs(config)
    if not stars:
        write_map(stack, images, pixel_size_A)
        log.emit([f" {stack}: one projection"])
        return
    star = stars[0]
    from mpiapp.io.star import write_star
    from mpiapp.io.star_table import Table

    write_stack(stack, images, pixel_size_A)
    names = [f"{i + 1:06d}@{stack}" for i in range(len(images))]
    if table is not None:
        frame, optics = table.frame, table.optics_frame
    else:
        frame = Table({"rlnOpticsGroup": np.ones(len(images), int)})
        optics = Table(
            {
                "rlnOpticsGroupName": ["opticsGroup1"],
                "rlnOpticsGroup": [1],
                "rlnVoltage": [300.0],
                "rlnSphericalAberration": [2.7],
                "rlnAmplitudeContrast": [0.1],
            }
        )
    # the images have the map's box and pixels, whatever those of the particles are
    geometry = {
        "rlnImagePixelSize": pixel_size_A,
        "rlnImageSize": images.shape[-1],
        "rlnImageDimensionality": 2,
    }
    optics = optics.with_columns({label: np.full(len(optics), value) for label, value in geometry.items()})
    labels = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
    values = (*views.angles_deg.T, *(views.offset_px * pixel_size_A).T)
    frame = frame.with_columns({"rlnImageName": names, **dict(zip(labels, values, strict=True))})
    write_star(star, {"optics": optics, "particles": frame}, config.command_line())
    log.emit([f" {stack}, {star}: {len(images)} projections"])
