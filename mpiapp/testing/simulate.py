"""Simulated data sets on disk: stacks, STAR files as a user would have them, and the truth beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.simulate import SimulateConfig
from mpiapp.errors import InputError
from mpiapp.testing.draws import ParticleTruth, draw_particles
from mpiapp.testing.images import ImageSimulator
from mpiapp.testing.maps import low_pass
from mpiapp.testing.objects import Log, SimulatedObjects, prepare_objects, silent
from mpiapp.testing.optics import SimulatedOptics

if TYPE_CHECKING:
    import pandas as pd

CHUNK_BYTES = 64_000_000


@dataclass(frozen=True)
class SimulatedDataset:
    """What was written, and the scale of it.

    Attributes
    ----------
    particles_star, truth_star : without and with the true poses
    references, truth_maps : one a class; the references low-passed
    diameter_A : of the particle
    noise_sigma : standard deviation of the noise by optics group, on the scale of the object
    image_scale : what images were divided by, on average: truth maps are divided by the same
    """

    folder: Path
    particles_star: Path
    truth_star: Path
    references: list[Path]
    truth_maps: list[Path]
    diameter_A: float
    pixel_size_A: float
    box: int
    noise_sigma: list[float]
    image_scale: float


def optics_groups(config: SimulateConfig) -> list[SimulatedOptics]:
    """Optics groups of a configuration whose boxes and pixel sizes are set."""
    tx, ty = config.beam_tilt_mrad
    # a quarter turn from group to group, as tilts of image-shift patterns differ
    tilts = [(tx, ty), (-ty, tx), (-tx, -ty), (ty, -tx)]
    return [
        SimulatedOptics(
            name=f"opticsGroup{group + 1}",
            pixel_size_A=config.of_group("pixel_size_A", group),
            box=config.of_group("box", group),
            voltage_kV=config.of_group("voltage_kV", group),
            cs_mm=config.of_group("cs_mm", group),
            amplitude_contrast=config.of_group("amplitude_contrast", group),
            beam_tilt_mrad=tilts[group % 4],
        )
        for group in range(config.n_groups)
    ]


def simulate(
    config: SimulateConfig, log: Log = silent, optics: list[SimulatedOptics] | None = None
) -> SimulatedDataset:
    """Simulate a data set and write it.

    Writes into ``config.output``: ``particles.star`` and ``truth.star`` (RELION 3.1 layout), the stack
    ``particles.mrcs`` (``particles_opticsGroupN.mrcs`` where groups differ in box or pixel size),
    ``truth_class001.mrc``..., ``reference_class001.mrc``... (low-passed) and ``simulation.json``. Image names
    begin with the folder as it was given, which is how RELION finds them from the folder the command ran in.

    Parameters
    ----------
    config : validated here
    log : receives lines for the user
    optics : optics groups with what the options do not reach (Zernike terms, magnification matrix); as many
        as ``config.n_groups``

    Raises
    ------
    ConfigError, InputError
        Options or files can not be used.
    """
    objects = prepare_objects(config.validate(), log)
    config = objects.config
    groups = optics or optics_groups(config)
    folder = _made(Path(config.output))
    simulator = ImageSimulator(objects, groups)
    truth = draw_particles(config, np.arange(config.n_particles))
    names, scale = _write_stacks(folder, simulator, truth)
    particles, truth_star = _write_tables(folder, config, groups, truth, names)
    references, maps = _write_maps(folder, objects, scale)
    dataset = SimulatedDataset(
        folder=folder,
        particles_star=particles,
        truth_star=truth_star,
        references=references,
        truth_maps=maps,
        diameter_A=config.diameter_A,
        pixel_size_A=objects.pixel_size_A,
        box=objects.box,
        noise_sigma=simulator.noise_sigma,
        image_scale=scale,
    )
    record = {"options": config.to_dict(), "noise_sigma": dataset.noise_sigma, "image_scale": scale}
    (folder / "simulation.json").write_text(json.dumps(record, indent=1) + "\n")
    log(f"{len(truth)} particles of {config.diameter_A:.0f} A in {folder}/")
    return dataset


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"--o {folder}: can not be made ({fault.strerror}); give another folder") from fault
    return folder


def _write_stacks(folder: Path, simulator: ImageSimulator, truth: ParticleTruth) -> tuple[list[str], float]:
    """Make all images and write them; the image names, and the mean of what images were divided by."""
    from mpiapp.io.mrc import write_stack

    names = [""] * len(truth)
    divided = np.ones(len(truth))
    for stem, members in _stacks(simulator.optics):
        rows = np.flatnonzero(np.isin(truth.group, members))
        optics = simulator.optics[members[0]]
        images = np.empty((len(rows), optics.box, optics.box), np.float32)
        step = max(1, CHUNK_BYTES // (16 * optics.box**2))
        for start in range(0, len(rows), step):
            piece = slice(start, start + step)
            images[piece], divided[rows[piece]] = _piece(simulator, truth.take(rows[piece]))
        path = folder / f"{stem}.mrcs"
        write_stack(path, images, optics.pixel_size_A, float16=simulator.config.float16)
        for place, row in enumerate(rows):
            names[row] = f"{place + 1:06d}@{path}"
    return names, float(divided.mean())


def _stacks(optics: list[SimulatedOptics]) -> list[tuple[str, list[int]]]:
    """File stems with the optics groups that share the stack: one if all groups have one geometry."""
    if len({(group.box, group.pixel_size_A) for group in optics}) == 1:
        return [("particles", list(range(len(optics))))]
    return [(f"particles_{group.name}", [index]) for index, group in enumerate(optics)]


def _piece(
    simulator: ImageSimulator, truth: ParticleTruth
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Images of particles of any groups of one geometry, in their order."""
    box = simulator.optics[int(truth.group[0])].box if len(truth) else 0
    images = np.empty((len(truth), box, box), np.float32)
    divided = np.empty(len(truth))
    for group in np.unique(truth.group):
        rows = np.flatnonzero(truth.group == group)
        images[rows], divided[rows] = simulator.noisy(truth.take(rows))
    return images, divided


def _write_tables(
    folder: Path,
    config: SimulateConfig,
    groups: list[SimulatedOptics],
    truth: ParticleTruth,
    names: list[str],
) -> tuple[Path, Path]:
    from mpiapp.io.star import write_star

    optics = optics_table(groups)
    known = particle_table(config, truth, names)
    hidden = known.assign(
        rlnAngleRot=truth.rot_deg,
        rlnAngleTilt=truth.tilt_deg,
        rlnAnglePsi=truth.psi_deg,
        rlnOriginXAngst=-truth.shift_A[:, 0],
        rlnOriginYAngst=-truth.shift_A[:, 1],
        rlnClassNumber=truth.class_index + 1,
        rlnGroupScaleCorrection=truth.scale,
    )
    paths = folder / "particles.star", folder / "truth.star"
    for path, table in zip(paths, (known, hidden), strict=True):
        write_star(path, {"optics": optics, "particles": table}, comment="simulated by mpiapp", exact=False)
    return paths


def optics_table(groups: list[SimulatedOptics]) -> pd.DataFrame:
    """RELION's optics table; optional columns only where a group needs them."""
    import pandas as pd

    columns: dict[str, Any] = {
        "rlnOpticsGroupName": [g.name for g in groups],
        "rlnOpticsGroup": np.arange(1, len(groups) + 1),
        "rlnVoltage": [g.voltage_kV for g in groups],
        "rlnSphericalAberration": [g.cs_mm for g in groups],
        "rlnAmplitudeContrast": [g.amplitude_contrast for g in groups],
        "rlnImagePixelSize": [g.pixel_size_A for g in groups],
        "rlnImageSize": [g.box for g in groups],
        "rlnImageDimensionality": np.full(len(groups), 2),
    }
    if any(g.beam_tilt_mrad != (0.0, 0.0) for g in groups):
        columns["rlnBeamTiltX"] = [float(g.beam_tilt_mrad[0]) for g in groups]
        columns["rlnBeamTiltY"] = [float(g.beam_tilt_mrad[1]) for g in groups]
    if any(g.even_zernike for g in groups):
        columns["rlnEvenZernike"] = [_vector(g.even_zernike) for g in groups]
    if any(g.odd_zernike for g in groups):
        columns["rlnOddZernike"] = [_vector(g.odd_zernike) for g in groups]
    if any(g.mag_matrix != (1.0, 0.0, 0.0, 1.0) for g in groups):
        for i, name in enumerate(("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")):
            columns[name] = [float(g.mag_matrix[i]) for g in groups]
    return pd.DataFrame(columns)


def _vector(values: tuple[float, ...]) -> str:
    return "[" + ",".join(f"{v:.12g}" for v in values or (0.0,)) + "]"


def particle_table(config: SimulateConfig, truth: ParticleTruth, names: list[str]) -> pd.DataFrame:
    """RELION's particles table as after extraction: places, image names and CTF, no poses."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "rlnCoordinateX": truth.coordinate_px[:, 0],
            "rlnCoordinateY": truth.coordinate_px[:, 1],
            "rlnImageName": names,
            "rlnMicrographName": [f"mic{number + 1:05d}.mrc" for number in truth.micrograph],
            "rlnOpticsGroup": truth.group + 1,
        }
    )
    if not config.ctf:
        return table
    table["rlnDefocusU"] = truth.defocus_u_A
    table["rlnDefocusV"] = truth.defocus_v_A
    table["rlnDefocusAngle"] = truth.defocus_angle_deg
    if config.phase_shift_deg != (0.0, 0.0):
        table["rlnPhaseShift"] = truth.phase_shift_deg
    if config.ctf_bfactor_A2 > 0:
        table["rlnCtfBfactor"] = np.full(len(table), config.ctf_bfactor_A2)
    return table


def _write_maps(folder: Path, objects: SimulatedObjects, scale: float) -> tuple[list[Path], list[Path]]:
    """Low-passed references and true maps, on the scale of the images."""
    from mpiapp.io.mrc import write_map

    references, maps = [], []
    for index, volume in enumerate(objects.volumes):
        scaled = (volume / scale).astype(np.float32)
        smooth = low_pass(scaled, objects.pixel_size_A, objects.config.low_pass_A)
        maps.append(folder / f"truth_class{index + 1:03d}.mrc")
        references.append(folder / f"reference_class{index + 1:03d}.mrc")
        write_map(maps[-1], scaled, objects.pixel_size_A)
        write_map(references[-1], smooth, objects.pixel_size_A)
    return references, maps
