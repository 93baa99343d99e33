"""Writing what an iteration produced: RELION's files, maps, checkpoint, plots. Runs on the leader only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.classify import Class2dConfig
from mpiapp.config.common import VolumeConfig
from mpiapp.engine.page_writer import PageWriter
from mpiapp.engine.schedule import Policy
from mpiapp.engine.state import HalfState, RunState
from mpiapp.io.outputs import OutputNames
from mpiapp.model.sampling import direction_grid
from mpiapp.report.versions import provenance

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable
    from mpiapp.io.relion_files import ClassRecord, ModelRecord, OptimiserRecord, SamplingRecord

F32 = NDArray[np.float32]


class Writer:
    """Output files of one run; what they are called and which there are is up to the kind of job."""

    def __init__(
        self,
        config: VolumeConfig | Class2dConfig,
        setup: ImagingSetup,
        policy: Policy,
        table: ParticleTable,
        names: OutputNames,
        particles: int = 0,
    ) -> None:
        self.config, self.setup, self.policy, self.table, self.names = config, setup, policy, table, names
        self.particles = particles  # fingerprint
        self.last_files = -1
        self.page = PageWriter(names)

    def iteration(self, state: RunState) -> None:
        """Files of one iteration. The optimiser file comes last: where it is, the others are complete."""
        from mpiapp.io.checkpoint import remove_older, save_checkpoint

        number = state.schedule.iteration
        path = self.names.checkpoint(number)
        keep = self.config.checkpoint_keep
        with ThreadPoolExecutor(1) as pool:
            saved = pool.submit(save_checkpoint, path, state.to_dict(), self.provenance(), keep=keep + 1)
            if number % self.config.write_every == 0:
                self._files(state)
            saved.result()
        self._optimiser_file(state, number)
        remove_older(path, keep)
        self.names.partial_checkpoint(number).unlink(missing_ok=True)
        self.page.offer(state.history)

    def complete(self, number: int) -> None:
        """The files of the last iteration of a run that ends before it converges, if they were left out."""
        from mpiapp.io.checkpoint import load_checkpoint

        if number != self.last_files and self.names.checkpoint(number).is_file():
            self._files(RunState.from_dict(load_checkpoint(self.names.checkpoint(number))[0]))

    def write_page(self) -> None:
        """The page of the run, from its files."""
        self.page.write()

    def provenance(self) -> dict[str, object]:
        """Where a checkpoint comes from."""
        return {
            "config": self.config.to_dict(),
            "setup": _describe_setup(self.setup),
            "particles": self.particles,
            "command": self.config.command_line(),
        }

    def _files(self, state: RunState) -> None:
        """Maps and tables of an iteration, but for the optimiser file."""
        raise NotImplementedError

    def _optimiser(self, state: RunState, number: int | None) -> OptimiserRecord:
        raise NotImplementedError

    def _reference_path(self, state: RunState, half: int | None, k: int) -> Path:
        """Name of the reference of class k (from 1) in a model file."""
        raise NotImplementedError

    @contextmanager
    def _written(self, maps: Mapping[Path, F32]) -> Iterator[None]:
        """Write maps by threads while the caller goes on; they are there when the context ends."""
        from mpiapp.io.mrc import write_map

        with ThreadPoolExecutor(max(1, len(maps))) as pool:
            files = [pool.submit(write_map, path, m, self.setup.pixel_size_A) for path, m in maps.items()]
            yield
            for file in files:
                file.result()

    def _distributions(self, state: RunState, half: HalfState, number: int | None, h: int | None) -> None:
        """Distribution of the viewing directions of every class."""
        from mpiapp.io.relion_files import write_angular_distribution

        grid = direction_grid(state.schedule.healpix_order, self.config.sym)
        for k, prior in enumerate(half.direction_prior, 1):
            write_angular_distribution(
                self.names.angular_distribution(number, h, k),
                grid.rot_deg,
                grid.tilt_deg,
                prior,
                self.setup.box,
                self.setup.pixel_size_A,
                state.schedule.healpix_order,
            )

    def _sampling(self, state: RunState) -> SamplingRecord:
        from mpiapp.io.relion_files import SamplingRecord

        s, c = state.schedule, self.config
        grid = direction_grid(s.healpix_order, c.sym)
        return SamplingRecord(
            psi_step_deg=grid.psi_step_deg,
            offset_range_A=s.offset_range_A,
            offset_step_A=s.offset_step_A,
            healpix_order=s.healpix_order,
            symmetry=c.sym,
            perturb_instance=s.perturbation,
            perturb_factor=c.perturb,
            original_healpix_order=c.healpix_order,
            original_psi_step_deg=360.0 / (6 * 2**c.healpix_order),
            original_offset_range_A=c.offset_range * self.setup.pixel_size_A,
            original_offset_step_A=c.offset_step * self.setup.pixel_size_A,
            rot_deg=grid.rot_deg,
            tilt_deg=grid.tilt_deg,
        )

    def _optimiser_file(self, state: RunState, number: int | None) -> None:
        from mpiapp.io.relion_files import write_optimiser

        comment = provenance("optimiser", self.config.command_line())
        write_optimiser(self.names.optimiser(number), self._optimiser(state, number), comment)

    def _columns(self, state: RunState) -> dict[str, NDArray[np.generic]]:
        p = state.poses
        return {
            "rlnAngleRot": p.rot_deg,
            "rlnAngleTilt": p.tilt_deg,
            "rlnAnglePsi": p.psi_deg,
            "rlnOriginXAngst": p.origin_A[:, 0],
            "rlnOriginYAngst": p.origin_A[:, 1],
            "rlnClassNumber": p.class_number.astype(np.int64),
            "rlnNormCorrection": p.norm,
            "rlnLogLikeliContribution": p.log_likelihood,
            "rlnMaxValueProbDistribution": p.p_max,
            "rlnNrOfSignificantSamples": p.n_significant.astype(np.int64),
            "rlnGroupNumber": self.table.group_index.astype(np.int64) + 1,
        }

    def _model(self, state: RunState, half: HalfState, number: int | None) -> ModelRecord:
        """Model file of one half, or of all particles when its number is None."""
        from mpiapp.io.relion_files import ModelRecord

        s, setup = state.schedule, self.setup
        mine = state.half == number if number else np.ones(len(state.half), bool)
        of_optics, of_groups = self._noise(half)
        sigma = s.sigma_deg or 0.0
        return ModelRecord(
            box=setup.box,
            pixel_size_A=setup.pixel_size_A,
            current_size=s.current_size,
            current_resolution_A=1 / max(s.frequency, 1e-6),
            classes=[self._class(state, half, number, k) for k in range(half.n_class)],
            sigma2_noise=of_optics,
            group_names=list(self.table.group_names),
            group_sizes=np.bincount(self.table.group_index[mine], minlength=setup.n_groups),
            group_scales=half.scale,
            group_sigma2_noise=of_groups,
            padding_factor=setup.padding,
            tau2_fudge=abs(self.config.tau2_fudge),
            norm_correction_average=half.average_norm,
            sigma_offset_A=half.sigma_offset_A,
            prior_mode=int(s.sigma_deg is not None),
            sigma_rot_deg=sigma,
            sigma_tilt_deg=sigma,
            sigma_psi_deg=sigma,
            log_likelihood=float(half.scalars[2]),
            average_pmax=float(half.scalars[3]),
        )

    def _noise(self, half: HalfState) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Noise spectra of the optics groups, and of the micrograph groups."""
        from mpiapp.io.relion_files import noise_of_groups

        group_optics = np.zeros(self.setup.n_groups, np.int64)
        group_optics[self.table.group_index] = self.table.optics_index
        return half.sigma2, noise_of_groups(half.sigma2, group_optics)

    def _class(self, state: RunState, half: HalfState, number: int | None, k: int) -> ClassRecord:
        from mpiapp.io.relion_files import ClassRecord

        shell = self._resolution_shell(state, half, k)
        inside = half.coverage[k, 1 : max(2, shell + 1)]
        return ClassRecord(
            map_path=self._reference_path(state, number, k + 1),
            data_vs_prior=half.data_vs_prior[k],
            fsc=state.fsc,
            completeness=half.coverage[k],
            sigma2=half.sigma2_ref[k],
            tau2=half.tau2[k],
            orientability=np.zeros(self.setup.n_shells),
            orientation_distribution=half.direction_prior[k],
            distribution=float(half.class_prior[k]),
            accuracy_rot_deg=float(half.accuracy[k, 0]),
            accuracy_trans_A=float(half.accuracy[k, 1]),
            resolution_A=1 / max(self.policy.frequency(shell), 1e-6),
            overall_completeness=float(inside.mean()),
            offset_prior_A=tuple(half.offset_centre_A[k]),
        )

    def _resolution_shell(self, state: RunState, half: HalfState, k: int) -> int:
        """Last shell that a class is resolved to."""
        return self.policy.shell(state.schedule.frequency)

    def _common(self, state: RunState) -> dict[str, Any]:
        """Entries of the optimiser file that all jobs have."""
        s, c = state.schedule, self.config
        return dict(
            root=self.names.root,
            iteration=s.iteration,
            oversampling=s.oversampling,
            adaptive_fraction=c.adaptive_fraction,
            random_seed=state.seed,
            particle_diameter_A=self.setup.particle_diameter_A,
            width_mask_edge_px=c.maskedge,
            zero_mask=c.zero_mask,
            flatten_solvent=c.flatten_solvent,
            solvent_mask=c.solvent_mask or None,
            strict_highres_A=c.strict_highres_exp,
            strict_lowres_A=c.strict_lowres_exp,
            increment_size=s.increment,
            n_iter_without_resolution_gain=s.iterations_without_gain,
            best_resolution_1_over_A=s.best_frequency,
            n_iter_without_changing_assignments=s.iterations_without_changes,
            accuracy_rot_deg=s.accuracy_rot_deg,
            accuracy_trans_A=s.accuracy_trans_A,
            change_orientations_deg=s.change_angle_deg,
            change_offsets_A=s.change_offset_A,
            smallest_change_orientations_deg=s.smallest_angle_deg,
            smallest_change_offsets_A=s.smallest_offset_A,
            has_converged=s.converged,
            has_high_fsc_at_limit=s.high_fsc_at_limit,
            norm_correction=c.norm,
            scale_correction=c.scale,
            ctf_correction=c.ctf,
        )


def _describe_setup(setup: ImagingSetup) -> dict[str, float]:
    kept = ("box", "pixel_size_A", "padding", "particle_diameter_A")
    return {k: v for k, v in asdict(setup).items() if k in kept}
