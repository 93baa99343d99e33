"""The plots of a run: PNG files, each with its numbers as CSV beside it."""

from __future__ import annotations

from mpiapp.report.angular_plot import plot_angular_distribution
from mpiapp.report.classes_plot import plot_class_sizes, plot_classes
from mpiapp.report.fsc_plot import plot_fsc, resolution_of_curve
from mpiapp.report.progress_plot import plot_progress
from mpiapp.report.slices_plot import plot_slices

__all__ = [
    "plot_angular_distribution",
    "plot_class_sizes",
    "plot_classes",
    "plot_fsc",
    "plot_progress",
    "plot_slices",
    "resolution_of_curve",
]
