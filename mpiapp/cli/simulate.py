"""``mpiapp simulate``: particles with known poses from a map, an atomic model or a built-in phantom."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mpiapp.cli.console import is_leader, say
from mpiapp.config.option import suggest
from mpiapp.config.simulate import SimulateConfig
from mpiapp.errors import ConfigError

if TYPE_CHECKING:
    from mpiapp.testing.simulate import SimulatedDataset

SUMMARY = """\
Simulate a data set with known truth: projections of a density map, an atomic model or (with neither) a
built-in protein-like phantom, with CTF, shifts and coloured noise. Writes particles.star, the stack,
truth.star, truth and low-passed reference maps, and simulation.json."""
EXAMPLE = """\
example:
  mpiapp simulate --o simulated --n 1000 --snr 0.1 --box 64 --angpix 3.5
  mpiapp simulate --model 1abc.cif --o simulated --sym D2 --kv 300 200 --defocus 8000 25000
options with one value for each optics group: --box --angpix --kv --cs --ac"""

# heading -> rows of (flag, field of SimulateConfig, number of values, unit, help)
_OPTIONS: dict[str, list[tuple[str, str, str | int | None, str, str]]] = {
    "Output": [
        ("o", "output", None, "FOLDER", "folder to write"),
        ("n", "n_particles", None, "N", "number of particles"),
        ("seed", "seed", None, "N", "seed of all random numbers; the same seed makes the same particles"),
    ],
    "Object": [
        ("map", "maps", "append", "FILE", "density map (MRC); repeat for several classes"),
        ("model", "models", "append", "FILE", "atomic model (PDB, mmCIF); repeat for several classes"),
        ("K", "n_classes", None, "N", "number of classes, when phantoms are built in"),
        ("proportions", "proportions", "+", "X", "share of each class (default: equal)"),
        ("sym", "symmetry", None, "GROUP", "point group; maps and models are averaged over it"),
        ("diameter", "diameter_A", None, "A", "diameter of the particle; 0: automatic"),
        ("bfactor", "bfactor_A2", None, "A^2", "B-factor of the object (default: 100, none for maps)"),
        ("lowpass", "low_pass_A", None, "A", "resolution of the starting reference"),
    ],
    "Images": [
        ("box", "box", "+", "PX", "box size (default: that of the map, or chosen to fit)"),
        ("angpix", "pixel_size_A", "+", "A", "pixel size (default: that of the map, or 3.5)"),
        ("snr", "snr", None, "X", "signal to noise variance within the particle; 0: no noise"),
        (
            "noise_amplitude",
            "noise_amplitude",
            None,
            "X",
            "excess power of noise at low frequency; 0: white",
        ),
        ("noise_corner", "noise_corner_A", None, "A", "where the excess has fallen to a half"),
        ("shift_sigma", "shift_sigma_A", None, "A", "standard deviation of positions, x and y each"),
        ("per_micrograph", "per_micrograph", None, "N", "particles of a micrograph"),
        ("intensity_sigma", "intensity_sigma", None, "X", "relative spread of signal scales of micrographs"),
    ],
    "Microscope": [
        ("kv", "voltage_kV", "+", "KV", "voltage"),
        ("cs", "cs_mm", "+", "MM", "spherical aberration"),
        ("ac", "amplitude_contrast", "+", "X", "amplitude contrast"),
        ("defocus", "defocus_A", 2, "A", "smallest and largest defocus of micrographs"),
        ("defocus_spread", "defocus_spread_A", None, "A", "standard deviation within a micrograph"),
        ("astigmatism", "astigmatism_A", None, "A", "standard deviation of defocus U - V"),
        ("phase_shift", "phase_shift_deg", 2, "DEG", "smallest and largest phase shift (phase plate)"),
        ("beam_tilt", "beam_tilt_mrad", 2, "MRAD", "beam tilt in x and y"),
        ("ctf_bfactor", "ctf_bfactor_A2", None, "A^2", "envelope of the CTF"),
    ],
}
_SWITCHES = {
    "no_ctf": ("ctf", False, "leave the CTF out"),
    "no_norm": ("normalise", False, "keep the grey scale: no normalisation of the background"),
    "float16": ("float16", True, "write the stack in half precision"),
}
_WHOLE = {"n_particles", "seed", "n_classes", "box", "per_micrograph"}
_TEXT = {"output", "maps", "models", "symmetry"}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ConfigErrors, with the flag that was probably meant."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse flags with dashes or underscores; nothing may be left over."""
        # argparse itself tells negative numbers from flags, here no flag looks like a number
        tokens = [_underscored(token) if token.startswith("--") else token for token in argv]
        namespace, extra = self.parse_known_args(tokens)
        if extra:
            known = [name.lstrip("-") for action in self._actions for name in action.option_strings]
            nearest = suggest(extra[0].lstrip("-"), known)
            hint = f"did you mean --{nearest}?" if nearest else f"see {self.prog} --help"
            raise ConfigError(f"unknown option {extra[0]}; {hint}")
        return namespace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``mpiapp simulate``; defaults are those of :class:`SimulateConfig`."""
    defaults = SimulateConfig()
    for heading, rows in _OPTIONS.items():
        group = parser.add_argument_group(heading)
        for flag, field, count, unit, text in rows:
            many: dict[str, Any] = {"action": "append"} if count == "append" else {"nargs": count}
            if isinstance(count, int):
                unit_names: str | tuple[str, ...] = (unit,) * count
            else:
                unit_names = unit
            shown = _shown(getattr(defaults, field))
            group.add_argument(
                f"--{flag}",
                dest=field,
                type=str if field in _TEXT else _whole if field in _WHOLE else float,
                metavar=unit_names,
                default=argparse.SUPPRESS,
                help=text + (f" [{shown}]" if shown else ""),
                **many,
            )
    group = parser.add_argument_group("Switches")
    for flag, (field, value, text) in _SWITCHES.items():
        group.add_argument(
            f"--{flag}", dest=field, action="store_const", const=value, default=argparse.SUPPRESS, help=text
        )


def config_from(namespace: argparse.Namespace) -> SimulateConfig:
    """Configuration of parsed options; lists become tuples.

    Raises
    ------
    ConfigError
        A value is out of range, or options contradict each other.
    """
    names = {field.name for field in dataclasses.fields(SimulateConfig)}
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in vars(namespace).items() if k in names
    }
    return SimulateConfig(**values).validate()


def run(argv: Sequence[str]) -> int:
    """Parse, simulate, report; returns the exit code. Under a launcher rank 0 does it alone."""
    parser = Parser(
        prog="mpiapp simulate",
        usage="mpiapp simulate [options]",
        description=SUMMARY,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(parser)
    config = config_from(parser.parse(argv))
    if not is_leader():
        return 0
    from mpiapp.testing.simulate import simulate

    data = simulate(config, log=say)
    say("\n".join(_report(data, config)))
    return 0


def _report(data: SimulatedDataset, config: SimulateConfig) -> list[str]:
    """What was written, and the command that refines it."""
    sigma = ", ".join(f"{s:.4g}" for s in data.noise_sigma)
    return [
        f"  particles   {data.particles_star}",
        f"  truth       {data.truth_star}, {', '.join(map(str, data.truth_maps))}",
        f"  references  {', '.join(map(str, data.references))}  ({config.low_pass_A:g} A)",
        f"  noise       standard deviation {sigma} on the scale of the object (SNR {config.snr:g})",
        "refine them with:",
        f"  mpiapp refine3d --i {data.particles_star} --ref {data.references[0]} "
        f"--ini_high {config.low_pass_A:g} --particle_diameter {data.diameter_A:.0f} "
        f"--sym {config.symmetry} --o {data.folder}/refine/run",
    ]


def _underscored(token: str) -> str:
    name, equals, value = token[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _whole(text: str) -> int:
    number = float(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number")
    return int(number)


def _shown(value: Any) -> str:
    """A default as the help shows it; nothing for what is chosen automatically."""
    if value is None or value == ():
        return ""
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(v if isinstance(v, str) else f"{v:g}" for v in values)
