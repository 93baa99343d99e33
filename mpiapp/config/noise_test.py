"""Every option of ``mpiapp noise_test``: those of refine3d, and two of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from mpiapp.config.option import option, options_of
from mpiapp.config.refine import RefineConfig
from mpiapp.errors import ConfigError

TEST = "Noise test"


@dataclass(frozen=True, kw_only=True)
class NoiseTestConfig(RefineConfig):
    """Options of a refinement that is repeated with particles whose detail is noise."""

    command: ClassVar[str] = "noise_test"

    randomize_at: float = option(
        -1.0,
        "Phases of the particles are random beyond this resolution.",
        TEST,
        unit="A",
        above=0,
        special=(-1,),
    )
    original: str = option(
        "",
        "Root of the finished run with the true particles; without it that is done first.",
        TEST,
        metavar="ROOT",
    )

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other."""
        super().check_combinations()
        if self.randomize_at <= 0:
            raise ConfigError(
                "missing --randomize_at: the resolution beyond which phases are made random, e.g. 1.5 times that of "
                "the map"
            )
        if self.continue_from:
            raise ConfigError(
                "--continue: a noise test is begun anew; continue its refinement with mpiapp refine3d"
            )

    def refinement(self, **changes: Any) -> RefineConfig:
        """The refinement that these options ask for, with some of them changed."""
        values = {spec.name: getattr(self, spec.name) for spec in options_of(RefineConfig)}
        given = self.given & set(values)
        return dataclasses.replace(RefineConfig(**values, given=given), **changes).validate()
