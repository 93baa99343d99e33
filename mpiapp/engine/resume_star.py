"""Going on from RELION's files: a run of RELION, or an iteration of ours whose checkpoint is gone.

STAR files and maps hold all that an iteration needs, rounded to six digits or so (refinement.md 10.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.refine import RefineConfig
from mpiapp.engine.inputs import Inputs
from mpiapp.engine.resume import Resumed
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.errors import InputError
from mpiapp.io.mrc import read_map
from mpiapp.io.outputs import OutputNames
from mpiapp.io.relion_files import (
    ModelRecord,
    OptimiserRecord,
    SamplingRecord,
    locate_beside,
    noise_of_optics,
    read_model,
    read_optimiser,
    read_sampling,
)
from mpiapp.model.registration import low_passed
from mpiapp.model.sampling import direction_grid

F64 = NDArray[np.float64]
SAME_DIRECTION_DEG = 0.01
# field of the optimiser record -> option
_SAME = {
    "low_resol_join_halves_A": "low_resol_join_halves",
    "oversampling": "oversampling",
    "adaptive_fraction": "adaptive_fraction",
    "particle_diameter_A": "particle_diameter",
    "width_mask_edge_px": "maskedge",
    "zero_mask": "zero_mask",
    "flatten_solvent": "flatten_solvent",
    "solvent_correct_fsc": "solvent_correct_fsc",
    "strict_highres_A": "strict_highres_exp",
    "strict_lowres_A": "strict_lowres_exp",
    "auto_local_healpix_order": "auto_local_healpix_order",
    "norm_correction": "norm",
    "scale_correction": "scale",
    "ctf_correction": "ctf",
    "ctf_intact_first_peak": "ctf_intact_first_peak",
    "ctf_phase_flipped": "ctf_phase_flipped",
    "only_flip_phases": "only_flip_phases",
}


@dataclass(frozen=True)
class Files:
    """What the STAR files of an iteration say."""

    optimiser: OptimiserRecord
    models: list[ModelRecord]
    sampling: SamplingRecord
    maps: list[NDArray[np.float32]]
    data_star: Path
    names: OutputNames

    @property
    def pixel_size_A(self) -> float:
        """Pixel size of the maps."""
        return self.models[0].pixel_size_A


def resume_from_star(config: RefineConfig, path: Path, names: OutputNames, iteration: int) -> Resumed:
    """Options and state of a run from its optimiser.star and the files that this names.

    Raises
    ------
    InputError
        A file is missing or malformed, or this is no run in two halves that can go on.
    """
    files = _read(path, names)
    # as RELION does, so that its files are not overwritten
    root = names.continued(iteration).root
    config = config.continued_from({**_options(files, path), "output_root": root}).validate()
    remark = (
        f"no {names.checkpoint(iteration)}: going on from the STAR files and maps of the iteration, which "
        f"are rounded, so the result differs a little from that of a run without a stop; output goes to "
        f"{config.output_root}_*"
    )
    return Resumed(
        config,
        config.random_seed,
        lambda inputs: _state(files, config, inputs, iteration),
        (files.maps[0][None], files.pixel_size_A),
        remarks=[remark],
    )


def _read(path: Path, names: OutputNames) -> Files:
    optimiser = read_optimiser(path)
    if optimiser.has_converged:
        raise InputError(
            f"--continue {path}: this run has converged; there is nothing to go on with. Give the optimiser "
            "file of an iteration before to repeat its last steps"
        )
    if not (optimiser.auto_refine and optimiser.split_random_halves and optimiser.model_star_2):
        raise InputError(
            f"--continue {path}: not an auto-refinement in two halves (--auto_refine --split_random_halves), "
            "the only kind of run that refine3d goes on with; start a new one from its particles and map"
        )
    unknown = ("skip_align", "skip_rotate", "fix_sigma_noise", "fix_sigma_offset")
    used = [name for name in unknown if getattr(optimiser, name)]
    if used:
        raise InputError(
            f"--continue {path}: the run uses --{used[0]}, which is not implemented; continue it with RELION"
        )
    models, maps = [], []
    for name in (optimiser.model_star, optimiser.model_star_2):
        found = locate_beside(name, path)
        models.append(read_model(found))
        maps.append(read_map(locate_beside(models[-1].classes[0].map_path, found))[0])
    sampling = read_sampling(locate_beside(optimiser.sampling_star, path))
    return Files(optimiser, models, sampling, maps, locate_beside(optimiser.data_star, path), names)


def _options(files: Files, path: Path) -> dict[str, Any]:
    """Options by field name, as a checkpoint holds them; those that the files do not tell are left out."""
    o, model, s = files.optimiser, files.models[0], files.sampling
    options: dict[str, Any] = {ours: getattr(o, theirs) for theirs, ours in _SAME.items()}
    if s.original_healpix_order is not None:
        options["healpix_order"] = s.original_healpix_order
    for name, length_A in (
        ("offset_range", s.original_offset_range_A),
        ("offset_step", s.original_offset_step_A),
    ):
        if length_A is not None:
            options[name] = round(length_A / files.pixel_size_A, 4)
    return options | {
        "input_star": str(files.data_star),
        "sym": s.symmetry,
        "pad": model.padding_factor,
        "tau2_fudge": model.tau2_fudge,
        "perturb": s.perturb_factor,
        "random_seed": max(0, o.random_seed),
        "auto_iter_max": max(1, o.n_iterations),
        "maxsig": o.max_significants if o.max_significants > 0 else -1,
        "solvent_mask": str(locate_beside(o.solvent_mask, path)) if o.solvent_mask else "",
    }


def _state(files: Files, config: RefineConfig, inputs: Inputs, iteration: int) -> RunState:
    table = inputs.table
    if not np.isin(table.half, (1, 2)).all():
        raise InputError(
            f"{table.path}: rlnRandomSubset is missing or not 1 or 2 everywhere, so the halves of the run "
            "are not known; give the data.star that belongs to the optimiser file"
        )
    halves = [_half(files, model, config, inputs) for model in files.models]
    for h, half in enumerate(halves):
        empty = ~half.sigma2.any(axis=1)
        half.sigma2[empty] = halves[1 - h].sigma2[empty]
    schedule = _schedule(files, config, iteration)
    anchor, frequency = _anchor(files, schedule, inputs.setup.pixel_size_A)
    return RunState(
        schedule,
        halves,
        [volume[None] for volume in files.maps],
        inputs.poses,
        table.half.astype(np.int8),
        files.models[0].classes[0].fsc.copy(),
        config.random_seed,
        anchor,
        frequency,
    )


def _anchor(files: Files, schedule: Schedule, pixel_size_A: float) -> tuple[NDArray[np.float64], float]:
    """Map whose frame is kept: that of the first iteration where its files are there, else the present one."""
    frequency, maps = schedule.frequency, files.maps
    paths = [files.names.half_map(1, half) for half in (1, 2)]
    model = files.names.model(1, 1)
    if model.is_file() and all(path.is_file() for path in paths):
        first = [read_map(path)[0] for path in paths]
        if all(volume.shape == maps[0].shape for volume in first):
            maps, frequency = first, 1 / max(read_model(model).current_resolution_A, 1e-3)
    mean = np.asarray(np.mean(maps, axis=0), np.float32)
    return low_passed(mean, pixel_size_A, 1 / frequency), frequency


def _half(files: Files, model: ModelRecord, config: RefineConfig, inputs: Inputs) -> HalfState:
    table, record = inputs.table, model.classes[0]
    row = {name: i for i, name in enumerate(model.group_names)}
    known = [(g, row[name]) for g, name in enumerate(table.group_names) if name in row]
    scale = np.ones(len(table.group_names))
    group_optics = np.zeros(len(model.group_names), np.int64)
    of_group = np.zeros(len(table.group_names), np.int64)
    of_group[table.group_index] = table.optics_index
    for group, theirs in known:
        scale[group] = model.group_scales[theirs]
        group_optics[theirs] = of_group[group]
    scalars = [
        model.norm_correction_average,
        model.sigma_offset_A,
        model.log_likelihood,
        model.average_pmax,
    ]
    return HalfState(
        noise_of_optics(model, group_optics, len(table.optics)).copy(),
        scale,
        _direction_prior(files, record.orientation_distribution, config.sym)[None],
        np.zeros((1, 2)),
        record.tau2[None],
        record.sigma2[None],
        record.data_vs_prior[None],
        record.completeness[None],
        np.array(scalars, float),
        np.array([[record.accuracy_rot_deg, record.accuracy_trans_A]]),
    )


def _direction_prior(files: Files, prior: F64, sym: str) -> F64:
    """The distribution of the file where its directions are ours, else a flat one."""
    grid = direction_grid(files.sampling.healpix_order, sym)
    n = grid.rot_deg.size
    theirs = _vectors(files.sampling.rot_deg, files.sampling.tilt_deg)
    ours = _vectors(grid.rot_deg, grid.tilt_deg)
    same = prior.size == n and (
        theirs.shape != ours.shape
        or bool((theirs * ours).sum(0).min() > np.cos(np.radians(SAME_DIRECTION_DEG)))
    )
    total = float(prior.sum()) if same else 0.0
    return prior / total if total > 0 else np.full(n, 1.0 / n)


def _vectors(rot_deg: F64, tilt_deg: F64) -> F64:
    rot, tilt = np.radians(rot_deg), np.radians(tilt_deg)
    return np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)])


def _schedule(files: Files, config: RefineConfig, iteration: int) -> Schedule:
    o, model, s = files.optimiser, files.models[0], files.sampling
    return Schedule(
        s.healpix_order,
        s.offset_range_A,
        s.offset_step_A,
        oversampling=config.oversampling,
        iteration=iteration,
        perturbation=s.perturb_instance,
        sigma_deg=model.sigma_rot_deg if model.prior_mode == 1 else None,
        frequency=1 / model.current_resolution_A if model.current_resolution_A > 0 else 0.0,
        best_frequency=o.best_resolution_1_over_A,
        current_size=model.current_size,
        increment=o.increment_size,
        high_fsc_at_limit=o.has_high_fsc_at_limit,
        average_pmax=model.average_pmax,
        iterations_without_gain=o.n_iter_without_resolution_gain,
        iterations_without_changes=o.n_iter_without_changing_assignments,
        iterations_settled=o.n_iter_without_changing_assignments,
        change_angle_deg=o.change_orientations_deg,
        change_offset_A=o.change_offsets_A,
        smallest_angle_deg=o.smallest_change_orientations_deg,
        smallest_offset_A=o.smallest_change_offsets_A,
        accuracy_rot_deg=o.accuracy_rot_deg,
        accuracy_trans_A=o.accuracy_trans_A,
    )
