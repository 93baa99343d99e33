"""Bayesian refinement of single-particle cryo-EM data as matrix products.

Importing this package loads nothing heavy: no MPI, no GPU, no plotting library.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "class2d", "class3d", "refine3d"]


def refine3d(**options: Any) -> Any:
    """Gold-standard 3D auto-refinement; the options are those of ``mpiapp refine3d``.

    See :func:`mpiapp.engine.refine3d.refine3d`.
    """
    from mpiapp.engine.refine3d import refine3d as run

    return run(**options)


def class3d(**options: Any) -> Any:
    """3D classification; the options are those of ``mpiapp class3d``."""
    from mpiapp.engine.classify import class3d as run

    return run(**options)


def class2d(**options: Any) -> Any:
    """2D classification; the options are those of ``mpiapp class2d``."""
    from mpiapp.engine.classify import class2d as run

    return run(**options)
