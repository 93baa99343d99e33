"""RELION's optimiser file: names of the other files of an iteration, options and state of the run."""

from __future__ import annotations

from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mpiapp.io.relion_tables import MISSING, list_block, load_tables, value

TABLE = "optimiser_general"
_UNKNOWN = 999.0  # RELION's value of an accuracy or a change before it is known


def _rln(label: str, kind: type, default: Any = NO_DEFAULT) -> Any:
    """A field with its RELION label; one without default has to be in every file that is read."""
    metadata = {"label": label, "kind": kind}
    return field(metadata=metadata) if default is NO_DEFAULT else field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class OptimiserRecord:
    """All that we use of an optimiser file. Resolutions in A except `best_resolution_1_over_A`.

    `model_star_2` is the file of the second half set; None when the halves are joined. `solvent_mask` and the
    other names are as seen from the project folder, None when there is no such file.
    """

    root: str = _rln("rlnOutputRootName", str)
    model_star: str = _rln("rlnModelStarFile", str)
    model_star_2: str | None = _rln("rlnModelStarFile2", str, None)
    data_star: str = _rln("rlnExperimentalDataStarFile", str)
    sampling_star: str = _rln("rlnOrientSamplingStarFile", str)
    iteration: int = _rln("rlnCurrentIteration", int)
    n_iterations: int = _rln("rlnNumberOfIterations", int, 999)
    split_random_halves: bool = _rln("rlnDoSplitRandomHalves", bool, True)
    low_resol_join_halves_A: float = _rln("rlnJoinHalvesUntilThisResolution", float, 40.0)
    oversampling: int = _rln("rlnAdaptiveOversampleOrder", int, 1)
    adaptive_fraction: float = _rln("rlnAdaptiveOversampleFraction", float, 0.999)
    random_seed: int = _rln("rlnRandomSeed", int, 0)
    particle_diameter_A: float = _rln("rlnParticleDiameter", float)
    width_mask_edge_px: int = _rln("rlnWidthMaskEdge", int, 5)
    zero_mask: bool = _rln("rlnDoZeroMask", bool, True)
    flatten_solvent: bool = _rln("rlnDoSolventFlattening", bool, True)
    solvent_correct_fsc: bool = _rln("rlnDoSolventFscCorrection", bool, False)
    solvent_mask: str | None = _rln("rlnSolventMaskName", str, None)
    solvent_mask_2: str | None = _rln("rlnSolventMask2Name", str, None)
    tau_spectrum: str | None = _rln("rlnTauSpectrumName", str, None)
    max_coarse_size: int = _rln("rlnMaximumCoarseImageSize", int, -1)
    strict_highres_A: float = _rln("rlnHighresLimitExpectation", float, -1.0)
    strict_lowres_A: float = _rln("rlnLowresLimitExpectation", float, -1.0)
    increment_size: int = _rln("rlnIncrementImageSize", int, 10)
    do_map: bool = _rln("rlnDoMapEstimation", bool, True)
    auto_refine: bool = _rln("rlnDoAutoRefine", bool, True)
    auto_local_healpix_order: int = _rln("rlnAutoLocalSearchesHealpixOrder", int, 4)
    n_iter_without_resolution_gain: int = _rln("rlnNumberOfIterWithoutResolutionGain", int, 0)
    best_resolution_1_over_A: float = _rln("rlnBestResolutionThusFar", float, 0.001)
    n_iter_without_changing_assignments: int = _rln("rlnNumberOfIterWithoutChangingAssignments", int, 0)
    skip_align: bool = _rln("rlnDoSkipAlign", bool, False)
    skip_rotate: bool = _rln("rlnDoSkipRotate", bool, False)
    accuracy_rot_deg: float = _rln("rlnOverallAccuracyRotations", float, _UNKNOWN)
    accuracy_trans_A: float = _rln("rlnOverallAccuracyTranslationsAngst", float, _UNKNOWN)
    change_orientations_deg: float = _rln("rlnChangesOptimalOrientations", float, _UNKNOWN)
    change_offsets_A: float = _rln("rlnChangesOptimalOffsets", float, _UNKNOWN)
    change_classes: float = _rln("rlnChangesOptimalClasses", float, 9999999.0)
    smallest_change_orientations_deg: float = _rln("rlnSmallestChangesOrientations", float, _UNKNOWN)
    smallest_change_offsets_A: float = _rln("rlnSmallestChangesOffsets", float, _UNKNOWN)
    smallest_change_classes: int = _rln("rlnSmallestChangesClasses", int, 9999999)
    has_converged: bool = _rln("rlnHasConverged", bool, False)
    has_high_fsc_at_limit: bool = _rln("rlnHasHighFscAtResolLimit", bool, False)
    large_size_increase_iter_ago: int = _rln("rlnHasLargeSizeIncreaseIterationsAgo", int, 0)
    norm_correction: bool = _rln("rlnDoCorrectNorm", bool, True)
    scale_correction: bool = _rln("rlnDoCorrectScale", bool, True)
    ctf_correction: bool = _rln("rlnDoCorrectCtf", bool, True)
    center_classes: bool = _rln("rlnDoCenterClasses", bool, False)
    ctf_intact_first_peak: bool = _rln("rlnDoIgnoreCtfUntilFirstPeak", bool, False)
    ctf_phase_flipped: bool = _rln("rlnCtfDataArePhaseFlipped", bool, False)
    only_flip_phases: bool = _rln("rlnDoOnlyFlipCtfPhases", bool, False)
    refs_ctf_corrected: bool = _rln("rlnRefsAreCtfCorrected", bool, True)
    fix_sigma_noise: bool = _rln("rlnFixSigmaNoiseEstimates", bool, False)
    fix_sigma_offset: bool = _rln("rlnFixSigmaOffsetEstimates", bool, False)
    pool: int = _rln("rlnMaxNumberOfPooledParticles", int, 3)
    max_significants: int = _rln("rlnMaximumSignificantPoses", int, -1)


# Mandatory for RELION 3.1's reader or written by it, and of no use to a refinement without gradient steps,
# helices, bodies and local symmetry: these are its own defaults.
UNUSED: dict[str, Any] = {
    "rlnBodyStarFile": "None",
    "rlnDoFastSubsetOptimisation": 0,
    "rlnDoExternalReconstruct": 0,
    "rlnDoGradientRefine": 0,
    "rlnDoStochasticGradientDescent": 0,
    "rlnDoStochasticEM": 0,
    "rlnSgdInitialIterations": 50,
    "rlnSgdFinalIterations": 50,
    "rlnSgdInBetweenIterations": 200,
    "rlnSgdInitialResolution": 35.0,
    "rlnSgdFinalResolution": 15.0,
    "rlnSgdInitialSubsetSize": 100,
    "rlnSgdFinalSubsetSize": 500,
    "rlnSgdMuFactor": 0.0,
    "rlnSgdSigma2FudgeInitial": 8.0,
    "rlnSgdSigma2FudgeHalflife": -1,
    "rlnSgdSkipAnneal": 0,
    "rlnSgdSubsetSize": -1,
    "rlnSgdWriteEverySubset": 1,
    "rlnSgdStepsize": 0.5,
    "rlnLocalSymmetryFile": "None",
    "rlnDoHelicalRefine": 0,
    "rlnIgnoreHelicalSymmetry": 0,
    "rlnFourierMask": "None",
    "rlnHelicalTwistInitial": 0.0,
    "rlnHelicalRiseInitial": 0.0,
    "rlnHelicalCentralProportion": 0.3,
    "rlnNrHelicalNStart": 1,
    "rlnHelicalMaskTubeInnerDiameter": -1.0,
    "rlnHelicalMaskTubeOuterDiameter": -1.0,
    "rlnHelicalSymmetryLocalRefinement": 0,
    "rlnHelicalSigmaDistance": -1.0,
    "rlnHelicalKeepTiltPriorFixed": 0,
}


def write_optimiser(path: str | Path, optimiser: OptimiserRecord, comment: str = "") -> None:
    """Write an optimiser file (atomic).

    Parameters
    ----------
    comment : str
        First lines of the file; RELION puts the version and the command line there.
    """
    from mpiapp.io.star import write_star

    block: dict[str, Any] = {}
    for item in fields(optimiser):
        found, label, kind = getattr(optimiser, item.name), item.metadata["label"], item.metadata["kind"]
        if found is None:
            # RELION takes a second model file as soon as the label is there, so none means no label.
            if label != "rlnModelStarFile2":
                block[label] = "None"
        else:
            block[label] = int(found) if kind is bool else kind(found)
    write_star(path, {TABLE: {**block, **UNUSED}}, comment=comment)


def read_optimiser(path: str | Path) -> OptimiserRecord:
    """Read an optimiser file of ours or of RELION 3.1 to 5.

    Raises
    ------
    InputError
        When the file, the table or a label without default is missing, or a value is not a number.
    """
    block = list_block(load_tables(path), TABLE, path)
    found = {
        item.name: value(
            block,
            item.metadata["label"],
            item.metadata["kind"],
            TABLE,
            path,
            default=MISSING if item.default is NO_DEFAULT else item.default,
        )
        for item in fields(OptimiserRecord)
    }
    return OptimiserRecord(**found)
