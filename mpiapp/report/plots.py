"""The plots of a run: PNG files, each with its numbers as CSV beside it."""

from __future__ import annotations

from mpiapp.report.angular_plot import plot_angular_distribution
from mpiapp.report.classes_plot import plot_class_sizes, plot_classes
from mpiapp.report.cones_plot import plot_cones
from mpiapp.report.fsc_plot import plot_fsc, resolution_of_curve
from mpiapp.report.guinier_plot import plot_guinier
from mpiapp.report.histogram_plot import plot_histogram
from mpiapp.report.locres_plot import plot_local_resolution
from mpiapp.report.progress_plot import plot_progress
from mpiapp.report.slices_plot import plot_slices
from mpiapp.report.spectra_plot import plot_fsc_history, plot_spectra

__all__ = [
    "plot_angular_distribution",
    "plot_class_sizes",
    "plot_classes",
    "plot_cones",
    "plot_fsc",
    "plot_fsc_history",
    "plot_guinier",
    "plot_histogram",
    "plot_local_resolution",
    "plot_progress",
    "plot_slices",
    "plot_spectra",
    "resolution_of_curve",
]
