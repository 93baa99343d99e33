"""Every option of ``mpiapp mask_create``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.job import JobConfig
from mpiapp.config.option import option
from mpiapp.errors import ConfigError

FILES = "Input and output"
THRESHOLD = "From a density"
NEW = "From nothing"
COMPUTING = "Computing"
LOGIC = {"and": "and_map", "or": "or_map", "and_not": "and_not", "or_not": "or_not"}


@dataclass(frozen=True, kw_only=True)
class MaskCreateConfig(JobConfig):
    """Options of a mask job, by RELION's names."""

    command: ClassVar[str] = "mask_create"

    input_map: str = option("", "Map to threshold (MRC).", FILES, flag="i")
    output: str = option("mask.mrc", "Mask to write.", FILES, flag="o")
    angpix: float = option(-1.0, "Pixel size; -1 reads the header.", FILES, unit="A", above=0, special=(-1,))

    lowpass: float = option(
        -1.0, "Low-pass of the map first; -1 takes it as it is.", THRESHOLD, unit="A", above=0, special=(-1,)
    )
    ini_threshold: float = option(
        0.01, "Density above which a voxel is inside; -1 finds it from the solvent.", THRESHOLD
    )
    and_map: str = option("", "Inside where this map is above the threshold as well.", THRESHOLD, flag="and")
    or_map: str = option("", "Inside where either map is above the threshold.", THRESHOLD, flag="or")
    and_not: str = option("", "Inside where the map is above and this one is below.", THRESHOLD)
    or_not: str = option("", "Inside where the map is above or this one is below.", THRESHOLD)
    extend_inimask: float = option(0.0, "Grow the binary mask; negative shrinks it.", THRESHOLD, unit="px")
    width_soft_edge: float = option(0.0, "Width of the soft edge around it.", THRESHOLD, unit="px", minimum=0)
    invert: bool = option(False, "Write 1 - mask.", THRESHOLD)
    helix: bool = option(False, "Keep the central part along z only.", THRESHOLD)
    z_percentage: float = option(0.3, "Part of the box that --helix keeps.", THRESHOLD, above=0, maximum=1)

    denovo: bool = option(False, "Make a spherical shell instead; needs --box_size.", NEW)
    box_size: int = option(-1, "Box of the mask.", NEW, unit="px", minimum=2, special=(-1,))
    inner_radius: float = option(0.0, "Inner radius.", NEW, unit="px", minimum=0)
    outer_radius: float = option(99999.0, "Outer radius.", NEW, unit="px", above=0)
    center_x: float = option(0.0, "Centre, from the centre of the box.", NEW, unit="px")
    center_y: float = option(0.0, "The same along y.", NEW, unit="px")
    center_z: float = option(0.0, "The same along z.", NEW, unit="px")

    threads: int = option(0, "Threads; 0 takes all cores.", COMPUTING, flag="j", minimum=0)

    def logic(self) -> tuple[str, str]:
        """The operation with a second map and its name; two empty texts without one."""
        for operation, field in LOGIC.items():
            if getattr(self, field):
                return operation, getattr(self, field)
        return "", ""

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other."""
        if self.denovo and self.box_size < 0:
            raise ConfigError("--denovo: it needs the box of the mask; add --box_size N")
        if self.denovo and self.inner_radius >= self.outer_radius:
            raise ConfigError(
                f"--inner_radius {self.inner_radius:g}: must be smaller than --outer_radius "
                f"{self.outer_radius:g}"
            )
        if not self.denovo and not self.input_map:
            raise ConfigError("missing --i (map to threshold); or make a shell with --denovo --box_size N")
        given = [name for name, field in LOGIC.items() if getattr(self, field)]
        if len(given) > 1:
            raise ConfigError(f"--{given[0]} and --{given[1]}: only one map can be combined; make two masks")
