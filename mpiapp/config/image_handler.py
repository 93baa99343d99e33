"""Every option of ``mpiapp image_handler``: what relion_image_handler is used for every day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpiapp.config.checks import check_symmetry
from mpiapp.config.job import JobConfig
from mpiapp.config.option import option
from mpiapp.errors import ConfigError

FILES = "Input and output"
CONSTANT = "With a number"
IMAGE = "With another map"
FILTER = "Filters"
GEOMETRY = "Geometry"
OPERATIONS_WITHOUT_OUTPUT = ("fsc", "stats")


@dataclass(frozen=True, kw_only=True)
class ImageHandlerConfig(JobConfig):
    """Operations on one map, by RELION's names; several are done in the order of this list."""

    command: ClassVar[str] = "image_handler"
    refused_flags: ClassVar[Mapping[str, str]] = {
        "it is not implemented": (
            "power adjust_power= fourier_filter= optimise_scale_subtract optimise_bfactor_subtract=0 "
            "mask_optimise_subtract= com directional= LoG=-1 shift_com shift_x=0 shift_y=0 shift_z=0 avg_ampl "
            "avg_ampl2 avg_ampl2_ali average correct_avg_ampl= minr_ampl_corr=0 flipXY flipmXY add_edge edge_x0=0 "
            "edge_y0=0 edge_xF=4095 edge_yF=4095 avg_bin=-1 avg_first=-1 avg_last=-1 average_all_movie_frames "
            "black=0 white=0 sigma_contrast=0 colour_fire colour_ice colour_fire-n-ice colour_rainbow "
            "colour_difference"
        ),
    }

    input_map: str = option("", "Map (MRC).", FILES, flag="i")
    output: str = option("", "Map to write.", FILES, flag="o")
    angpix: float = option(-1.0, "Pixel size; -1 reads the header.", FILES, unit="A", above=0, special=(-1,))
    remove_nan: bool = option(False, "Replace voxels that are no numbers.", FILES)
    replace_nan: float = option(0.0, "What they are replaced by.", FILES)
    stats: bool = option(False, "Print mean, standard deviation, smallest, largest.", FILES)

    multiply_constant: float = option(1.0, "Multiply by this number.", CONSTANT)
    divide_constant: float = option(1.0, "Divide by it.", CONSTANT)
    add_constant: float = option(0.0, "Add it.", CONSTANT)
    subtract_constant: float = option(0.0, "Subtract it.", CONSTANT)
    threshold_above: float = option(999.0, "Higher values become this; 999: off.", CONSTANT)
    threshold_below: float = option(-999.0, "Lower values become this; -999: off.", CONSTANT)

    multiply: str = option("", "Multiply by this map.", IMAGE)
    divide: str = option("", "Divide by it; where it is 0 the result is 0.", IMAGE)
    add: str = option("", "Add it.", IMAGE)
    subtract: str = option("", "Subtract it.", IMAGE)
    fsc: str = option("", "Print the FSC with this map as a STAR table.", IMAGE)

    bfactor: float = option(0.0, "Apply a B-factor; negative sharpens.", FILTER, unit="A^2")
    lowpass: float = option(-1.0, "Low-pass.", FILTER, unit="A", above=0, special=(-1,))
    highpass: float = option(-1.0, "High-pass.", FILTER, unit="A", above=0, special=(-1,))
    filter_edge_width: float = option(2.0, "Edge of these filters.", FILTER, unit="shells", minimum=0)
    phase_randomise: float = option(
        -1.0, "Random phases beyond this resolution.", FILTER, unit="A", above=0, special=(-1,)
    )
    random_seed: int = option(0, "Seed of the random phases.", FILTER, minimum=0, maximum=2**31 - 1)

    flipX: bool = option(False, "Mirror along x.", GEOMETRY)
    flipY: bool = option(False, "Mirror along y.", GEOMETRY)
    flipZ: bool = option(False, "Mirror along z.", GEOMETRY)
    invert_hand: bool = option(
        False, "Mirror along x about the origin: the other hand, symmetry kept.", GEOMETRY
    )
    sym: str = option("", "Average over a point group.", GEOMETRY, metavar="GROUP")
    rescale_angpix: float = option(-1.0, "New pixel size.", GEOMETRY, unit="A", above=0, special=(-1,))
    new_box: int = option(
        -1, "New box, cut or padded about the centre.", GEOMETRY, unit="px", minimum=2, special=(-1,)
    )
    force_header_angpix: float = option(
        -1.0, "Pixel size to write in the header.", GEOMETRY, unit="A", above=0, special=(-1,)
    )
    threads: int = option(0, "Threads; 0 takes all cores.", GEOMETRY, flag="j", minimum=0)

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other."""
        if not self.input_map:
            raise ConfigError("missing --i (map)")
        if self.input_map.endswith(".star"):
            raise ConfigError(f"--i {self.input_map}: lists of images are not handled; give one map")
        if not self.output and not any(getattr(self, name) for name in OPERATIONS_WITHOUT_OUTPUT):
            raise ConfigError("missing --o (map to write); only --fsc and --stats do without")
        if self.sym:
            check_symmetry(self.sym)
        if self.divide_constant == 0:
            raise ConfigError("--divide_constant 0: give a number that is not 0")
        if self.new_box > 0 and self.new_box % 2:
            raise ConfigError(f"--new_box {self.new_box}: boxes are even; give {self.new_box + 1}")
