"""Options of ``mpiapp select``."""

from __future__ import annotations

import os
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
        if os.path.realpath(self.data_star) == os.path.realpath(self.output):
            raise ConfigError(f"--o {self.output}: is the file that is read; give another name")
        self.ranges()

    def ranges(self) -> list[tuple[int, int]]:
        """First and last of the classes that ``--classes`` names."""
        found: list[tuple[int, int]] = []
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
            found.append((low, high))
        return found
