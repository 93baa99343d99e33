"""Reading RELION's model file, of ours or of RELION 3.1 to 5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mpiapp.errors import InputError
from mpiapp.io.relion_model import GENERAL, LARGEST, SPECTRA, ClassRecord, ModelRecord
from mpiapp.io.relion_tables import column, list_block, load_tables, loop_block, value


def read_model(path: str | Path, *, directions: bool = True) -> ModelRecord:
    """Read a model file of ours or of RELION 3.1 to 5.

    Parameters
    ----------
    directions : False leaves the distributions over directions out, which are most of the file

    Raises
    ------
    InputError
        When the file, a table or a label is missing; the message names it.
    """
    blocks = load_tables(path, () if directions else ("model_pdf_orient_class_",))
    general = list_block(blocks, "model_general", path)
    scalars = {name: value(general, label, kind, "model_general", path) for label, name, kind in GENERAL}
    n_shells = scalars["box"] // 2 + 1
    groups = loop_block(blocks, "model_groups", path)
    n_groups = len(groups)
    optics = sorted(
        (name for name in blocks if name.startswith("model_optics_group_")),
        key=lambda n: int(n.split("_")[-1]),
    )
    by_group = [f"model_group_{number}" for number in range(1, n_groups + 1)]
    return ModelRecord(
        **scalars,
        classes=_read_classes(blocks, n_shells, path),
        sigma2_noise=_read_noise(blocks, optics, n_shells, path),
        group_names=[str(name) for name in groups["rlnGroupName"]] if "rlnGroupName" in groups else [],
        group_sizes=column(groups, "rlnGroupNrParticles", "model_groups", path, 0).astype(np.int64),
        group_scales=column(groups, "rlnGroupScaleCorrection", "model_groups", path, 1.0),
        group_sigma2_noise=_read_noise(blocks, [n for n in by_group if n in blocks], n_shells, path),
    )


def noise_of_optics(model: ModelRecord, group_optics: np.ndarray, n_optics: int) -> np.ndarray:
    """Noise spectra (n_optics, n_shells) of a model that was read, whichever tables it had.

    RELION 3.1 keeps noise by micrograph group; the groups of one optics group are averaged here, each with
    its number of particles as weight. An optics group without particles gets zeros.

    Parameters
    ----------
    group_optics : (n_groups,) int
        Optics group of each micrograph group, counted from 0.
    """
    if len(model.sigma2_noise) == n_optics:
        return model.sigma2_noise
    optics = np.asarray(group_optics, dtype=np.int64)
    sizes = np.asarray(model.group_sizes, dtype=np.float64)
    total = np.bincount(optics, weights=sizes, minlength=n_optics)
    summed = np.zeros((n_optics, model.n_shells))
    np.add.at(summed, optics, sizes[:, None] * model.group_sigma2_noise)
    return summed / np.maximum(total, 1.0)[:, None]


def _read_classes(blocks: dict[str, Any], n_shells: int, path: str | Path) -> list[ClassRecord]:
    table = "model_classes"
    rows = loop_block(blocks, table, path)
    if "rlnReferenceImage" not in rows:
        raise InputError(f"{path}: column _rlnReferenceImage is missing in table data_{table}")
    scalars: dict[str, Any] = {
        "distribution": column(rows, "rlnClassDistribution", table, path, 1.0),
        "accuracy_rot_deg": column(rows, "rlnAccuracyRotations", table, path, LARGEST),
        "accuracy_trans_A": column(rows, "rlnAccuracyTranslationsAngst", table, path, LARGEST),
        "resolution_A": column(rows, "rlnEstimatedResolution", table, path, LARGEST),
        "overall_completeness": column(rows, "rlnOverallFourierCompleteness", table, path, 0.0),
    }
    return [
        ClassRecord(
            map_path=Path(str(name)),
            orientation_distribution=_read_distribution(blocks, number, path),
            **_read_spectra(blocks, f"model_class_{number}", n_shells, path),
            **{key: values[number - 1].item() for key, values in scalars.items()},
        )
        for number, name in enumerate(rows["rlnReferenceImage"], start=1)
    ]


def _read_distribution(blocks: dict[str, Any], number: int, path: str | Path) -> np.ndarray:
    table = f"model_pdf_orient_class_{number}"
    if table not in blocks:
        return np.empty(0)
    return column(loop_block(blocks, table, path), "rlnOrientationDistribution", table, path)


def _read_spectra(blocks: dict[str, Any], table: str, n_shells: int, path: str | Path) -> dict[str, Any]:
    rows = loop_block(blocks, table, path)
    if len(rows) != n_shells:
        raise InputError(
            f"{path}: table data_{table} has {len(rows)} rows; expected {n_shells} shells "
            "(0 to the Nyquist frequency of the box)"
        )
    # Files of RELION 2 and 3.0 lack some of the columns; zeros there mean "not known".
    return {name: column(rows, label, table, path, 0.0) for label, name in SPECTRA}


def _read_noise(blocks: dict[str, Any], tables: list[str], n_shells: int, path: str | Path) -> np.ndarray:
    noise = np.zeros((len(tables), n_shells))
    for row, table in enumerate(tables):
        rows = loop_block(blocks, table, path)
        if len(rows) == 0:
            continue
        shell = column(rows, "rlnSpectralIndex", table, path).astype(np.int64)
        if shell.min() < 0 or shell.max() >= n_shells:
            raise InputError(
                f"{path}: _rlnSpectralIndex of table data_{table} runs from {shell.min()} to {shell.max()}; "
                f"expected 0 to {n_shells - 1}"
            )
        noise[row, shell] = column(rows, "rlnSigma2Noise", table, path)
    return noise
