"""From files to arrays: particles, reference and masks of a refinement, checked before any work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup, ReadImages
from mpiapp.config.refine import RefineConfig
from mpiapp.errors import InputError
from mpiapp.model.aberrations import fold_beam_tilt
from mpiapp.model.ctf import ctf_coefficients
from mpiapp.model.filters import lowpass_map
from mpiapp.model.fourier import resample_map
from mpiapp.model.masks import soft_sphere
from mpiapp.model.noise import shell_ratio
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.symmetry import point_group

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass
class Inputs:
    """What the leader reads before the first iteration."""

    table: ParticleTable
    setup: ImagingSetup
    data: ParticleData
    poses: Poses
    half: NDArray[np.int8]
    reference: F32
    solvent: F32  # mask that flattens the reference, all 1 for none
    warnings: list[str]


def resolve_seed(config: RefineConfig) -> int:
    """Seed of the run: as asked, or from the time."""
    return config.random_seed if config.random_seed >= 0 else int(time.time()) % (2**31)


def read_inputs(config: RefineConfig, seed: int, reference: tuple[F32, float] | None = None) -> Inputs:
    """Read and check everything that a refinement starts from.

    Parameters
    ----------
    reference : map and pixel size of a run that goes on, which the start map is not needed for

    Raises
    ------
    InputError
        The first problems found, with file, row, column and remedy.
    """
    from mpiapp.io.checks import check_particles
    from mpiapp.io.particles import read_particles

    table = read_particles(config.input_star, root=config.root or None)
    volume, pixel_size, remarks = _read_reference(config) if reference is None else (*reference, [])
    warnings = check_particles(
        table,
        volume.shape,
        pixel_size,
        reference_path=config.reference or config.continue_from,
        trust_reference=config.trust_ref_size,
        diameter_A=config.particle_diameter if config.particle_diameter > 0 else None,
        ctf=config.ctf,
    )
    volume, box, pixel_size = _fit_reference(config, table, volume, pixel_size)
    if config.ini_high > 0 and reference is None:
        volume = np.asarray(lowpass_map(volume, pixel_size, config.ini_high, workers=-1), np.float32)
    diameter = (
        config.particle_diameter if config.particle_diameter > 0 else (box - 2 * config.maskedge) * pixel_size
    )
    setup = ImagingSetup(
        box,
        pixel_size,
        config.pad,
        diameter,
        config.maskedge,
        config.zero_mask,
        optics_models(table, box, pixel_size),
        len(table.group_names),
        point_group(config.sym),
        seed,
    )
    solvent, more = solvent_mask(config, setup)
    return Inputs(
        table,
        setup,
        particle_data(table, config.ctf),
        initial_poses(table),
        split_halves(table, seed),
        np.ascontiguousarray(volume, np.float32),
        solvent,
        [*remarks, *warnings, *more],
    )


def _read_reference(config: RefineConfig) -> tuple[F32, float, list[str]]:
    from mpiapp.io.checks import check_reference
    from mpiapp.io.mrc import read_map

    reference, pixel_size = read_map(config.reference)
    if config.ref_angpix > 0:
        pixel_size = config.ref_angpix
    return reference, pixel_size, check_reference(reference, pixel_size, config.reference)


def _fit_reference(
    config: RefineConfig, table: ParticleTable, reference: F32, pixel_size: float
) -> tuple[F32, int, float]:
    """The reference on the box and pixel size of the first optics group."""
    first = table.optics[0]
    same = reference.shape[0] == first.box and abs(pixel_size - first.pixel_size_A) <= 0.001
    if pixel_size <= 0 or same or not config.trust_ref_size:
        return reference, reference.shape[0], first.pixel_size_A
    fitted = resample_map(reference, pixel_size, first.pixel_size_A, first.box)
    return np.asarray(fitted, np.float32), first.box, first.pixel_size_A


def optics_models(table: ParticleTable, box: int, pixel_size_A: float) -> list[OpticsModel]:
    """Geometry and aberrations of the optics groups relative to the model."""
    for o in table.optics:
        if o.pixel_size_A > 1.9 * pixel_size_A:
            raise InputError(
                f"{table.path}: optics group {o.name} has rlnImagePixelSize {o.pixel_size_A:g} A, more than 1.9 times the "
                f"{pixel_size_A:g} A of the reference; rescale these particles, or refine them on their own"
            )
    return [
        OpticsModel(
            o.box,
            o.pixel_size_A,
            shell_ratio(o.box, o.pixel_size_A, box, pixel_size_A),
            tuple(o.mag_matrix),  # type: ignore[arg-type]
            tuple(o.even_zernike),
            tuple(fold_beam_tilt(o.odd_zernike, o.beam_tilt_mrad, o.voltage_kV, o.cs_mm)),
            o.ctf_premultiplied,
        )
        for o in table.optics
    ]


def particle_data(table: ParticleTable, ctf: bool) -> ParticleData:
    """Arrays of all particles in file order."""
    n = len(table)
    if ctf:
        voltage, cs, amplitude = (
            np.array([getattr(o, name) for o in table.optics], float)[table.optics_index]
            for name in ("voltage_kV", "cs_mm", "amplitude_contrast")
        )
        coefficients = ctf_coefficients(
            voltage,
            cs,
            amplitude,
            table.defocus_u_A,
            table.defocus_v_A,
            table.defocus_angle_deg,
            table.phase_shift_deg,
            table.ctf_bfactor_A2,
            table.ctf_scale,
        )
    else:
        coefficients = np.zeros((n, 8))
    return ParticleData(
        np.arange(n, dtype=np.int64),
        table.optics_index.astype(np.int32),
        table.group_index.astype(np.int32),
        coefficients,
        table.stack_index.astype(np.int32),
        table.image_index.astype(np.int64),
    )


def initial_poses(table: ParticleTable) -> Poses:
    """Poses as the file has them."""
    poses = Poses.zeros(len(table))
    poses.rot_deg, poses.tilt_deg, poses.psi_deg = (
        a.astype(float) for a in (table.rot_deg, table.tilt_deg, table.psi_deg)
    )
    poses.origin_A = table.origin_A.astype(float)
    poses.norm = table.norm_correction.astype(float)
    return poses


def split_halves(table: ParticleTable, seed: int) -> NDArray[np.int8]:
    """Half of each particle: rlnRandomSubset where the file has it, else drawn per particle."""
    if table.half.any():
        return table.half.astype(np.int8)
    draws = np.random.default_rng(np.random.SeedSequence([seed, 0x68616C66])).random(len(table))
    half = (1 + (draws >= 0.5)).astype(np.int8)
    if len(table) > 1 and (half == half[0]).all():
        half[1::2] = 3 - half[0]
    for h in (1, 2):
        if not (half == h).any():
            raise InputError(
                f"{table.path}: {len(table)} particles can not be split into two halves; give more particles"
            )
    return half


def solvent_mask(config: RefineConfig, setup: ImagingSetup) -> tuple[F32, list[str]]:
    """Mask that flattens the reference after each iteration, and remarks about it."""
    if config.solvent_mask:
        from mpiapp.io.checks import check_mask
        from mpiapp.io.mrc import read_map

        mask, pixel_size = read_map(config.solvent_mask)
        shape = (setup.box,) * 3
        remarks = check_mask(mask, pixel_size, config.solvent_mask, shape, setup.pixel_size_A)
        return np.clip(mask, 0, 1), remarks
    if not config.flatten_solvent:
        return np.ones((setup.box,) * 3, np.float32), []
    radius = setup.particle_diameter_A / (2 * setup.pixel_size_A)
    return soft_sphere(setup.box, radius, setup.mask_edge), []


def make_reader(table_paths: list[Path]) -> ReadImages:
    """Function that reads images of the stacks as float32."""
    from mpiapp.io.stacks import ImageReader

    return ImageReader(table_paths).read
