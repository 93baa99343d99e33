"""From files to arrays: particles, references and masks of a job, checked before any work."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup, ReadImages
from mpiapp.config.classify import Class2dConfig
from mpiapp.config.common import CommonConfig, VolumeConfig
from mpiapp.engine.references import read_averages, read_maps
from mpiapp.errors import InputError
from mpiapp.model.aberrations import fold_beam_tilt
from mpiapp.model.averages import lowpass_average
from mpiapp.model.ctf import ctf_coefficients
from mpiapp.model.filters import lowpass_map
from mpiapp.model.fourier import resample_map
from mpiapp.model.masks import soft_circle, soft_sphere
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
    half: NDArray[np.int8]  # 1 or 2; all 1 without halves
    references: F32  # (n, box, box[, box]); n = 0 where there is none
    solvent: F32  # mask that flattens a reference, all 1 for none
    warnings: list[str]


def resolve_seed(config: CommonConfig) -> int:
    """Seed of the run: as asked, or from the time."""
    return config.random_seed if config.random_seed >= 0 else int(time.time()) % (2**31)


def read_inputs(
    config: CommonConfig, seed: int, references: tuple[F32, float] | None = None, *, split: bool
) -> Inputs:
    """Read and check everything that a job starts from.

    Parameters
    ----------
    references : those of a run that goes on, and their pixel size; the start map is not needed then
    split : whether the particles are divided into halves

    Raises
    ------
    InputError
        The first problems found, with file, row, column and remedy.
    """
    from mpiapp.io.checks import check_particles
    from mpiapp.io.particles import read_particles

    with ThreadPoolExecutor(1) as beside:  # maps are read and looked at meanwhile
        reading = beside.submit(_read_references, config, references)
        table = read_particles(config.input_star, root=config.root or None)
    volumes, pixel_size, remarks = reading.result()
    warnings = check_particles(
        table,
        volumes.shape[1:] if len(volumes) else None,
        pixel_size,
        reference_path=config.reference or config.continue_from,
        trust_reference=isinstance(config, VolumeConfig) and config.trust_ref_size,
        diameter_A=config.particle_diameter if config.particle_diameter > 0 else None,
        ctf=config.ctf,
        split_halves=split,
    )
    volumes, box, pixel_size = _fit_references(config, table, volumes, pixel_size)
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
        point_group(getattr(config, "sym", "C1")),
        seed,
    )
    with ThreadPoolExecutor(1) as beside:
        masking = beside.submit(solvent_mask, config, setup)
        if config.ini_high > 0 and references is None:
            volumes = _lowpass(volumes, pixel_size, config.ini_high)
    solvent, more = masking.result()
    return Inputs(
        table,
        setup,
        particle_data(table, config.ctf),
        initial_poses(table),
        split_halves(table, seed) if split else np.ones(len(table), np.int8),
        np.ascontiguousarray(volumes, np.float32),
        solvent,
        [*remarks, *warnings, *more],
    )


def _read_references(config: CommonConfig, given: tuple[F32, float] | None) -> tuple[F32, float, list[str]]:
    if given is not None:
        return *given, []
    if isinstance(config, VolumeConfig):
        return read_maps(config.reference, config.ref_angpix)
    if config.reference:
        return read_averages(config.reference)
    return np.zeros((0, 0, 0), np.float32), 0.0, []


def _fit_references(
    config: CommonConfig, table: ParticleTable, references: F32, pixel_size: float
) -> tuple[F32, int, float]:
    """The references on the box and pixel size of the first optics group."""
    first = table.optics[0]
    if not len(references):
        return np.zeros((0, first.box, first.box), np.float32), first.box, first.pixel_size_A
    box = references.shape[-1]
    same = box == first.box and abs(pixel_size - first.pixel_size_A) <= 0.001
    trusted = isinstance(config, VolumeConfig) and config.trust_ref_size
    if pixel_size <= 0 or same or not trusted:
        return references, box, first.pixel_size_A
    fitted = [resample_map(v, pixel_size, first.pixel_size_A, first.box) for v in references]
    return np.asarray(fitted, np.float32), first.box, first.pixel_size_A


def _lowpass(references: F32, pixel_size_A: float, resolution_A: float) -> F32:
    """Low-pass filtered references, maps or averages."""
    if references.ndim == 4:
        return np.asarray(
            [lowpass_map(v, pixel_size_A, resolution_A, workers=-1) for v in references], np.float32
        )
    return np.asarray([lowpass_average(v, pixel_size_A, resolution_A) for v in references], np.float32)


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


def solvent_mask(config: CommonConfig, setup: ImagingSetup) -> tuple[F32, list[str]]:
    """Mask that flattens a reference after each iteration, and remarks about it."""
    ndim = 2 if isinstance(config, Class2dConfig) else 3
    shape = (setup.box,) * ndim
    if config.solvent_mask:
        from mpiapp.io.checks import check_mask
        from mpiapp.io.mrc import read_map

        mask, pixel_size = read_map(config.solvent_mask)
        mask = mask[0] if ndim == 2 and len(mask) == 1 else mask
        remarks = check_mask(mask, pixel_size, config.solvent_mask, shape, setup.pixel_size_A)
        return np.clip(mask, 0, 1), remarks
    if not config.flatten_solvent:
        return np.ones(shape, np.float32), []
    radius = setup.particle_diameter_A / (2 * setup.pixel_size_A)
    soft = soft_circle if ndim == 2 else soft_sphere
    return soft(setup.box, radius, setup.mask_edge), []


def make_reader(table_paths: list[Path]) -> ReadImages:
    """Reader of the images of the stacks."""
    from mpiapp.io.stacks import ImageReader

    return ImageReader(table_paths)
