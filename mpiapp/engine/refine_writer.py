"""Output files of a refinement in two halves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.refine import RefineConfig
from mpiapp.engine.state import RunState
from mpiapp.engine.writer import Writer

if TYPE_CHECKING:
    from mpiapp.io.relion_files import OptimiserRecord

F32 = NDArray[np.float32]


class RefinementWriter(Writer):
    """Half maps and a model file of each half, and the final files of the converged run."""

    config: RefineConfig

    def finish(self, state: RunState, volume: F32, unfiltered: list[F32]) -> None:
        """Everything that a converged run leaves."""
        self.final(state, volume, unfiltered)
        self.plots(state, volume)
        self.write_page()

    def final(self, state: RunState, volume: F32, unfiltered: list[F32]) -> None:
        """Maps and tables of the converged run."""
        maps = {self.names.unfil(h): half_map for h, half_map in enumerate(unfiltered, 1)}
        maps[self.names.final_map()] = volume
        with self._written(maps):
            self._tables(state, None)
            self._distributions(state, state.halves[0], None, None)
        self._optimiser_file(state, None)
        self.names.partial_checkpoint(state.schedule.iteration).unlink(missing_ok=True)

    def plots(self, state: RunState, volume: F32) -> None:
        """FSC, slices, angular distribution and progress as PNG with their numbers."""
        from mpiapp.io.chimerax import write_map_script
        from mpiapp.model.mask_creation import automatic_threshold
        from mpiapp.model.orientation_quality import coverage
        from mpiapp.report import log
        from mpiapp.report.orientation import orientation_warnings
        from mpiapp.report.plots import plot_angular_distribution, plot_fsc, plot_progress, plot_slices

        frequency = np.arange(self.setup.n_shells) / (self.setup.box * self.setup.pixel_size_A)
        label = "half maps, " + ("corrected for the mask" if self.config.solvent_correct_fsc else "unmasked")
        plot_fsc(self.names.fsc_plot(), {label: (frequency, state.fsc)})
        plot_slices(
            self.names.slices_plot(),
            volume,
            self.setup.pixel_size_A,
            "Final map",
            self.setup.particle_diameter_A,
        )
        plot_angular_distribution(
            self.names.angular_plot(), state.poses.rot_deg, state.poses.tilt_deg, self.config.sym
        )
        directions = self.names.angular_distribution(None, None)
        write_map_script(self.names.script, self.names.final_map(), automatic_threshold(volume), [directions])
        views = coverage(state.poses.rot_deg, state.poses.tilt_deg, self.setup.group)
        for line in orientation_warnings(views):
            log.warn(line)
        plot_progress(self.names.progress_plot, state.history)

    def _files(self, state: RunState) -> None:
        number = state.schedule.iteration
        maps = {self.names.half_map(number, h): volumes[0] for h, volumes in enumerate(state.maps, 1)}
        with self._written(maps):
            for h, half in enumerate(state.halves, 1):
                self._distributions(state, half, number, h)
            self._tables(state, number)
        self.last_files = number

    def _tables(self, state: RunState, number: int | None) -> None:
        from mpiapp.io.particles import write_particles
        from mpiapp.io.relion_files import write_model, write_sampling

        write_particles(self.names.data(number), self.table, self._columns(state))
        write_sampling(self.names.sampling(number), self._sampling(state))
        if number is None:
            write_model(self.names.model(None), self._model(state, state.halves[0], None))
        else:
            for h, half in enumerate(state.halves, 1):
                write_model(self.names.model(number, h), self._model(state, half, h))

    def _columns(self, state: RunState) -> dict[str, NDArray[np.generic]]:
        return {**super()._columns(state), "rlnRandomSubset": state.half.astype(np.int64)}

    def _reference_path(self, state: RunState, half: int | None, k: int) -> Path:
        if half is None:
            return self.names.final_map()
        return self.names.half_map(state.schedule.iteration, half)

    def _optimiser(self, state: RunState, number: int | None) -> OptimiserRecord:
        from mpiapp.io.relion_files import OptimiserRecord

        c = self.config
        return OptimiserRecord(
            **self._common(state),
            model_star=str(self.names.model(number, 1 if number is not None else None)),
            model_star_2=str(self.names.model(number, 2)) if number is not None else None,
            data_star=str(self.names.data(number)),
            sampling_star=str(self.names.sampling(number)),
            n_iterations=c.auto_iter_max,
            low_resol_join_halves_A=c.low_resol_join_halves,
            solvent_correct_fsc=c.solvent_correct_fsc,
            auto_local_healpix_order=c.auto_local_healpix_order,
            change_classes=0.0,
            smallest_change_classes=0,
        )
