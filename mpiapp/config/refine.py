"""Options of ``mpiapp refine3d`` beyond the common ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.checks import (
    check_combinations,
    check_refinement,
    check_required,
    check_symmetry,
    common_warnings,
)
from mpiapp.config.common import MASKS, MODEL, OR_AUTO, SAMPLING, SCHEDULE, VolumeConfig
from mpiapp.config.option import option


@dataclass(frozen=True, kw_only=True)
class RefineConfig(VolumeConfig):
    """Options of a gold-standard 3D auto-refinement."""

    command: ClassVar[str] = "refine3d"

    solvent_correct_fsc: bool = option(False, "Use mask-corrected FSCs; needs --solvent_mask.", MASKS)

    low_resol_join_halves: float = option(
        40.0, "Join the halves below this resolution, to keep them in register.", MODEL, unit="A", **OR_AUTO
    )

    auto_local_healpix_order: int = option(
        4, "HEALPix order from which searches are local.", SAMPLING, minimum=0, maximum=9
    )

    auto_iter_max: int = option(999, "Stop after this iteration at the latest.", SCHEDULE, minimum=1)
    auto_ignore_angles: bool = option(False, "Go finer while orientations still change.", SCHEDULE)
    auto_resol_angles: bool = option(False, "Go finer as soon as the resolution asks for it.", SCHEDULE)
    relion_convergence: bool = option(
        False, "Stop by RELION's own rules, even while accuracies still improve.", SCHEDULE
    )
    force_converge: bool = option(
        False, "With --continue: go straight to the final iteration.", SCHEDULE, per_call=True
    )

    @property
    def last_iteration(self) -> int:
        """Iteration after which a run ends at the latest."""
        return 10**9 if self.force_converge else self.auto_iter_max

    @property
    def last_iteration_flag(self) -> tuple[str, str]:
        """Flag that sets it, and what else a user can do."""
        return "auto_iter_max", ", or --force_converge for the final iteration"

    def check_combinations(self) -> None:
        """Check combinations of options; raises ConfigError."""
        check_refinement(self)
        check_required(self)
        check_symmetry(self.sym)
        check_combinations(self)

    def advice(self) -> list[str]:
        """Warnings about choices that are allowed but seldom meant."""
        lines = common_warnings(self)
        if self.tau2_fudge > 1:
            lines.append(
                f"--tau2_fudge {self.tau2_fudge:g}: resolutions printed on the way will be inflated; "
                "judge the run by the FSC of the unfiltered half maps"
            )
        return lines
