"""Reconstruction from particles with known poses, on any number of processes."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, ImageOptions, ImagingSetup
from mpiapp.backend.map_memory import LEAST, reconstruction_items
from mpiapp.backend.memory import total
from mpiapp.config.reconstruct import ReconstructConfig
from mpiapp.engine.backends import check_devices, start_backend
from mpiapp.engine.faults import named_faults
from mpiapp.engine.inputs import initial_poses, make_reader, optics_models, particle_data
from mpiapp.errors import DeviceError, InputError
from mpiapp.io.atomic import check_writable
from mpiapp.model.arrays import to_host
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.reconstruct import hermitian_sum, real_space_map, wiener
from mpiapp.model.symmetry import point_group
from mpiapp.parallel.base import Team
from mpiapp.report import log
from mpiapp.report.progress import Progress

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
FIGURE_OF_MERIT = "rlnParticleFigureOfMerit"


def reconstruct(config: ReconstructConfig | None = None, **options: Any) -> F32 | None:
    """Reconstruct a map and write it; all processes call this.

    Parameters
    ----------
    config : all options; or give them by name, as in ``reconstruct(i="particles.star", ctf=True)``

    Returns
    -------
    The map (z, y, x) on the leader, None elsewhere.

    Raises
    ------
    InputError, ConfigError, DeviceError
        Before any work starts.
    """
    from mpiapp.parallel.runtime import session

    if config is None:
        config = ReconstructConfig.from_options(options)
    config.validate()
    with session(n_sets=1) as team, named_faults():
        log.setup(config.verb, rank=team.rank)
        try:
            return _run(team, config)
        finally:
            log.close()


def _run(team: Team, config: ReconstructConfig) -> F32 | None:
    from mpiapp.io.checks import check_particles, check_poses
    from mpiapp.io.mrc import write_map
    from mpiapp.io.particles import read_particles

    begun = time.monotonic()
    if team.is_leader:
        log.emit(log.options(config))
    check_devices(team, config)
    check_writable(config.output)
    table = read_particles(config.input_star, root=config.root or None)
    check_poses(table)
    if team.is_leader:
        for line in check_particles(table, ctf=config.ctf, split_halves=False):
            log.warn(line)
    threads = config.threads or team.threads
    setup = _setup(config, table)
    rows, weights = _chosen(config, table)
    poses = _with_errors(config, initial_poses(table).take(rows))
    data = particle_data(table, config.ctf).take(rows)
    r_max = setup.box // 2
    if config.maxres > 0:
        r_max = min(r_max, int(np.ceil(setup.box * setup.pixel_size_A / config.maxres)))
    team.assign([len(data)] if team.is_leader else None)
    backend = start_backend(team, config, threads)
    grid = _sums(team, backend, config, setup, r_max, data, poses, weights, table)
    volume: F32 | None = None if grid is None else finish(backend, grid, setup, threads)
    volume = team.to_leader(0, volume)
    if volume is None:
        return None
    write_map(config.output, volume, setup.pixel_size_A)
    log.emit(
        [
            f" {config.output}: {rows.size} particles, box {setup.box} of {setup.pixel_size_A:.4g} A, to "
            f"{setup.box * setup.pixel_size_A / r_max:.4g} A, in {time.monotonic() - begun:.1f} s"
        ]
    )
    return volume


def _setup(config: ReconstructConfig, table: ParticleTable) -> ImagingSetup:
    first = table.optics[0]
    pixel = config.angpix if config.angpix > 0 else first.pixel_size_A
    # another pixel size keeps the field of view; boxes are even
    box = first.box if config.angpix <= 0 else 2 * round(first.box * first.pixel_size_A / pixel / 2)
    optics = optics_models(table, box, pixel)
    if not config.ctf:
        # without the CTF, images are taken as they are, as in RELION
        optics = [dataclasses.replace(group, even_zernike=(), odd_zernike=()) for group in optics]
    return ImagingSetup(
        box,
        pixel,
        config.pad,
        box * pixel,
        0.0,
        True,
        optics,
        len(table.group_names),
        point_group(config.sym),
        config.random_seed,
    )


def _chosen(config: ReconstructConfig, table: ParticleTable) -> tuple[NDArray[np.int64], F64 | None]:
    """Rows that take part, and their weights."""
    keep = np.ones(len(table), bool)
    for flag, label, wanted, values in (
        ("subset", "rlnRandomSubset", config.subset, table.half),
        ("class", "rlnClassNumber", config.class_number, table.class_number),
    ):
        if wanted < 0:
            continue
        if label not in table.frame:
            raise InputError(f"{table.path}: no column _{label}, which --{flag} {wanted} needs")
        keep &= values == wanted
        if not keep.any():
            raise InputError(f"{table.path}: no particle has {label} {wanted}; correct --{flag}")
    rows = np.flatnonzero(keep)
    if not config.fom_weighting:
        return rows, None
    if FIGURE_OF_MERIT not in table.frame:
        raise InputError(f"{table.path}: no column _{FIGURE_OF_MERIT}, which --fom_weighting needs")
    return rows, np.asarray(table.frame[FIGURE_OF_MERIT], float)[rows]


def _with_errors(config: ReconstructConfig, poses: Poses) -> Poses:
    """Poses with random errors added, to see what they cost."""
    rng = np.random.default_rng(config.random_seed)
    angles = rng.normal(0, config.angular_error, (3, poses.rot_deg.size)) if config.angular_error else 0.0
    shifts = rng.normal(0, config.shift_error, poses.origin_A.shape) if config.shift_error else 0.0
    rot, tilt, psi = np.stack([poses.rot_deg, poses.tilt_deg, poses.psi_deg]) + angles
    return dataclasses.replace(
        poses, rot_deg=rot, tilt_deg=tilt, psi_deg=psi, origin_A=poses.origin_A + shifts
    )


def _sums(
    team: Team,
    backend: Backend,
    config: ReconstructConfig,
    setup: ImagingSetup,
    r_max: int,
    data: ParticleData,
    poses: Poses,
    weights: F64 | None,
    table: ParticleTable,
) -> Any:
    """Sums over the particles of all processes, where the first of them computes; None elsewhere."""
    ranges = team.my_ranges()
    grid: Any = None
    if 0 in ranges:
        mine = np.arange(*ranges[0])
        images = ImageOptions(
            config.ctf,
            config.ctf_phase_flipped,
            config.only_flip_phases,
            config.ctf_intact_first_peak,
            config.keep_corners,
        )
        shown = config.verb > 0 and team.is_root(0)
        with Progress("Back-projection", mine.size, shown=shown) as progress:
            grid, n_bad = backend.back_project(
                setup,
                r_max,
                data.take(mine),
                poses.take(mine),
                make_reader(table.stack_paths),
                images,
                weights=None if weights is None else weights[mine],
                step=progress.advance,
            )
        if n_bad:
            log.warn(f"{n_bad} images hold NaN or infinity and were left out")
    return backend.reduce_grid(team, 0, grid)


def finish(backend: Backend, grid: Any, setup: ImagingSetup, threads: int) -> F32:
    """Map from the sums; on processors where the memory of a device suffices for the sums only."""
    hermitian_sum(grid)
    try:
        return _map(backend, grid, setup, threads)
    except DeviceError as fault:
        from mpiapp.backend.cpu import CpuBackend

        log.warn(f"{fault}. The map is made from its sums on processors.")
    return _map(CpuBackend(threads), to_host(grid)[..., :3].astype(np.float64), setup, threads)


def _map(backend: Backend, grid: Any, setup: ImagingSetup, threads: int) -> F32:
    """Symmetry, division by the weights, back to real space."""
    whole = backend.symmetrise(grid, setup.group, setup.padding)

    def work() -> F32:
        transform = wiener(whole, None, setup.padding, workers=threads)
        volume: F32 = to_host(real_space_map(transform, setup.box, setup.padding, workers=threads))
        return volume

    needs = total(
        reconstruction_items(setup.box, setup.padding, symmetric=setup.group.order > 1, memory=LEAST)
    )
    return backend.within_memory(f"the reconstruction of a map of {setup.box} px", work, needs)
