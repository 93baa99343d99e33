"""Options of ``mpiapp select``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.job import JobConfig
from mpiapp.config.option import option
from mpiapp.errors import ConfigError

FILES, WHICH = "Input and output", "Which classes"


@dataclass(frozen=True, kw_only=True)
class SelectConfig(JobConfig):
    """Options of a selection of classes; a class has to meet every condition that is given."""

    command: ClassVar[str] = "select"

    data_star: str = option("", "Particles of a classification (run_itNNN_data.star).", FILES, flag="i")
    output: str = option("", "STAR file to write.", FILES, flag="o")
    model_star: str = option(
        "", "Model file of the same iteration; default is the one beside --i.", FILES, flag="model"
    )

    classes: str = option("", "Numbers, e.g. 1,3,5-8.", WHICH, metavar="LIST")
    min_fraction: float = option(
        0.0, "Classes with at least this share of the particles.", WHICH, minimum=0, maximum=1
    )
    max_resolution: float = option(
        -1.0, "Classes resolved to this or better; -1: any.", WHICH, unit="A", above=0, special=(-1,)
    )

    def check_combinations(self) -> None:
        """Raise ConfigError for files that are not named, or when nothing tells which classes to take."""
        if not self.data_star or not self.output:
            raise ConfigError("give --i run_itNNN_data.star and --o selected.star")
        if not self.classes and self.min_fraction <= 0 and self.max_resolution <= 0:
            raise ConfigError(
                "nothing tells which classes to take; give --classes 1,3, --min_fraction 0.05 or --max_resolution 15"
            )
        self.numbers()

    def numbers(self) -> set[int]:
        """Classes that ``--classes`` names."""
        found: set[int] = set()
        for word in self.classes.replace(",", " ").split():
            first, dash, last = word.partition("-")
            try:
                low, high = int(first), int(last) if dash else int(first)
            except ValueError:
                low, high = 0, 0
            if not 1 <= low <= high:
                raise ConfigError(
                    f"--classes {self.classes}: {word} is no class number or range; write e.g. 1,3,5-8"
                )
            found |= set(range(low, high + 1))
        return found
