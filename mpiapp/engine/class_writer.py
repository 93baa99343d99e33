"""Output files of a classification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import ImagingSetup
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.engine.class_schedule import class_shells
from mpiapp.engine.schedule import Policy
from mpiapp.engine.state import HalfState, RunState
from mpiapp.engine.writer import Writer
from mpiapp.io.outputs import OutputNames
from mpiapp.model.noise_groups import mean_spectra
from mpiapp.model.sampling import plane_grid

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable
    from mpiapp.io.relion_files import ModelRecord, OptimiserRecord, SamplingRecord


class ClassWriter(Writer):
    """Maps of the classes, or a stack of class averages, and one model file of all particles."""

    config: Class3dConfig | Class2dConfig

    def __init__(
        self,
        config: Class3dConfig | Class2dConfig,
        setup: ImagingSetup,
        policy: Policy,
        table: ParticleTable,
        names: OutputNames,
        particles: int,
        noise_group: NDArray[np.int32],
    ) -> None:
        super().__init__(config, setup, policy, table, names, particles)
        self.noise_group = noise_group  # of every particle

    @property
    def _planar(self) -> bool:
        return isinstance(self.config, Class2dConfig)

    def _files(self, state: RunState) -> None:
        from mpiapp.io.mrc import write_stack
        from mpiapp.io.particles import write_particles
        from mpiapp.io.relion_files import write_model, write_sampling

        number, references = state.schedule.iteration, state.maps[0]
        maps = (
            {} if self._planar else {self.names.class_map(number, k): v for k, v in enumerate(references, 1)}
        )
        with self._written(maps):
            if self._planar:
                write_stack(self.names.classes_stack(number), references, self.setup.pixel_size_A)
            elif not (self.config.skip_align or self.config.skip_rotate):
                self._distributions(state, state.halves[0], number, None)
            write_particles(self.names.data(number), self.table, self._columns(state))
            write_sampling(self.names.sampling(number), self._sampling(state))
            write_model(self.names.model(number), self._model(state, state.halves[0], None))
        self.last_files = number

    def pictures(self, state: RunState) -> None:
        """Classes sorted by size, slices of maps, class sizes and progress as PNG with their numbers."""
        from mpiapp.report.plots import plot_class_sizes, plot_classes, plot_progress, plot_slices

        half, number = state.halves[0], state.schedule.iteration
        resolution = [1 / self.policy.frequency(int(s)) for s in class_shells(self.policy, half)]
        references, title = state.maps[0], f"Classes after iteration {number}"
        images = references if self._planar else references.sum(axis=1)
        shares = half.class_prior
        plot_classes(self.names.classes_plot(number), images, shares, resolution, title)
        plot_class_sizes(self.names.class_sizes_plot, state.history)
        plot_progress(self.names.progress_plot, state.history, "Progress of the classification")
        for k, volume in enumerate([] if self._planar else references, 1):
            if shares[k - 1] > 0:
                text = f"Class {k}: {shares[k - 1]:.1%} of the particles"
                diameter = self.setup.particle_diameter_A
                plot_slices(
                    self.names.slices_plot(number, k), volume, self.setup.pixel_size_A, text, diameter
                )
        self.write_page()

    def _columns(self, state: RunState) -> dict[str, NDArray[np.generic]]:
        columns = super()._columns(state)
        if self._planar:  # averages have no direction
            del columns["rlnAngleRot"], columns["rlnAngleTilt"]
        return columns

    def _sampling(self, state: RunState) -> SamplingRecord:
        record = super()._sampling(state)
        if isinstance(self.config, Class2dConfig) and state.schedule.psi_step_deg:
            record.is_3d = False
            record.psi_step_deg = plane_grid(state.schedule.psi_step_deg).psi_step_deg
            record.original_psi_step_deg = plane_grid(self.config.psi_step).psi_step_deg
        return record

    def _reference_path(self, state: RunState, half: int | None, k: int) -> Path:
        number = state.schedule.iteration
        if self._planar:
            return Path(f"{k:06d}@{self.names.classes_stack(number)}")
        return self.names.class_map(number, k)

    def _resolution_shell(self, state: RunState, half: HalfState, k: int) -> int:
        return int(class_shells(self.policy, half)[k])

    def _noise(self, half: HalfState) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        optics, groups = self.table.optics_index, self.table.group_index
        of_optics = mean_spectra(half.sigma2, self.noise_group, optics, len(self.table.optics))
        return of_optics, mean_spectra(half.sigma2, self.noise_group, groups, self.setup.n_groups)

    def _model(self, state: RunState, half: HalfState, number: int | None) -> ModelRecord:
        record = super()._model(state, half, number)
        record.reference_dimensionality = 2 if self._planar else 3
        return record

    def _optimiser(self, state: RunState, number: int | None) -> OptimiserRecord:
        from mpiapp.io.relion_files import OptimiserRecord

        c, s = self.config, state.schedule
        return OptimiserRecord(
            **self._common(state),
            model_star=str(self.names.model(number)),
            data_star=str(self.names.data(number)),
            sampling_star=str(self.names.sampling(number)),
            n_iterations=c.last_iteration,
            split_random_halves=False,
            auto_refine=False,
            skip_align=c.skip_align,
            skip_rotate=c.skip_rotate,
            center_classes=c.center_classes,
            change_classes=s.change_class,
            smallest_change_classes=int(np.ceil(min(s.change_class, 1.0))),
        )
