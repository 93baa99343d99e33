"""Versions of what a run computes with, for the files that it leaves."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

import mpiapp

PACKAGES = ("numpy", "scipy", "numba", "healpix", "h5py", "mrcfile", "starfile", "pandas", "mpi4py", "mpich")
GPU_PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "nvidia-nccl-cu12", "nvidia-nccl-cu13")
ABSENT = "not installed"


def version_of(package: str) -> str:
    """Version of an installed package, or that it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT


def provenance(made_by: str, command_line: str, *more: str) -> str:
    """Head of a file that a job leaves: a line each for what wrote it, its command, more, and the libraries."""
    return "\n".join([f"mpiapp {made_by}; version {mpiapp.__version__}", command_line, *more, libraries()])


@cache
def libraries() -> str:
    """Python and the packages that results may depend on, in one line."""
    found = {name: version_of(name) for name in (*PACKAGES, *GPU_PACKAGES)}
    known = [f"{name} {version}" for name, version in found.items() if version != ABSENT]
    return ", ".join([f"python {platform.python_version()}", *known])
