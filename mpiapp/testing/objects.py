"""The maps that a simulated data set is made from: given, computed from atomic models, or built in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.simulate import SimulateConfig
from mpiapp.errors import InputError
from mpiapp.testing.maps import apply_bfactor, resample, resize, symmetrise
from mpiapp.testing.phantoms import protein_phantom
from mpiapp.testing.points import density

DEFAULT_BOX = 64
DEFAULT_PIXEL_A = 3.5
MODEL_BFACTOR_A2 = 100.0
# boxes made to measure are this much larger than the particle
ROOM = 1.4
# a map whose average over the point group resembles it less than this lies on other axes
SYMMETRIC_ENOUGH = 0.9

Log = Callable[[str], None]


def silent(_: str) -> None:
    """A log that says nothing."""


@dataclass(frozen=True)
class SimulatedObjects:
    """Maps to project, all with one box and pixel size, and the configuration with its open values filled in.

    Attributes
    ----------
    volumes : each (box, box, box) float32
    config : box, pixel_size_A and diameter_A are set
    """

    volumes: list[NDArray[np.float32]]
    config: SimulateConfig

    @property
    def pixel_size_A(self) -> float:
        """Pixel size of the maps: that of the first optics group."""
        return float(self.config.pixel_size_A[0])

    @property
    def box(self) -> int:
        """Box of the maps: that of the first optics group."""
        return int(self.config.box[0])


def group_operators(symmetry: str) -> NDArray[np.float64]:
    """Rotations of a point group, the identity among them, (g, 3, 3) float64."""
    from mpiapp.model.symmetry import point_group

    return np.asarray(point_group(symmetry).operators, dtype=np.float64)


def prepare_objects(config: SimulateConfig, log: Log = silent) -> SimulatedObjects:
    """Read or build the maps of all classes and bring them to one box and pixel size.

    Raises
    ------
    InputError
        A file is missing or malformed.
    ConfigError
        gemmi is missing, or options do not fit together.
    """
    if config.maps or config.models:
        return _from_files(config, log)
    return _phantoms(config)


def _phantoms(config: SimulateConfig) -> SimulatedObjects:
    config = _filled(config, DEFAULT_BOX, DEFAULT_PIXEL_A)
    extent = config.box[0] * config.pixel_size_A[0]
    diameter = config.diameter_A or 0.75 * extent
    config = dataclasses.replace(config, diameter_A=diameter).validate()
    operators = group_operators(config.symmetry)
    volumes = [
        density(
            protein_phantom(diameter, config.seed, operators, variant),
            config.box[0],
            config.pixel_size_A[0],
            _bfactor(config, MODEL_BFACTOR_A2),
        )
        for variant in range(config.n_classes)
    ]
    return SimulatedObjects(volumes, config)


def _from_files(config: SimulateConfig, log: Log) -> SimulatedObjects:
    volumes: list[NDArray[np.float32]] = []
    diameters = [config.diameter_A] if config.diameter_A else []
    for path in config.maps:
        volume, config = _from_map(path, config)
        volumes.append(volume)
        diameters.append(config.diameter_A or measured_diameter_A(volume, config.pixel_size_A[0]))
    for path in config.models:
        volume, config, diameter = _from_model(path, config)
        volumes.append(volume)
        diameters.append(config.diameter_A or diameter)
    extent = min(b * p for b, p in _geometries(config))
    config = dataclasses.replace(config, diameter_A=min(max(diameters), extent)).validate()
    if config.symmetry.upper() != "C1":
        volumes = [_symmetrised(volume, config.symmetry, log) for volume in volumes]
    return SimulatedObjects(volumes, config)


def _from_map(path: str, config: SimulateConfig) -> tuple[NDArray[np.float32], SimulateConfig]:
    from mpiapp.io.mrc import read_map

    volume, pixel_A = read_map(path)
    if volume.ndim != 3:
        raise InputError(f"{path}: expected a 3D map, found an array of {volume.ndim} dimensions")
    if not np.isfinite(volume).all():
        raise InputError(f"{path}: holds values that are not numbers (NaN or infinite); repair the map")
    if not pixel_A > 0:
        raise InputError(f"{path}: no pixel size in the header; write one into it")
    side = max(volume.shape)
    volume = resize(volume, side + side % 2)
    config = _filled(config, volume.shape[0], round(float(pixel_A), 6))
    if abs(config.pixel_size_A[0] / pixel_A - 1) > 1e-4:
        volume = resample(volume, pixel_A, config.pixel_size_A[0])
    volume = resize(volume, config.box[0])
    bfactor = _bfactor(config, 0.0)
    return (apply_bfactor(volume, config.pixel_size_A[0], bfactor) if bfactor else volume), config


def _from_model(path: str, config: SimulateConfig) -> tuple[NDArray[np.float32], SimulateConfig, float]:
    from mpiapp.testing.atoms import read_model

    model = read_model(path)
    diameter = 2.0 * model.radius_A + 6.0
    pixel = config.pixel_size_A[0] if config.pixel_size_A else DEFAULT_PIXEL_A
    config = _filled(config, 2 * math.ceil(ROOM * diameter / pixel / 2), pixel)
    extent = config.box[0] * config.pixel_size_A[0]
    if 2.0 * model.radius_A > extent:
        raise InputError(
            f"{path}: the model is {2 * model.radius_A:.0f} A across, more than the box of {extent:.0f} A; "
            "enlarge --box or --angpix"
        )
    return (
        density(model, config.box[0], config.pixel_size_A[0], _bfactor(config, MODEL_BFACTOR_A2)),
        config,
        diameter,
    )


def _filled(config: SimulateConfig, box: int, pixel_A: float) -> SimulateConfig:
    """The configuration with box and pixel size set where they were left open."""
    return dataclasses.replace(
        config, box=config.box or (box,), pixel_size_A=config.pixel_size_A or (pixel_A,)
    ).validate()


def _bfactor(config: SimulateConfig, automatic: float) -> float:
    return automatic if config.bfactor_A2 is None else config.bfactor_A2


def _geometries(config: SimulateConfig) -> list[tuple[int, float]]:
    return [(config.of_group("box", g), config.of_group("pixel_size_A", g)) for g in range(config.n_groups)]


def _symmetrised(volume: NDArray[np.float32], symmetry: str, log: Log) -> NDArray[np.float32]:
    average, likeness = symmetrise(volume, group_operators(symmetry))
    if likeness < SYMMETRIC_ENOUGH:
        log(
            f"WARNING: the map correlates with its average over {symmetry} by {likeness:.2f} only; "
            "its symmetry axes probably lie elsewhere"
        )
    return average


def measured_diameter_A(volume: NDArray[np.float32], pixel_size_A: float, share: float = 0.995) -> float:
    """Diameter of the sphere about the box centre that holds a share of the squared density."""
    box = volume.shape[0]
    axis = np.arange(box) - box // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    power = np.bincount(radius.astype(np.int64).ravel(), weights=np.square(volume, dtype=np.float64).ravel())
    total = np.cumsum(power)
    return float(2 * pixel_size_A * (1 + np.searchsorted(total, share * total[-1])))
