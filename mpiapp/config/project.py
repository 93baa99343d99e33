"""Every option of ``mpiapp project``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.job import JobConfig
from mpiapp.config.option import option
from mpiapp.errors import ConfigError

FILES = "Input and output"
POSES = "Poses"
IMAGE = "Images"
COMPUTING = "Computing"


@dataclass(frozen=True, kw_only=True)
class ProjectConfig(JobConfig):
    """Options of projecting a map, by RELION's names."""

    command: ClassVar[str] = "project"
    refused_flags: ClassVar[Mapping[str, str]] = {
        "only linear interpolation in Fourier space is implemented": "NN",
        "rotating in three dimensions is not implemented": "3d_rot zoff=0",
        "use mpiapp simulate": "simulate add_noise model_noise= adjust_simulation_SNR=1 ang_simulate=",
        "it is not implemented": "ctf2 ignore_particle_name",
    }

    input_map: str = option("", "Map to project (MRC).", FILES, flag="i")
    output_root: str = option(
        "proj",
        "Root of the stack and STAR file, or the image's name for one.",
        FILES,
        flag="o",
        metavar="ROOT",
    )
    angpix: float = option(-1.0, "Pixel size; -1 reads the header.", FILES, unit="A", above=0, special=(-1,))
    mask: str = option("", "Mask that is multiplied with the map first.", FILES)

    particles: str = option("", "Particles whose poses and CTFs are taken (STAR file).", POSES, flag="ang")
    nr_uniform: int = option(-1, "Or so many poses at random.", POSES, minimum=1, special=(-1,))
    rot: float = option(0.0, "First Euler angle of a single projection.", POSES, unit="deg")
    tilt: float = option(0.0, "Second Euler angle.", POSES, unit="deg")
    psi: float = option(0.0, "Third Euler angle.", POSES, unit="deg")
    xoff: float = option(0.0, "Origin offset along x.", POSES, unit="px")
    yoff: float = option(0.0, "Origin offset along y.", POSES, unit="px")
    sigma_offset: float = option(0.0, "Random offsets of this width are added.", POSES, unit="px", minimum=0)

    ctf: bool = option(False, "Multiply by the CTF; needs --ang.", IMAGE)
    ctf_phase_flip: bool = option(False, "The CTF's absolute value instead.", IMAGE)
    ctf_intact_first_peak: bool = option(False, "Leave the CTF out up to its first peak.", IMAGE)
    white_noise: float = option(0.0, "Standard deviation of added noise.", IMAGE, minimum=0)
    subtract_exp: bool = option(False, "Write the images of --ang minus the projections.", IMAGE)
    maxres: float = option(
        -1.0, "Highest resolution in the images; -1: Nyquist.", IMAGE, unit="A", above=0, special=(-1,)
    )
    pad: float = option(2.0, "Padding factor.", IMAGE, minimum=1, maximum=4)

    random_seed: int = option(0, "Seed of poses, offsets and noise.", COMPUTING, minimum=0, maximum=2**31 - 1)
    threads: int = option(0, "Threads; 0 takes all cores.", COMPUTING, flag="j", minimum=0)

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other."""
        if not self.input_map:
            raise ConfigError("missing --i (map to project)")
        if self.particles and self.nr_uniform > 0:
            raise ConfigError(f"--nr_uniform {self.nr_uniform}: give either it or --ang, not both")
        for flag in ("ctf", "subtract_exp"):
            if getattr(self, flag) and not self.particles:
                raise ConfigError(f"--{flag}: it needs particles; add --ang particles.star")
        for flag in ("ctf_phase_flip", "ctf_intact_first_peak"):
            if getattr(self, flag) and not self.ctf:
                raise ConfigError(f"--{flag}: it acts on the CTF; add --ctf")
