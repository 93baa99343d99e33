"""Every option of ``mpiapp simulate``: defaults, units and checks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpiapp.config.checks import check_symmetry
from mpiapp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """A simulated data set.

    Objects come from ``maps``, ``models`` or, with neither, from built-in phantoms; several are classes.
    Tuples with one entry an optics group (``box``, ``pixel_size_A``, ``voltage_kV``, ``cs_mm``,
    ``amplitude_contrast``) are as long as the number of groups, or hold one value for all groups; micrographs
    are dealt out to the groups in turn. The maps written have the box and pixel size of the first group.

    Attributes
    ----------
    output : folder to write
    maps, models : density maps (MRC), atomic models (PDB, mmCIF)
    n_classes : number of phantoms, when they are built in
    proportions : share of each class, in any unit; empty: equal
    n_particles : particles
    snr : variance of the signal within the particle's circle over variance of the noise, both per pixel, in
        every optics group on its own; 0 writes images without noise, on the scale of the map
    box, pixel_size_A : of the images; empty: those of the map, or chosen to fit the model or phantom
    diameter_A : of the particle; 0: 0.75 of the first box (built-in phantom), or measured from the object
    symmetry : point group: phantoms are built with it, maps and models are averaged over it
    bfactor_A2 : damping of the objects; None: 100 for models and phantoms, none for maps
    voltage_kV, cs_mm, amplitude_contrast : of the microscope
    ctf : False leaves the CTF out
    defocus_A : smallest and largest mean defocus of micrographs
    defocus_spread_A : standard deviation over particles of a micrograph
    astigmatism_A : standard deviation of defocus U - V over micrographs
    phase_shift_deg : smallest and largest phase shift of micrographs (phase plate)
    beam_tilt_mrad : x and y, of the first optics group; it is turned by 90 degrees from group to group
    ctf_bfactor_A2 : envelope of the images, known to the STAR file (rlnCtfBfactor)
    noise_amplitude, noise_corner_A : power 1 + amplitude / (1 + (s corner)^2); amplitude 0 is white
    shift_sigma_A : standard deviation of particle positions, x and y each
    per_micrograph : particles of a micrograph
    intensity_sigma : relative standard deviation of the signal's scale over micrographs
    low_pass_A : resolution of the starting reference
    normalise : bring the background of each image to mean 0 and standard deviation 1, as extraction does
    float16 : write stacks in half precision (RELION 3 can not read them)
    seed : of all random numbers
    """

    output: str = "simulated"
    maps: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    n_classes: int = 1
    proportions: tuple[float, ...] = ()
    n_particles: int = 1000
    snr: float = 0.1
    box: tuple[int, ...] = ()
    pixel_size_A: tuple[float, ...] = ()
    diameter_A: float = 0.0
    symmetry: str = "C1"
    bfactor_A2: float | None = None
    voltage_kV: tuple[float, ...] = (300.0,)
    cs_mm: tuple[float, ...] = (2.7,)
    amplitude_contrast: tuple[float, ...] = (0.1,)
    ctf: bool = True
    defocus_A: tuple[float, float] = (8000.0, 25000.0)
    defocus_spread_A: float = 100.0
    astigmatism_A: float = 200.0
    phase_shift_deg: tuple[float, float] = (0.0, 0.0)
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    ctf_bfactor_A2: float = 0.0
    noise_amplitude: float = 4.0
    noise_corner_A: float = 100.0
    shift_sigma_A: float = 6.0
    per_micrograph: int = 50
    intensity_sigma: float = 0.0
    low_pass_A: float = 40.0
    normalise: bool = True
    float16: bool = False
    seed: int = 1

    @property
    def n_groups(self) -> int:
        """Number of optics groups: the longest of the lists."""
        return max(len(getattr(self, name)) for name in _PER_GROUP)

    @property
    def n_objects(self) -> int:
        """Number of classes."""
        return len(self.maps) + len(self.models) or self.n_classes

    def of_group(self, name: str, group: int) -> Any:
        """Value of a per-group option for optics group ``group`` (0-based)."""
        values = getattr(self, name)
        return values[group] if len(values) > 1 else values[0]

    def validate(self) -> SimulateConfig:
        """Check ranges and combinations; returns this object.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        for name, (flag, allowed, expected) in _RANGES.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else () if value is None else (value,):
                if not (math.isfinite(number) and allowed(number)):
                    raise ConfigError(f"--{flag} {number:g}: expected {expected}")
        self._check_groups()
        self._check_objects()
        for flag, low_high in (("defocus", self.defocus_A), ("phase_shift", self.phase_shift_deg)):
            if len(low_high) != 2 or low_high[0] > low_high[1]:
                raise ConfigError(
                    f"--{flag} {_joined(low_high)}: expected the smallest and the largest value"
                )
        check_symmetry(self.symmetry)
        return self

    def _check_groups(self) -> None:
        for name, flag in _PER_GROUP.items():
            values = getattr(self, name)
            optional = name in ("box", "pixel_size_A") and not values
            if len(values) not in (1, self.n_groups) and not optional:
                raise ConfigError(
                    f"--{flag} {_joined(values)}: {len(values)} values, but there are {self.n_groups} optics "
                    "groups; give one value, or one for each group"
                )
        if not (self.box and self.pixel_size_A):
            return
        for group in range(self.n_groups):
            box, pixel = self.of_group("box", group), self.of_group("pixel_size_A", group)
            if self.diameter_A > box * pixel:
                raise ConfigError(
                    f"--diameter {self.diameter_A:g}: larger than the box of {box} x {pixel:g} A; "
                    "enlarge --box"
                )

    def _check_objects(self) -> None:
        if self.n_classes > 1 and (self.maps or self.models):
            raise ConfigError(
                "--K: it counts built-in phantoms; give --map or --model once for each class instead"
            )
        if self.proportions and len(self.proportions) != self.n_objects:
            raise ConfigError(
                f"--proportions {_joined(self.proportions)}: {len(self.proportions)} values for "
                f"{self.n_objects} classes; give one for each"
            )
        if self.proportions and sum(self.proportions) <= 0:
            raise ConfigError("--proportions: all are 0; give at least one that is larger")

    def to_dict(self) -> dict[str, Any]:
        """All options by field name, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


# field -> flag, of the options with one value an optics group
_PER_GROUP = {
    "box": "box",
    "pixel_size_A": "angpix",
    "voltage_kV": "kv",
    "cs_mm": "cs",
    "amplitude_contrast": "ac",
}


def _at_least(low: float) -> Callable[[float], bool]:
    return lambda value: value >= low


def _between(low: float, high: float) -> Callable[[float], bool]:
    return lambda value: low <= value <= high


# field -> (flag, what is allowed, in words)
_RANGES: dict[str, tuple[str, Callable[[float], bool], str]] = {
    "n_classes": ("K", _at_least(1), "a whole number of at least 1"),
    "proportions": ("proportions", _at_least(0), "numbers of at least 0"),
    "n_particles": ("n", _at_least(1), "a whole number of at least 1"),
    "snr": ("snr", _at_least(0), "a number of at least 0 (0: no noise)"),
    "box": ("box", lambda v: v >= 16 and v % 2 == 0, "an even number of pixels, at least 16"),
    "pixel_size_A": ("angpix", _between(0.1, 50), "a pixel size from 0.1 to 50 A"),
    "diameter_A": ("diameter", _at_least(0), "a diameter in A (0: automatic)"),
    "bfactor_A2": ("bfactor", _at_least(0), "a B-factor of at least 0 A^2"),
    "voltage_kV": ("kv", _between(10, 3000), "a voltage from 10 to 3000 kV"),
    "cs_mm": ("cs", _between(-50, 50), "a spherical aberration from -50 to 50 mm"),
    "amplitude_contrast": ("ac", _between(0, 1), "an amplitude contrast from 0 to 1"),
    "defocus_A": ("defocus", _between(-1e6, 1e6), "a defocus in A, underfocus positive"),
    "defocus_spread_A": ("defocus_spread", _at_least(0), "a number of at least 0 A"),
    "astigmatism_A": ("astigmatism", _at_least(0), "a number of at least 0 A"),
    "phase_shift_deg": ("phase_shift", _between(-360, 360), "degrees"),
    "beam_tilt_mrad": ("beam_tilt", _between(-50, 50), "a tilt from -50 to 50 mrad"),
    "ctf_bfactor_A2": ("ctf_bfactor", _at_least(0), "a B-factor of at least 0 A^2"),
    "noise_amplitude": ("noise_amplitude", _at_least(0), "a number of at least 0 (0: white)"),
    "noise_corner_A": ("noise_corner", lambda v: v > 0, "a distance above 0 A"),
    "shift_sigma_A": ("shift_sigma", _at_least(0), "a number of at least 0 A"),
    "per_micrograph": ("per_micrograph", _at_least(1), "a whole number of at least 1"),
    "intensity_sigma": ("intensity_sigma", _between(0, 0.5), "a number from 0 to 0.5"),
    "low_pass_A": ("lowpass", lambda v: v > 0, "a resolution above 0 A"),
    "seed": ("seed", _at_least(0), "a whole number of at least 0"),
}


def _joined(values: tuple[Any, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
