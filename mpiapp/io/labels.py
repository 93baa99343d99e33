"""The one table RELION label <-> our names, with types, units and defaults.

Labels are written without the leading underscore. Source: RELION's label list, 3.0 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How the text of a cell is understood."""

    TEXT = "text"
    INT = "whole number"
    FLOAT = "number"
    AUTO = "as found"


@dataclass(frozen=True)
class Column:
    """One column that the program uses: RELION label, name inside, type, unit, value when absent."""

    label: str
    field: str
    kind: Kind
    unit: str
    default: float


PARTICLE_COLUMNS: tuple[Column, ...] = (
    Column("rlnAngleRot", "rot_deg", Kind.FLOAT, "deg", 0.0),
    Column("rlnAngleTilt", "tilt_deg", Kind.FLOAT, "deg", 0.0),
    Column("rlnAnglePsi", "psi_deg", Kind.FLOAT, "deg", 0.0),
    Column("rlnOriginXAngst", "origin_x_A", Kind.FLOAT, "A", 0.0),
    Column("rlnOriginYAngst", "origin_y_A", Kind.FLOAT, "A", 0.0),
    Column("rlnDefocusU", "defocus_u_A", Kind.FLOAT, "A", 0.0),
    Column("rlnDefocusV", "defocus_v_A", Kind.FLOAT, "A", 0.0),
    Column("rlnDefocusAngle", "defocus_angle_deg", Kind.FLOAT, "deg", 0.0),
    Column("rlnPhaseShift", "phase_shift_deg", Kind.FLOAT, "deg", 0.0),
    Column("rlnCtfBfactor", "ctf_bfactor_A2", Kind.FLOAT, "A^2", 0.0),
    Column("rlnCtfScalefactor", "ctf_scale", Kind.FLOAT, "", 1.0),
    Column("rlnNormCorrection", "norm_correction", Kind.FLOAT, "", 1.0),
    Column("rlnClassNumber", "class_number", Kind.INT, "", 0),
    Column("rlnRandomSubset", "half", Kind.INT, "", 0),
)
"""Columns of data_particles that become arrays of ParticleTable (besides names and optics group)."""

PIXEL_SIZE_LABELS = ("rlnImagePixelSize", "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
"""Where the pixel size of an optics group is looked up, in this order."""

LEGACY_GROUP_LABELS = (
    "rlnAmplitudeContrast",
    "rlnBeamTiltX",
    "rlnBeamTiltY",
    "rlnSphericalAberration",
    "rlnVoltage",
    "rlnDetectorPixelSize",
    "rlnMagnification",
)
"""RELION 3.0 columns whose equal values make one optics group."""

LEGACY_SHIFTS = {
    "rlnOriginX": "rlnOriginXAngst",
    "rlnOriginY": "rlnOriginYAngst",
    "rlnOriginZ": "rlnOriginZAngst",
    "rlnOriginXPrior": "rlnOriginXPriorAngst",
    "rlnOriginYPrior": "rlnOriginYPriorAngst",
    "rlnOriginZPrior": "rlnOriginZPriorAngst",
    "rlnHelicalTrackLength": "rlnHelicalTrackLengthAngst",
}
"""RELION 3.0 columns in pixels, and what they are called in angstrom since 3.1."""

_FLOAT_LABELS = frozenset(
    {c.label for c in PARTICLE_COLUMNS if c.kind is Kind.FLOAT}
    | set(PIXEL_SIZE_LABELS)
    | set(LEGACY_GROUP_LABELS)
    | set(LEGACY_SHIFTS)
    | set(LEGACY_SHIFTS.values())
    | {"rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnAutopickFigureOfMerit"}
    | {"rlnAngleRotPrior", "rlnAngleTiltPrior", "rlnAnglePsiPrior", "rlnAnglePsiFlipRatio"}
    | {"rlnCtfMaxResolution", "rlnCtfFigureOfMerit", "rlnCtfAstigmatism", "rlnParticleFigureOfMerit"}
    | {"rlnLogLikeliContribution", "rlnMaxValueProbDistribution", "rlnPixelSize", "rlnResolution"}
    | {"rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11", "rlnAngstromResolution"}
)

_INT_LABELS = frozenset(
    {c.label for c in PARTICLE_COLUMNS if c.kind is Kind.INT}
    | {"rlnOpticsGroup", "rlnImageSize", "rlnImageDimensionality", "rlnGroupNumber", "rlnBeamTiltClass"}
    | {"rlnNrOfSignificantSamples", "rlnHelicalTubeID", "rlnSpectralIndex", "rlnCurrentIteration"}
    | {"rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped", "rlnCtfDataAreCtfCorrected"}
)

_TEXT_LABELS = frozenset(
    {
        "rlnCtfImage",
        "rlnMicrographMetadata",
        "rlnMicrographCoordinates",
        "rlnReferenceImage",
        "rlnMtfFileName",
    }
    | {
        "rlnOddZernike",
        "rlnEvenZernike",
        "rlnSymmetryGroup",
        "rlnUnfilteredMapHalf1",
        "rlnUnfilteredMapHalf2",
    }
    | {"rlnJobOptionVariable", "rlnJobOptionValue", "rlnPipeLineEdgeFromNode", "rlnPipeLineEdgeToNode"}
    | {"rlnPipeLineEdgeProcess", "rlnOutputRootName", "rlnOrientSamplingStarFile", "rlnModelStarFile"}
)

_TEXT_ENDINGS = ("Name", "File", "StarFile", "FileName", "Image", "Label", "Alias", "Path")


def label_kind(label: str) -> Kind:
    """Type of a column. Names stay text even where they look like numbers ("007")."""
    if label in _FLOAT_LABELS:
        return Kind.FLOAT
    if label in _INT_LABELS:
        return Kind.INT
    if label in _TEXT_LABELS or label.endswith(_TEXT_ENDINGS):
        return Kind.TEXT
    return Kind.AUTO
