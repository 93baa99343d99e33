"""postprocess.star, and the FSC in the format of the EMDB, as later steps and depositions read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpiapp.io.atomic import atomic_file
from mpiapp.io.relion_tables import column, list_block, load_tables, loop_block
from mpiapp.io.star import write_star
from mpiapp.io.star_table import Table

Curve = npt.NDArray[np.float64]
NO_RESOLUTION_A = 999.0

# curve -> RELION's label, in the order of its file
FSC_LABELS = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "mask_fraction": "rlnFourierShellCorrelationParticleMaskFraction",
    "molecular_weight": "rlnFourierShellCorrelationParticleMolWeight",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}
GUINIER_LABELS = {
    "original": "rlnLogAmplitudesOriginal",
    "mtf": "rlnLogAmplitudesMTFCorrected",
    "weighted": "rlnLogAmplitudesWeighted",
    "sharpened": "rlnLogAmplitudesSharpened",
    "intercept": "rlnLogAmplitudesIntercept",
}


@dataclass(frozen=True)
class PostprocessRecord:
    """What postprocess.star tells.

    Attributes
    ----------
    general : label without underscore -> value, list data_general
    fsc : curve of FSC_LABELS -> (N//2 + 1,) values
    frequency_invA : (N//2 + 1,)
    guinier : curve of GUINIER_LABELS -> (N//2 + 1,) values
    """

    general: dict[str, Any]
    frequency_invA: Curve
    fsc: dict[str, Curve]
    guinier: dict[str, Curve] = field(default_factory=dict)


def write_postprocess(path: Path | str, record: PostprocessRecord, comment: str) -> None:
    """Write postprocess.star with RELION's labels; atomic."""
    n = record.frequency_invA.size
    frequency, resolution = _printed_axes(record.frequency_invA)
    fsc: dict[str, Any] = {
        "rlnSpectralIndex": np.arange(n),
        "rlnResolution": frequency,
        "rlnAngstromResolution": resolution,
    }
    fsc |= {label: record.fsc[name] for name, label in FSC_LABELS.items() if name in record.fsc}
    guinier: dict[str, Any] = {"rlnResolutionSquared": np.square(record.frequency_invA)}
    guinier |= {
        label: record.guinier[name] for name, label in GUINIER_LABELS.items() if name in record.guinier
    }
    blocks: dict[str, Any] = {"general": record.general, "fsc": Table(fsc), "guinier": Table(guinier)}
    write_star(path, blocks, comment, exact=False)


def read_postprocess(path: Path | str) -> PostprocessRecord:
    """Read postprocess.star of any version of RELION, or of this program.

    Raises
    ------
    InputError
        The file is missing or has no data_general or data_fsc.
    """
    blocks = load_tables(path)
    table = loop_block(blocks, "fsc", path)
    fsc = {name: column(table, label, "fsc", path) for name, label in FSC_LABELS.items() if label in table}
    frequency = column(table, "rlnResolution", "fsc", path).copy()
    frequency[0] = 0.0  # written as 1/999
    guinier = {}
    if "guinier" in blocks:
        table = loop_block(blocks, "guinier", path)
        guinier = {
            name: column(table, label, "guinier", path)
            for name, label in GUINIER_LABELS.items()
            if label in table
        }
    return PostprocessRecord(list_block(blocks, "general", path), frequency, fsc, guinier)


def write_emdb_fsc(path: Path | str, frequency_invA: Curve, fsc: Curve, title: str) -> None:
    """FSC curve for a deposition in the EMDB (XML); atomic."""
    x, _ = _printed_axes(frequency_invA)
    lines = [f'<fsc title="{escape(title)}" xaxis="Resolution (A-1)" yaxis="Correlation Coefficient">']
    for frequency, value in zip(x, fsc, strict=True):
        lines += [
            "  <coordinate>",
            f"    <x>{frequency:.6f}</x>",
            f"    <y>{value:.6f}</y>",
            "  </coordinate>",
        ]
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join([*lines, "</fsc>", ""]), encoding="utf-8")


def write_fsc_text(path: Path | str, frequency_invA: Curve, fsc: Curve) -> None:
    """FSC curve as two columns, 1/A and correlation; atomic."""
    x, _ = _printed_axes(frequency_invA)
    with atomic_file(path) as temporary:
        np.savetxt(temporary, np.column_stack([x, fsc]), fmt="%.6f")


def _printed_axes(frequency: Curve) -> tuple[Curve, Curve]:
    """1/A and A with 999 A for shell 0, which has no resolution."""
    resolution = np.full(frequency.shape, NO_RESOLUTION_A)
    np.divide(1.0, frequency, out=resolution, where=frequency > 0)
    return np.where(frequency > 0, frequency, 1 / NO_RESOLUTION_A), resolution
