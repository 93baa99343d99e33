"""Every option of ``mpiapp plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mpiapp.config.checks import check_symmetry
from mpiapp.config.job import JobConfig
from mpiapp.config.option import option
from mpiapp.config.relion_flags import IGNORED_GROUPS, REFUSED_GROUPS
from mpiapp.errors import ConfigError

DATA = "Particles"
SAMPLING = "Sampling"
DEVICE = "Devices"

OR_AUTO: dict[str, Any] = {"above": 0, "special": (-1,)}


@dataclass(frozen=True, kw_only=True)
class PlanConfig(JobConfig):
    """Sizes of a refinement whose memory is to be planned; names and defaults as for ``refine3d``."""

    command: ClassVar[str] = "plan"
    ignored_flags: ClassVar[Mapping[str, str]] = IGNORED_GROUPS
    refused_flags: ClassVar[Mapping[str, str]] = REFUSED_GROUPS

    box: int = option(256, "Image box; even.", DATA, unit="px", minimum=16, maximum=4096)
    angpix: float = option(1.0, "Pixel size.", DATA, unit="A", above=0)
    particle_diameter: float = option(
        -1.0, "Diameter of the mask on images; -1 takes 3/4 of the box.", DATA, unit="A", **OR_AUTO
    )
    particles: int = option(100_000, "Number of particles.", DATA, minimum=1)
    float16: bool = option(
        False, "The stacks are in half precision, which halves what is read; a device keeps single.", DATA
    )
    n_classes: int = option(1, "Number of classes.", DATA, flag="K", minimum=1, maximum=1000)
    sym: str = option("C1", "Point group: Cn, Dn, T, O, I, I1 to I4.", DATA, metavar="GROUP")

    ini_high: float = option(40.0, "Resolution at the start.", SAMPLING, unit="A", above=0)
    incr_size: int = option(
        10, "Shells used beyond the current resolution.", SAMPLING, unit="shells", minimum=1
    )
    pad: float = option(2.0, "Padding factor of the transforms of maps.", SAMPLING, minimum=1, maximum=4)
    oversampling: int = option(1, "Oversampling order.", SAMPLING, minimum=0, maximum=3)
    healpix_order: int = option(
        2, "HEALPix order of the coarse pass at the start: 2 is 15 degrees.", SAMPLING, minimum=0, maximum=6
    )
    auto_local_healpix_order: int = option(
        4, "HEALPix order from which searches are local.", SAMPLING, minimum=0, maximum=7
    )
    offset_range: float = option(6.0, "Search range of offsets, coarse pass.", SAMPLING, unit="px", minimum=0)
    offset_step: float = option(2.0, "Step of offsets, coarse pass.", SAMPLING, unit="px", above=0)

    gpu_memory: float = option(
        -1.0, "Memory of a device; -1 shows cards of 8, 11, 24, 48 and 80.", DEVICE, unit="GB", **OR_AUTO
    )
    free_gpu_memory: float = option(0.0, "GPU memory to leave free.", DEVICE, unit="MB", minimum=0)
    workers: int = option(1, "Workers, one a device, among whom the particles are dealt.", DEVICE, minimum=1)
    precision: str = option(
        "auto",
        "Arithmetic of the score products.",
        DEVICE,
        choices=("auto", "half", "tf32", "single", "double"),
    )
    output_root: str = option(
        "",
        "Root of the plot: ROOT_memory.png and .csv; without it none is made.",
        DEVICE,
        flag="o",
        metavar="ROOT",
    )

    @property
    def diameter_A(self) -> float:
        """Diameter of the particle."""
        return self.particle_diameter if self.particle_diameter > 0 else 0.75 * self.box * self.angpix

    @property
    def n_halves(self) -> int:
        """Sets of particles: two halves where one structure is refined, one where classes are."""
        return 2 if self.n_classes == 1 else 1

    @property
    def share(self) -> int:
        """Particles of a worker."""
        return -(-self.particles // self.workers)

    @property
    def step_particles(self) -> int:
        """Particles of a worker in one half: those of one expectation step."""
        return -(-self.particles // max(self.workers, self.n_halves))

    def check_combinations(self) -> None:
        """Raise ConfigError for options that contradict each other."""
        if self.box % 2:
            raise ConfigError(f"--box {self.box}: image boxes are even; {self.box + 1} is the next")
        check_symmetry(self.sym)
        if self.ini_high < 2 * self.angpix:
            raise ConfigError(
                f"--ini_high {self.ini_high:g}: beyond the Nyquist limit of --angpix {self.angpix:g} "
                f"({2 * self.angpix:g} A)"
            )
