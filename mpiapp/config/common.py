"""Options that all refinements and classifications share: name, default, unit, help and range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mpiapp.config.job import JobConfig
from mpiapp.config.option import gpu_option, option
from mpiapp.config.relion_flags import IGNORED_GROUPS, REFUSED_GROUPS

FILES = "Input and output"
REFERENCE = "Reference and particle"
CTF = "CTF"
MASKS = "Masks and solvent"
MODEL = "Statistical model"
SAMPLING = "Orientations and offsets"
SCHEDULE = "Auto-refine schedule"
COMPUTING = "Computing"
RUNNING = "Stopping and continuing"

# a number above zero, or -1 for "automatic", "none" or "no limit"
OR_AUTO: dict[str, Any] = {"above": 0, "special": (-1,)}


@dataclass(frozen=True, kw_only=True)
class CommonConfig(JobConfig):
    """Options of every job that compares particles with references.

    Field names are RELION's flags, except ``input_star`` (--i), ``output_root`` (--o), ``reference`` (--ref),
    ``threads`` (--j) and ``continue_from`` (--continue).
    """

    ignored_flags: ClassVar[Mapping[str, str]] = IGNORED_GROUPS
    refused_flags: ClassVar[Mapping[str, str]] = REFUSED_GROUPS

    input_star: str = option("", "Particles (STAR file, RELION 3.0 or newer).", FILES, flag="i", fixed=True)
    output_root: str = option(
        "", "Root of all output names, e.g. Refine3D/job012/run.", FILES, flag="o", metavar="ROOT"
    )
    reference: str = option("", "Start map (MRC).", FILES, flag="ref", fixed=True)
    root: str = option(
        "", "Folder that image names are relative to; default is this one.", FILES, metavar="DIR"
    )

    ini_high: float = option(
        -1.0, "Low-pass of the start map; -1 takes it as it is.", REFERENCE, unit="A", fixed=True, **OR_AUTO
    )
    particle_diameter: float = option(
        -1.0, "Diameter of the circular mask on images; -1 fills the box.", REFERENCE, unit="A", **OR_AUTO
    )
    firstiter_cc: bool = option(
        False, "Cross-correlation in iteration 1: start map of unknown grey scale.", REFERENCE, fixed=True
    )

    ctf: bool = option(True, "Correct for the CTF.", CTF)
    ctf_intact_first_peak: bool = option(False, "Leave the CTF out up to its first peak.", CTF)
    ctf_phase_flipped: bool = option(False, "The images are phase-flipped already.", CTF)
    only_flip_phases: bool = option(False, "Correct phases only, not amplitudes.", CTF)

    flatten_solvent: bool = option(True, "Mask the reference after each iteration.", MASKS)
    solvent_mask: str = option("", "Mask of the reference (MRC) instead of a sphere.", MASKS)
    zero_mask: bool = option(True, "Zeros outside the mask of an image; off fills with noise.", MASKS)
    maskedge: int = option(5, "Soft edge of circular and spherical masks.", MASKS, unit="px", minimum=0)

    norm: bool = option(True, "Correct the normalisation of each particle.", MODEL)
    scale: bool = option(True, "Correct the intensity scale of each group of particles.", MODEL)
    tau2_fudge: float = option(1.0, "Regularisation T; above 1 over-fits. -1 means 1.", MODEL, **OR_AUTO)
    offset: float = option(
        10.0, "Standard deviation of the offsets at the start.", MODEL, unit="A", above=0, fixed=True
    )
    pad: float = option(2.0, "Padding factor of the transforms of maps.", MODEL, minimum=1, maximum=4)
    incr_size: int = option(
        10, "Shells used beyond the current resolution.", MODEL, unit="shells", minimum=1, fixed=True
    )
    minres_map: int = option(5, "Lowest shell that the resolution can fall to.", MODEL, minimum=1)
    strict_highres_exp: float = option(
        -1.0, "Highest resolution used in aligning; -1 has no limit.", MODEL, unit="A", **OR_AUTO
    )
    strict_lowres_exp: float = option(
        -1.0, "Lowest resolution used in aligning; -1 has no limit.", MODEL, unit="A", **OR_AUTO
    )
    nr_parts_sigma2noise: int = option(
        1000,
        "Particles of an optics group for its first noise spectrum; -1 means 1000.",
        MODEL,
        fixed=True,
        **OR_AUTO,
    )

    oversampling: int = option(1, "Oversampling order; 0 has one pass only.", SAMPLING, minimum=0, maximum=3)
    offset_range: float = option(
        6.0, "Search range of offsets, coarse pass.", SAMPLING, unit="px", minimum=0, fixed=True
    )
    offset_step: float = option(
        2.0, "Step of offsets, coarse pass.", SAMPLING, unit="px", above=0, fixed=True
    )
    perturb: float = option(
        0.5, "Random turn of the grid in each iteration, in steps.", SAMPLING, minimum=0, maximum=1
    )
    adaptive_fraction: float = option(
        0.999, "Share of the weight that goes on to the fine pass.", SAMPLING, above=0, maximum=1
    )
    maxsig: int = option(-1, "Most poses of a particle in the fine pass; -1: no limit.", SAMPLING, **OR_AUTO)

    threads: int = option(
        0, "Threads of a process; 0 shares a machine's cores out.", COMPUTING, flag="j", minimum=0
    )
    pool: int = option(0, "Hint for the particles of a batch; 0 lets memory decide.", COMPUTING, minimum=0)
    gpu: str | None = gpu_option(COMPUTING)
    free_gpu_memory: float = option(0.0, "GPU memory to leave free.", COMPUTING, unit="MB", minimum=0)
    precision: str = option(
        "auto", "Arithmetic.", COMPUTING, choices=("auto", "half", "tf32", "single", "double")
    )
    random_seed: int = option(
        -1, "Seed; -1 takes the time.", COMPUTING, fixed=True, minimum=0, maximum=2**31 - 1, special=(-1,)
    )
    verb: int = option(
        1, "0 warnings only, 1 normal, 2 adds debug logs.", COMPUTING, minimum=0, maximum=2, per_call=True
    )

    continue_from: str = option(
        "", "Go on from an optimiser.star; the rest as before.", RUNNING, flag="continue", per_call=True
    )
    max_hours: float = option(
        -1.0,
        "End at a checkpoint after this time; -1: no limit.",
        RUNNING,
        unit="hours",
        per_call=True,
        **OR_AUTO,
    )
    checkpoint_keep: int = option(2, "Checkpoints that are kept.", RUNNING, minimum=1)
    write_every: int = option(1, "Write maps and STAR files of each n-th iteration.", RUNNING, minimum=1)
    dry_run: bool = option(False, "Check everything and print the plan only.", RUNNING, per_call=True)
    pipeline_control: str = option(
        "", "Folder of RELION's RELION_JOB_* files.", RUNNING, metavar="DIR", per_call=True
    )

    @property
    def last_iteration(self) -> int:
        """Iteration after which a run ends at the latest."""
        raise NotImplementedError

    @property
    def last_iteration_flag(self) -> tuple[str, str]:
        """Flag that sets it, and what else a user can do."""
        return "iter", ""

    def advice(self) -> list[str]:
        """Warnings about choices that are allowed but seldom meant."""
        return []


@dataclass(frozen=True, kw_only=True)
class VolumeConfig(CommonConfig):
    """Options of jobs whose references are maps."""

    sym: str = option("C1", "Point group: Cn, Dn, T, O, I, I1 to I4.", REFERENCE, metavar="GROUP", fixed=True)
    ref_angpix: float = option(
        -1.0, "Pixel size of the start map; -1 reads its header.", REFERENCE, unit="A", **OR_AUTO
    )
    trust_ref_size: bool = option(
        False, "Take a start map whose pixel or box size differs from the images.", REFERENCE
    )

    healpix_order: int = option(
        2,
        "HEALPix order of the coarse pass: 2 is 15 degrees, 3 is 7.5.",
        SAMPLING,
        minimum=0,
        maximum=8,
        fixed=True,
    )
    sigma_ang: float = option(
        -1.0, "Width of the prior in local searches; -1 is two fine steps.", SAMPLING, unit="deg", **OR_AUTO
    )
