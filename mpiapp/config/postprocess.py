"""Every option of ``mpiapp postprocess``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mpiapp.config.job import JobConfig
from mpiapp.config.option import gpu_option, option
from mpiapp.errors import ConfigError

FILES = "Input and output"
MASK = "Mask"
SHARPEN = "Sharpening"
FILTER = "Filters"
LOCAL = "Local resolution"
EXPERT = "Expert"
COMPUTING = "Computing"
OR_AUTO: dict[str, Any] = {"above": 0, "special": (-1,)}
# what local resolution has no use for
NOT_LOCAL = ("auto_bfac", "half_maps", "low_pass", "auto_mask", "molweight")
# what it does in its own way, whatever is asked for
IGNORED_LOCALLY = (
    "skip_fsc_weighting", "force_mask", "randomize_at_fsc", "randomize_at_A", "randomizations", "interpolate",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig(JobConfig):
    """Options of a post-processing or local-resolution job, by RELION's names."""

    command: ClassVar[str] = "postprocess"
    refused_flags: ClassVar[Mapping[str, str]] = {
        "amplitudes are not corrected for uneven views": "ampl_corr",
        "tomograms are not implemented": "ios=",
    }

    half1: str = option("", "Unfiltered half map 1, e.g. run_half1_class001_unfil.mrc.", FILES, flag="i")
    half2: str = option("", "Half map 2; default: --i with half1 and half2 swapped.", FILES, flag="i2")
    output_root: str = option("postprocess", "Root of all output names.", FILES, flag="o", metavar="ROOT")
    angpix: float = option(-1.0, "Pixel size; -1 reads the header.", FILES, unit="A", **OR_AUTO)
    half_maps: bool = option(False, "Write both half maps sharpened in the same way.", FILES)
    molweight: float = option(-1.0, "Molecular weight of the ordered protein.", FILES, unit="kDa", **OR_AUTO)

    mask: str = option("", "Solvent mask (MRC), 1 is protein.", MASK)
    auto_mask: bool = option(False, "Make the mask from the average map, low-passed to 15 A.", MASK)
    inimask_threshold: float = option(
        -1.0, "Density threshold of --auto_mask; -1 finds it from the solvent.", MASK
    )
    extend_inimask: float = option(3.0, "Pixels by which --auto_mask extends.", MASK, unit="px")
    width_mask_edge: float = option(6.0, "Soft edge of --auto_mask.", MASK, unit="px", minimum=0)
    force_mask: bool = option(False, "Use the mask even where the unmasked resolution is better.", MASK)

    mtf: str = option("", "MTF of the detector (STAR file).", SHARPEN)
    mtf_angpix: float = option(
        -1.0, "Pixel size of the detector in the micrographs; -1: of the maps.", SHARPEN, unit="A", **OR_AUTO
    )
    auto_bfac: bool = option(False, "Find the B-factor by a fit to the Guinier plot.", SHARPEN)
    autob_lowres: float = option(10.0, "Lowest resolution of that fit.", SHARPEN, unit="A", above=0)
    autob_highres: float = option(
        0.0, "Highest resolution of that fit; 0: no limit.", SHARPEN, unit="A", minimum=0
    )
    adhoc_bfac: float = option(0.0, "Given B-factor; negative sharpens.", SHARPEN, unit="A^2")

    skip_fsc_weighting: bool = option(False, "Do not weight by the FSC.", FILTER)
    low_pass: float = option(
        0.0, "Low-pass of the final map; 0: none, negative: at FSC 0.143.", FILTER, unit="A"
    )
    filter_edge_width: float = option(2.0, "Edge of that low-pass.", FILTER, unit="shells", minimum=0)

    locres: bool = option(False, "Estimate the local resolution instead.", LOCAL)
    locres_sampling: float = option(25.0, "Distance of the points sampled.", LOCAL, unit="A", above=0)
    locres_maskrad: float = option(
        -1.0, "Radius of the window; -1: half of the sampling.", LOCAL, unit="A", **OR_AUTO
    )
    locres_edgwidth: float = option(
        -1.0, "Soft edge of the window; -1: the sampling.", LOCAL, unit="A", **OR_AUTO
    )
    locres_randomize_at: float = option(
        25.0, "Phases are random beyond this resolution.", LOCAL, unit="A", above=0
    )
    locres_minres: float = option(50.0, "Lowest local resolution.", LOCAL, unit="A", above=0)
    locres_exact: bool = option(False, "Whole boxes instead of windows: slow, as RELION does it.", LOCAL)

    randomize_at_fsc: float = option(
        0.8, "Phases are random from where the unmasked FSC falls below this.", EXPERT, above=0, maximum=1
    )
    randomize_at_A: float = option(-1.0, "Or from this resolution.", EXPERT, unit="A", **OR_AUTO)
    random_seed: int = option(
        0, "Seed of the random phases; negative takes the time.", EXPERT, maximum=2**31 - 1
    )
    randomizations: int = option(
        1, "Draws of random phases whose curves are averaged; small boxes gain by more.", EXPERT, minimum=1
    )
    cones: bool = option(True, "FSC by direction, within cones of 20 degrees.", EXPERT)
    interpolate: bool = option(False, "Tell the interpolated crossing of 0.143 as well.", EXPERT)

    threads: int = option(0, "Threads; 0 takes all cores.", COMPUTING, flag="j", minimum=0)
    gpu: str | None = gpu_option(COMPUTING)
    verb: int = option(1, "0 warnings only, 1 normal.", COMPUTING, minimum=0, maximum=2)

    def second_half(self) -> str:
        """Name of half map 2: given, or derived from that of half map 1.

        Raises
        ------
        ConfigError
            The name of half map 1 has neither half1 nor half2 in it.
        """
        if self.half2:
            return self.half2
        folder, slash, name = self.half1.rpartition("/")
        for mine, other in (("half1", "half2"), ("half2", "half1")):
            if mine in name:
                return folder + slash + name.replace(mine, other)
        raise ConfigError(
            f"--i {self.half1}: neither half1 nor half2 is in the name; name the other map with --i2"
        )

    def without_effect(self) -> list[str]:
        """Flags that were given and that local resolution does not look at."""
        return [f"--{name}" for name in IGNORED_LOCALLY if self.locres and self.is_given(name)]

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other."""
        if not self.half1:
            raise ConfigError("missing --i (unfiltered half map 1), e.g. --i run_half1_class001_unfil.mrc")
        self.second_half()
        if self.auto_bfac and self.adhoc_bfac:
            raise ConfigError(f"--adhoc_bfac {self.adhoc_bfac:g}: give either it or --auto_bfac, not both")
        if self.auto_mask and self.mask:
            raise ConfigError(f"--auto_mask: give either it or --mask {self.mask}, not both")
        if self.autob_highres >= self.autob_lowres:
            raise ConfigError(
                f"--autob_highres {self.autob_highres:g}: must be a smaller number of angstroms than "
                f"--autob_lowres {self.autob_lowres:g}"
            )
        if self.locres:
            for name in NOT_LOCAL:
                if getattr(self, name) not in (False, 0.0, -1.0):
                    raise ConfigError(f"--{name}: it has no meaning with --locres; leave it out")
