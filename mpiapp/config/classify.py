"""Options of ``mpiapp class3d`` and ``mpiapp class2d`` beyond the common ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.checks import check_combinations, check_required, check_symmetry, common_warnings
from mpiapp.config.common import (
    CTF,
    FILES,
    MODEL,
    OR_AUTO,
    REFERENCE,
    SAMPLING,
    VolumeConfig,
)
from mpiapp.config.gradient import GRADIENT, GradientConfig
from mpiapp.config.option import option
from mpiapp.config.relion_flags import REFUSED_GROUPS
from mpiapp.errors import ConfigError

ITERATIONS, GRADIENT_ITERATIONS = 25, 200
HALVES = "a classification has no half sets; mpiapp refine3d refines in two halves"


@dataclass(frozen=True, kw_only=True)
class ClassConfig(GradientConfig):
    """Options of every classification."""

    refused_flags: ClassVar[Mapping[str, str]] = {
        **REFUSED_GROUPS,
        HALVES: "auto_refine split_random_halves auto_sampling",
    }

    # noise spectra are those of images of like CTF, so a run can not go on otherwise
    ctf: bool = option(True, "Correct for the CTF.", CTF, fixed=True)
    n_classes: int = option(1, "Number of classes.", REFERENCE, flag="K", minimum=1, fixed=True)
    n_iter: int = option(
        -1,
        "Number of iterations; -1 means 25, or 200 with --grad.",
        MODEL,
        flag="iter",
        minimum=1,
        special=(-1,),
    )
    skip_align: bool = option(False, "Only classify: poses stay as the file has them.", SAMPLING, fixed=True)
    skip_rotate: bool = option(
        False, "Classify and shift: orientations stay as the file has them.", SAMPLING, fixed=True
    )
    allow_coarser_sampling: bool = option(
        False, "Sample more coarsely while accuracies do not ask for more.", SAMPLING
    )
    center_classes: bool = option(False, "Move references to their centre of mass.", REFERENCE)

    def check_combinations(self) -> None:
        """Check combinations of options; raises ConfigError."""
        check_required(self, reference=self.needs_reference)
        check_combinations(self)
        self.check_gradient()
        if self.allow_coarser_sampling and (self.skip_align or self.skip_rotate):
            raise ConfigError("--allow_coarser_sampling: orientations are not sampled at all; leave it out")
        if self.center_classes and self.skip_align:
            raise ConfigError(
                "--center_classes: with --skip_align poses stay, so references that are moved do not fit them any more; "
                "leave it out"
            )

    @property
    def last_iteration(self) -> int:
        """Iteration after which a run ends."""
        if self.n_iter > 0:
            return self.n_iter
        return GRADIENT_ITERATIONS if self.grad else ITERATIONS

    @property
    def needs_reference(self) -> bool:
        """Whether a run can not start without a reference."""
        return True

    def advice(self) -> list[str]:
        """Warnings about choices that are allowed but seldom meant."""
        return [*common_warnings(self, reference=self.needs_reference), *self.unused_gradient()]


@dataclass(frozen=True, kw_only=True)
class Class3dConfig(ClassConfig, VolumeConfig):
    """Options of a 3D classification."""

    command: ClassVar[str] = "class3d"

    sigma_ang: float = option(
        -1.0,
        "Width of the prior of local searches; -1 searches everywhere.",
        SAMPLING,
        unit="deg",
        **OR_AUTO,
    )
    tau2_fudge: float = option(4.0, "Regularisation T. -1 means 4.", MODEL, **OR_AUTO)

    def check_combinations(self) -> None:
        """Check combinations of options; raises ConfigError."""
        super().check_combinations()
        check_symmetry(self.sym)
        if self.sigma_ang > 0 and (self.skip_align or self.skip_rotate):
            raise ConfigError("--sigma_ang: orientations are not searched with --skip_align or --skip_rotate")


@dataclass(frozen=True, kw_only=True)
class Class2dConfig(ClassConfig):
    """Options of a 2D classification."""

    command: ClassVar[str] = "class2d"
    # averages have no directions
    sym: ClassVar[str] = "C1"
    healpix_order: ClassVar[int] = 0
    sigma_ang: ClassVar[float] = -1.0
    ref_angpix: ClassVar[float] = -1.0
    trust_ref_size: ClassVar[bool] = False

    reference: str = option(
        "",
        "Start averages (MRC stack); random averages of the images without it.",
        FILES,
        flag="ref",
        fixed=True,
    )
    init_blobs: bool = option(
        False,
        "Start from random blobs rather than random averages; on with --grad.",
        REFERENCE,
        fixed=True,
    )
    tau2_fudge: float = option(2.0, "Regularisation T. -1 means 2.", MODEL, **OR_AUTO)
    class_inactivity_threshold: float = option(
        0.1,
        "Classes below this share of the mean size are replaced by copies of active ones; 0: none.",
        GRADIENT,
        minimum=0,
        maximum=1,
    )
    psi_step: float = option(
        12.0,
        "Step of the in-plane angle, coarse pass.",
        SAMPLING,
        unit="deg",
        above=0,
        maximum=90,
        fixed=True,
    )

    @property
    def needs_reference(self) -> bool:
        """Whether a run can not start without a reference."""
        return False

    @property
    def starts_from_blobs(self) -> bool:
        """Whether a run without a reference starts from blobs."""
        return self.init_blobs if self.is_given("init_blobs") else self.grad
