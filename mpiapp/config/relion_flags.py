"""Flags of relion_refine that are not options here: those without effect, and those that must be refused.

A RELION command line is accepted when everything on it that shapes the *result* is implemented. Flags that
only steer RELION's computing are skipped, with one line saying so. Flags that would change the result are
refused before any work, unless they carry the value that means "off".

In the tables a name ending in "=" takes a value; "name=value" takes a value and is harmless when it equals
that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpiapp.errors import ConfigError

IGNORED_GROUPS: dict[str, str] = {
    "refine3d always does this": "auto_refine split_random_halves auto_sampling",
    "particles are streamed from their stacks through a cache": (
        "preread_images scratch_dir= keep_free_scratch= reuse_scratch keep_scratch no_parallel_disc_io"
    ),
    "sums travel between processes in memory": "dont_combine_weights_via_disc sequential_halves_recons",
    "shifts need no copies of the images": "onthefly_shifts",
    "the CPU engine is the default; --gpu selects GPUs": "cpu",
    "there is no SYCL backend": "sycl sycl_cpu sycl_cuda sycl_hip sycl_levelzero sycl_opencl",
    "references always count as CTF-corrected": "ctf_corrected_ref",
    "the reconstruction does not iterate its gridding": "skip_gridding gridding_iter=",
    "linear interpolation is used at all radii": "r_min_nn=",
    "auto-refine stops by its own rule, limited by --auto_iter_max": "iter=",
    "it acts only in classification": "allow_coarser_sampling class_inactivity_threshold=",
    "a zero sum of weights can not occur here": "failsafe_threshold=",
    "image statistics are checked, and only warned about": "dont_check_norm",
    "RELION itself reads it and makes no use of it": "grad_min_resol= grad_ini_resol= grad_fin_resol=",
    "there is a reference to start from": "no_init_blobs",
    "it concerns temporary files that are not written": "keep_debug_reconstruct_files",
}

REFUSED_GROUPS: dict[str, str] = {
    "several classes are another job (mpiapp class3d)": "K=1",
    "helical reconstruction is not implemented": (
        "helix ignore_helical_symmetry skip_realspace_helical_sym helical_nr_asu= helical_twist_initial= "
        "helical_twist_min= helical_twist_max= helical_twist_inistep= helical_rise_initial= "
        "helical_rise_min= helical_rise_max= helical_rise_inistep= helical_nstart= helical_z_percentage= "
        "helical_inner_diameter= helical_outer_diameter= helical_symmetry_search helical_sigma_distance= "
        "helical_keep_tilt_prior_fixed helical_exclude_resols= helical_offset_step=-1 bimodal_psi"
    ),
    "multi-body refinement is not implemented": (
        "multibody_masks= reconstruct_subtracted_bodies multibody_norm_overlap"
    ),
    "the learned prior (Blush) is not implemented": "blush blush_skip_spectral_trailing",
    "an external reconstruction program can not be called": "external_reconstruct",
    "symmetry relaxation is not implemented": "relax_sym=",
    "local symmetry is not implemented": "local_symmetry=",
    "self-organising maps are not implemented": (
        "som som_ini_nodes= som_connectivity= som_neighbour_pull= som_inactivity_threshold="
    ),
    "the gradient algorithm is there for classification only (mpiapp class2d, class3d)": (
        "grad grad_em_iters= grad_ini_frac= grad_fin_frac= grad_ini_subset= grad_fin_subset= grad_stepsize= "
        "grad_stepsize_scheme= grad_write_iter= mu="
    ),
    "a map without any reference is not made": "denovo_3dref",
    "RELION 3's gradient descent is not implemented, RELION 4's is (--grad of a classification)": (
        "sgd stochastic_em sgd_ini_iter= sgd_fin_iter= sgd_inbetween_iter= sgd_ini_resol= sgd_fin_resol= "
        "sgd_ini_subset= sgd_fin_subset= sgd_stepsize= sgd_sigma2fudge_initial= sgd_sigma2fudge_halflife= "
        "sgd_skip_anneal sgd_write_iter="
    ),
    "subtomograms are not implemented": (
        "ios= tomograms= trajectories= normalised_subtomo skip_subtomo_multi subtomo_multi_thr= "
        "ctf3d_not_squared"
    ),
    "fixed or restricted alignments are not implemented in this kind of job": (
        "skip_align skip_rotate only_sample_tilt limit_tilt=-91 psi_step=-1 sigma_rot=-1 sigma_tilt=-1 "
        "sigma_psi=-1 offset_range_x=-1 offset_range_y=-1 offset_range_z=-1 offset_x_range= offset_y_range= "
        "offset_z_range= minimum_angular_sampling=0 maximum_angular_sampling=0 coarse_size=-1"
    ),
    "the halves are kept apart as the gold standard asks": (
        "always_join_random_halves join_random_halves use_all_data"
    ),
    "only linear interpolation in Fourier space is implemented": "NN",
    "only cross-correlation in the first iteration is implemented (--firstiter_cc)": "always_cc",
    "spectra and offset widths are always estimated from the data": (
        "tau= sigma= sigma2_fudge=1 fix_sigma_noise fix_sigma_offset min_sigma2_offset= tau2_fudge_scheme= "
        "no_map"
    ),
    "only one mask is implemented (--solvent_mask)": "solvent_mask2= lowpass_mask= lowpass=0 fourier_mask=",
    "this treatment of CTF and references is not implemented": (
        "ctf_uncorrected_ref pad_ctf asymmetric_padding bfactor= dont_skip_gridding"
    ),
    "it belongs to classification (mpiapp class3d, class2d)": "center_classes",
    "subsets of the data are not implemented": "fast_subsets",
    "a run without maximization is not implemented": "skip_maximize",
    "use --auto_iter_max, --max_hours or a signal to end a run early": "abort_at_resolution=-1",
    "accuracies are always estimated at the current image size": "accuracy_current_size",
    "it prints tables only RELION has; run relion_refine for it": "print_metadata_labels print_symmetry_ops",
    "it stops all processes but one, for debugging RELION": "halt_all_followers_except=-1",
}


@dataclass(frozen=True)
class ForeignFlag:
    """A flag of RELION's that is not an option here."""

    name: str
    reason: str
    refused: bool
    takes_value: bool
    harmless: str = ""


def flag_table(ignored: Mapping[str, str], refused: Mapping[str, str]) -> dict[str, ForeignFlag]:
    """Flags by name, from groups of a reason and the names that it holds for."""
    table: dict[str, ForeignFlag] = {}
    for is_refused, groups in ((False, ignored), (True, refused)):
        for reason, names in groups.items():
            for entry in names.split():
                name, equals, harmless = entry.partition("=")
                table[name] = ForeignFlag(name, reason, is_refused, bool(equals), harmless)
    return table


def judge(flag: ForeignFlag, value: Any = None) -> str:
    """The line to print for a flag without effect; refuses a flag that would change the result.

    Raises
    ------
    ConfigError
        The flag is refused.
    """
    if value is False:
        return f"--{flag.name}: off, as it always is here"
    shown = f"--{flag.name}" + ("" if value in (None, True) else f" {value}")
    if not flag.refused:
        return f"{shown}: accepted without effect, {flag.reason}"
    if flag.takes_value and _harmless(flag, value):
        return f"{shown}: accepted, it is off at this value"
    raise ConfigError(
        f"{shown}: refused because it would change the result: {flag.reason}. "
        "Leave the flag out, or run this job with RELION."
    )


def _harmless(flag: ForeignFlag, value: Any) -> bool:
    if value is None:
        return False
    text = str(value).strip()
    if text in ("", "None"):
        return True
    try:
        return float(text) == float(flag.harmless)
    except ValueError:
        return False
