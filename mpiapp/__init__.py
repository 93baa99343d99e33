"""Bayesian refinement of single-particle cryo-EM data as matrix products.

Importing this package loads nothing heavy: no MPI, no GPU, no plotting library.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "refine3d"]


def refine3d(**options: Any) -> Any:
    """Gold-standard 3D auto-refinement; the options are those of ``mpiapp refine3d``.

    See :func:`mpiapp.engine.refine3d.refine3d`.
    """
    from mpiapp.engine.refine3d import refine3d as run

    return run(**options)
