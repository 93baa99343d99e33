"""RELION's model file: spectra, noise, scales and orientation distribution of one half set (or of all).

The tables are those of RELION 3.1.3. Noise spectra are written twice: one table per micrograph group
(``model_group_N``, all that 3.1 reads) and one per optics group (``model_optics_group_N``, RELION 4 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpiapp.io.relion_tables import FINE_GRID
from mpiapp.io.star_table import Table

LARGEST = 999.0  # RELION's stand-in for infinity: resolution of shell 0, signal without noise


@dataclass(kw_only=True)
class ClassRecord:
    """One reference. Spectra are (n_shells,) float64 with n_shells = box // 2 + 1, shell 0 first.

    Attributes
    ----------
    map_path : Path
        Reference map, named as seen from the project folder.
    data_vs_prior, fsc, completeness, sigma2, tau2, orientability : ndarray
        SSNR of the map, FSC of the halves, fraction of filled voxels, noise and signal power, and how much
        each shell contributes to telling orientations apart.
    orientation_distribution : ndarray (n_directions,) float64
        Probability of every direction of the sampling file, in its order; empty for 2D references.
    """

    map_path: Path
    data_vs_prior: np.ndarray
    fsc: np.ndarray
    completeness: np.ndarray
    sigma2: np.ndarray
    tau2: np.ndarray
    orientability: np.ndarray
    orientation_distribution: np.ndarray
    distribution: float = 1.0
    accuracy_rot_deg: float = LARGEST
    accuracy_trans_A: float = LARGEST
    resolution_A: float = LARGEST
    overall_completeness: float = 0.0
    offset_prior_A: tuple[float, float] = (0.0, 0.0)  # mean offset of a class average


@dataclass(kw_only=True)
class ModelRecord:
    """All that a model file holds.

    Attributes
    ----------
    sigma2_noise : ndarray (n_optics, n_shells) float64
        Noise power per optics group, in RELION's normalisation (FFT divided by the number of pixels). No rows
        when a file of RELION 3.1 was read, which keeps noise by micrograph group only.
    group_names, group_sizes, group_scales
        Micrograph groups: names, number of particles, (n_groups,) float64 scale corrections.
    group_sigma2_noise : ndarray (n_groups, n_shells) float64
        Noise power per micrograph group; make it with `noise_of_groups`. No rows where a file has none.
    prior_mode : int
        0 without priors on orientations, 1 with Gaussian ones on rot, tilt and psi (local searches).
    """

    box: int
    pixel_size_A: float
    current_size: int
    current_resolution_A: float
    classes: list[ClassRecord]
    sigma2_noise: np.ndarray
    group_names: list[str]
    group_sizes: np.ndarray
    group_scales: np.ndarray
    group_sigma2_noise: np.ndarray
    padding_factor: float = 2.0
    tau2_fudge: float = 1.0
    norm_correction_average: float = 1.0
    sigma_offset_A: float = 10.0
    prior_mode: int = 0
    sigma_rot_deg: float = 0.0
    sigma_tilt_deg: float = 0.0
    sigma_psi_deg: float = 0.0
    log_likelihood: float = 0.0
    average_pmax: float = 0.0
    reference_dimensionality: int = 3
    min_radius_nn: int = 10

    @property
    def n_shells(self) -> int:
        """Number of resolution shells, 0 to Nyquist."""
        return self.box // 2 + 1


# Scalars of data_model_general in RELION's order: label, attribute, type.
GENERAL: tuple[tuple[str, str, type], ...] = (
    ("rlnReferenceDimensionality", "reference_dimensionality", int),
    ("rlnOriginalImageSize", "box", int),
    ("rlnCurrentResolution", "current_resolution_A", float),
    ("rlnCurrentImageSize", "current_size", int),
    ("rlnPaddingFactor", "padding_factor", float),
    ("rlnMinRadiusNnInterpolation", "min_radius_nn", int),
    ("rlnPixelSize", "pixel_size_A", float),
    ("rlnTau2FudgeFactor", "tau2_fudge", float),
    ("rlnNormCorrectionAverage", "norm_correction_average", float),
    ("rlnSigmaOffsetsAngst", "sigma_offset_A", float),
    ("rlnOrientationalPriorMode", "prior_mode", int),
    ("rlnSigmaPriorRotAngle", "sigma_rot_deg", float),
    ("rlnSigmaPriorTiltAngle", "sigma_tilt_deg", float),
    ("rlnSigmaPriorPsiAngle", "sigma_psi_deg", float),
    ("rlnLogLikelihood", "log_likelihood", float),
    ("rlnAveragePmax", "average_pmax", float),
)

# Columns of data_model_class_N after the three of the resolution axis.
SPECTRA: tuple[tuple[str, str], ...] = (
    ("rlnSsnrMap", "data_vs_prior"),
    ("rlnGoldStandardFsc", "fsc"),
    ("rlnFourierCompleteness", "completeness"),
    ("rlnReferenceSigma2", "sigma2"),
    ("rlnReferenceTau2", "tau2"),
    ("rlnSpectralOrientabilityContribution", "orientability"),
)


def noise_of_groups(sigma2_noise: np.ndarray, group_optics: np.ndarray) -> np.ndarray:
    """Noise spectra of the micrograph groups from those of the optics groups.

    Parameters
    ----------
    sigma2_noise : (n_optics, n_shells) float64
    group_optics : (n_groups,) int
        Optics group of each micrograph group, counted from 0.
    """
    return np.asarray(sigma2_noise, dtype=np.float64)[np.asarray(group_optics, dtype=np.int64)]


def write_model(path: str | Path, model: ModelRecord) -> None:
    """Write a model file (atomic).

    Raises
    ------
    ValueError
        When the arrays of the record do not fit together.
    """
    from mpiapp.io.star import write_star

    _check_shapes(model)
    blocks: dict[str, Any] = {"model_general": _general(model), "model_classes": _classes(model)}
    for number, record in enumerate(model.classes, start=1):
        blocks[f"model_class_{number}"] = _spectra(model, record)
    blocks["model_groups"] = _groups(model)
    for name, noise in (("group", model.group_sigma2_noise), ("optics_group", model.sigma2_noise)):
        for number, spectrum in enumerate(noise, start=1):
            blocks[f"model_{name}_{number}"] = _noise(model, spectrum)
    if model.reference_dimensionality == 3:
        for number, record in enumerate(model.classes, start=1):
            blocks[f"model_pdf_orient_class_{number}"] = _table(
                rlnOrientationDistribution=record.orientation_distribution
            )
    exact = {label for block in blocks.values() for label in block}
    if max((len(record.orientation_distribution) for record in model.classes), default=0) > FINE_GRID:
        exact -= {"rlnOrientationDistribution"}
    write_star(path, blocks, exact=exact)


def _check_shapes(model: ModelRecord) -> None:
    """A record that does not fit together is a fault of the program: name the array before writing."""
    n_groups, n_shells = len(model.group_names), model.n_shells
    expected: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
        "group_sizes": (model.group_sizes, (n_groups,)),
        "group_scales": (model.group_scales, (n_groups,)),
        "sigma2_noise": (model.sigma2_noise, (len(model.sigma2_noise), n_shells)),
        "group_sigma2_noise": (model.group_sigma2_noise, (n_groups, n_shells)),
    }
    for number, record in enumerate(model.classes, start=1):
        for _, name in SPECTRA:
            expected[f"{name} of class {number}"] = (getattr(record, name), (n_shells,))
    for name, (array, shape) in expected.items():
        if np.shape(array) != shape:
            raise ValueError(f"model record: {name} has shape {np.shape(array)}, expected {shape}")


def _general(model: ModelRecord) -> dict[str, Any]:
    block: dict[str, Any] = {label: kind(getattr(model, name)) for label, name, kind in GENERAL}
    block["rlnDataDimensionality"] = 2
    block["rlnIsHelix"] = 0
    block["rlnFourierSpaceInterpolator"] = 1  # linear
    block["rlnNrClasses"] = len(model.classes)
    block["rlnNrBodies"] = 1
    block["rlnNrGroups"] = len(model.group_names)
    block["rlnNrOpticsGroups"] = len(model.sigma2_noise)
    return block


def _classes(model: ModelRecord) -> Table:
    records = model.classes
    centre = {}
    if model.reference_dimensionality == 2:
        x, y = np.array([record.offset_prior_A for record in records], dtype=float).T
        centre = {"rlnClassPriorOffsetX": x, "rlnClassPriorOffsetY": y}
    return _table(
        rlnReferenceImage=[str(record.map_path) for record in records],
        rlnClassDistribution=_each(records, "distribution"),
        rlnAccuracyRotations=_each(records, "accuracy_rot_deg"),
        rlnAccuracyTranslationsAngst=_each(records, "accuracy_trans_A"),
        rlnEstimatedResolution=_each(records, "resolution_A"),
        rlnOverallFourierCompleteness=_each(records, "overall_completeness"),
        **centre,
    )


def _each(records: list[ClassRecord], name: str) -> np.ndarray:
    return np.array([float(getattr(record, name)) for record in records])


def _spectra(model: ModelRecord, record: ClassRecord) -> Table:
    shell = np.arange(model.n_shells)
    resolution = shell / (model.box * model.pixel_size_A)
    spacing = np.full(model.n_shells, LARGEST)
    spacing[1:] = 1.0 / resolution[1:]
    # Rounded, because these two only label the rows; the spectra keep every digit.
    columns: dict[str, Any] = {"rlnSpectralIndex": shell, "rlnResolution": resolution.round(6)}
    columns["rlnAngstromResolution"] = spacing.round(6)
    for label, name in SPECTRA:
        columns[label] = np.asarray(getattr(record, name), dtype=np.float64)
    columns["rlnSsnrMap"] = np.minimum(columns["rlnSsnrMap"], LARGEST)
    return _table(**columns)


def _groups(model: ModelRecord) -> Table:
    return _table(
        rlnGroupNumber=np.arange(1, len(model.group_names) + 1),
        rlnGroupName=list(model.group_names),
        rlnGroupNrParticles=np.asarray(model.group_sizes, dtype=np.int64),
        rlnGroupScaleCorrection=np.asarray(model.group_scales, dtype=np.float64),
    )


def _noise(model: ModelRecord, spectrum: np.ndarray) -> Table:
    shell = np.flatnonzero(np.asarray(spectrum) > 0)
    return _table(
        rlnSpectralIndex=shell,
        rlnResolution=(shell / (model.box * model.pixel_size_A)).round(6),
        rlnSigma2Noise=np.asarray(spectrum, dtype=np.float64)[shell],
    )


def _table(**columns: Any) -> Table:
    return Table(columns)
