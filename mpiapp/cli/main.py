"""The command table. A command's module is imported only when the command is called."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mpiapp import __version__
from mpiapp.cli.console import report_error, say
from mpiapp.errors import ConfigError, MpiappError

# heading -> command -> (module, one line of help); the module has ``run(argv) -> int``
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Refinement": {
        "refine3d": (
            "mpiapp.cli.refine",
            "gold-standard 3D refinement: particles and a start map to half maps",
        ),
    },
    "Classification": {
        "class3d": (
            "mpiapp.cli.class3d",
            "3D classification: particles and start maps to maps of their states",
        ),
        "class2d": ("mpiapp.cli.class2d", "2D classification: particles to class averages"),
        "select": ("mpiapp.cli.select", "particles of chosen classes to a new STAR file"),
    },
    "After refinement": {
        "mask_create": ("mpiapp.cli.mask_create", "solvent mask from a map"),
        "noise_test": (
            "mpiapp.cli.noise_test",
            "does the refinement find detail in noise? (Chen et al. 2013)",
        ),
        "postprocess": ("mpiapp.cli.postprocess", "FSC within the mask, sharpened map, local resolution"),
    },
    "Looking at results": {
        "report": ("mpiapp.cli.report", "report.html of a job's folder, RELION's included"),
    },
    "Maps": {
        "reconstruct": ("mpiapp.cli.reconstruct", "map from particles with known poses"),
        "project": ("mpiapp.cli.project", "projections of a map"),
        "image_handler": ("mpiapp.cli.image_handler", "FSC of maps, filters, scale, symmetry, arithmetic"),
    },
    "Trying it out": {
        "demo": ("mpiapp.cli.demo", "simulate a data set, refine it and compare with the truth"),
        "simulate": ("mpiapp.cli.simulate", "particles with known poses from a map or an atomic model"),
    },
    "This machine": {
        "plan": ("mpiapp.cli.plan", "memory that a refinement needs on GPUs, by stage and card size"),
        "info": ("mpiapp.cli.info", "versions, MPI, launcher, cores and devices (for bug reports)"),
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program name; those of this process by default.

    Returns
    -------
    int
        Exit code: 0 success, 1 failure, 2 wrong input or options, 3 device, 4 MPI, 75 stopped at a checkpoint
        that can be continued, 130 interrupted from the keyboard.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # The many objects of modules and plots stay; to look for garbage among them less often spares a twentieth of the CPU
    # time of a run of seconds. What is large are arrays, which go when they are not referred to any more.
    gc.set_threshold(20_000, 20, 20)
    try:
        return _dispatch(arguments)
    except MpiappError as error:
        return report_error(error)
    except KeyboardInterrupt:
        say("mpiapp: interrupted")
        return 130
    except BrokenPipeError:  # who reads the output has seen enough: `mpiapp ... --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def help_text() -> str:
    """What ``mpiapp --help`` prints."""
    lines = [
        f"mpiapp {__version__}: Bayesian refinement of single-particle cryo-EM data",
        "",
        "usage: mpiapp COMMAND [options]",
        "       mpirun -n 5 mpiapp COMMAND [options]     the same, on several processes",
        "       mpiapp COMMAND --help                    options of a command",
    ]
    for heading, commands in COMMANDS.items():
        lines += ["", f"{heading}:"]
        lines += [f"  {name:<15}{text}" for name, (_, text) in commands.items()]
    lines += [
        "",
        "Options have RELION's names; dashes and underscores count alike.",
        "A RELION command line pastes in with the program name changed:",
        "  mpiapp refine3d --i particles.star --o Refine3D/job001/run --ref map.mrc --ini_high 40 \\",
        "                  --particle_diameter 180 --sym C1",
        "",
        "  --version   print the version",
        "  --help      print this page",
    ]
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say(help_text())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        say(f"mpiapp {__version__}")
        return 0
    table = {command: module for group in COMMANDS.values() for command, (module, _) in group.items()}
    if name not in table:
        raise _unknown_command(name, list(table))
    return int(import_module(table[name]).run(rest) or 0)


def _unknown_command(name: str, known: list[str]) -> ConfigError:
    if name.startswith("-"):
        return ConfigError(f"{name} comes before any command; write mpiapp refine3d {name} ...")
    from mpiapp.config.option import suggest

    nearest = suggest(name, known)
    hint = f"did you mean {nearest}?" if nearest else f"known commands: {', '.join(known)}"
    return ConfigError(f"unknown command {name}; {hint}")
