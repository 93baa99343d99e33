"""Every option of ``mpiapp reconstruct``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.checks import check_symmetry
from mpiapp.config.job import JobConfig
from mpiapp.config.option import gpu_option, option
from mpiapp.errors import ConfigError

FILES = "Input and output"
CTF = "CTF"
EXPERT = "Expert"
COMPUTING = "Computing"


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig(JobConfig):
    """Options of a reconstruction from particles with known poses, by RELION's names."""

    command: ClassVar[str] = "reconstruct"
    ignored_flags: ClassVar[Mapping[str, str]] = {
        "the reconstruction does not iterate its gridding": "skip_gridding iter=",
        "maps are three-dimensional": "refdim=",
    }
    refused_flags: ClassVar[Mapping[str, str]] = {
        "the Ewald sphere is not corrected for": (
            "ewald mask_diameter=-1 reverse_curvature newbox=-1 skip_mask skip_weighting sectors=2 "
            "width_mask_edge=3"
        ),
        "helices are not implemented": "nr_helical_asu=1 helical_rise=0 helical_twist=0",
        "only linear interpolation in Fourier space is implemented": "NN dont_skip_gridding",
        "it is not implemented": (
            "subtract= fsc= 3d_rot reconstruct_ctf=-1 ctf2 reconstruct_noise= read_weights "
            "write_debug_output external_reconstruct"
        ),
    }

    input_star: str = option("", "Particles with their poses (STAR file).", FILES, flag="i")
    output: str = option("relion.mrc", "Map to write.", FILES, flag="o")
    root: str = option("", "Folder that image names are relative to.", FILES, flag="img", metavar="DIR")
    sym: str = option("C1", "Point group: Cn, Dn, T, O, I, I1 to I4.", FILES, metavar="GROUP")
    angpix: float = option(
        -1.0, "Pixel size of the map; -1: of the first optics group.", FILES, unit="A", above=0, special=(-1,)
    )
    maxres: float = option(
        -1.0, "Highest resolution in the map; -1: Nyquist.", FILES, unit="A", above=0, special=(-1,)
    )
    pad: float = option(2.0, "Padding factor.", FILES, minimum=1, maximum=4)
    subset: int = option(-1, "Only half set 1 or 2; -1: all.", FILES, minimum=1, maximum=2, special=(-1,))
    class_number: int = option(-1, "Only this class; -1: all.", FILES, flag="class", minimum=1, special=(-1,))

    ctf: bool = option(False, "Correct for the CTF.", CTF)
    ctf_intact_first_peak: bool = option(False, "Leave the CTF out up to its first peak.", CTF)
    ctf_phase_flipped: bool = option(False, "The images are phase-flipped already.", CTF)
    only_flip_phases: bool = option(False, "Correct phases only, not amplitudes.", CTF)

    keep_corners: bool = option(
        False,
        "Let the corners of images, outside the inscribed circle, into the map, as RELION does.",
        EXPERT,
    )
    fom_weighting: bool = option(False, "Weight particles by rlnParticleFigureOfMerit.", EXPERT)
    angular_error: float = option(0.0, "Random error of the angles.", EXPERT, unit="deg", minimum=0)
    shift_error: float = option(0.0, "Random error of the offsets.", EXPERT, unit="A", minimum=0)
    random_seed: int = option(0, "Seed of those errors.", EXPERT, minimum=0, maximum=2**31 - 1)

    threads: int = option(
        0, "Threads of a process; 0 shares a machine's cores.", COMPUTING, flag="j", minimum=0
    )
    gpu: str | None = gpu_option(COMPUTING)
    free_gpu_memory: float = option(0.0, "GPU memory to leave free.", COMPUTING, unit="MB", minimum=0)
    verb: int = option(
        1, "0 warnings only, 1 normal, 2 adds the times of kernels.", COMPUTING, minimum=0, maximum=2
    )

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other."""
        if not self.input_star:
            raise ConfigError("missing --i (particles STAR file with poses)")
        check_symmetry(self.sym)
        for flag in ("ctf_intact_first_peak", "ctf_phase_flipped", "only_flip_phases"):
            if getattr(self, flag) and not self.ctf:
                raise ConfigError(f"--{flag}: it acts on the CTF correction; add --ctf")
