"""``mpiapp demo``: simulate a protein that does not exist, refine it, and compare with the truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpiapp.cli.console import is_leader, say
from mpiapp.cli.simulate import Parser
from mpiapp.config.simulate import SimulateConfig

if TYPE_CHECKING:
    from mpiapp.testing.simulate import SimulatedDataset
    from mpiapp.testing.truth import MapScore, PoseScore

SUMMARY = """\
Simulate a small data set with known truth, refine it from a 40 A reference, and compare poses and map with
the truth. Two minutes on two cores; under mpirun it uses all processes."""
PIXEL_SIZE_A = 4.0


@dataclass(frozen=True)
class Comparison:
    """What the refinement made of the data, against what they were made from."""

    poses: PoseScore
    against_truth: MapScore
    half_maps: MapScore
    plots: list[Path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``mpiapp demo``."""
    parser.add_argument("--o", default="demo", metavar="FOLDER", help="folder to write [%(default)s]")
    parser.add_argument("--n", type=int, default=500, metavar="N", help="number of particles [%(default)s]")
    parser.add_argument(
        "--box",
        type=int,
        default=48,
        metavar="PX",
        help="box of 4 A pixels; the particle fills 3/4 [%(default)s]",
    )
    parser.add_argument("--sym", default="C1", metavar="GROUP", help="point group [%(default)s]")
    parser.add_argument("--snr", type=float, default=0.4, metavar="X", help="signal to noise [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another protein each [%(default)s]")
    parser.add_argument("--j", type=int, default=0, metavar="N", help="threads of each process; 0: all cores")


def run(argv: Sequence[str]) -> int:
    """Simulate (rank 0), refine (all ranks), compare and plot (rank 0); returns the exit code."""
    parser = Parser(
        prog="mpiapp demo",
        usage="mpiapp demo [options]",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(parser)
    options = parser.parse(argv)
    begun = time.monotonic()
    config = simulation_of(options)
    data = _simulated(config)
    root = f"{options.o}/refine/run"
    run_refinement(data, config, root, threads=options.j)
    if is_leader():
        comparison = compare(data, config.symmetry, root)
        say("\n".join(report(data, comparison, root, time.monotonic() - begun)))
    return 0


def simulation_of(options: argparse.Namespace) -> SimulateConfig:
    """The data set that the options ask for."""
    return SimulateConfig(
        output=options.o,
        n_particles=options.n,
        box=(options.box,),
        pixel_size_A=(PIXEL_SIZE_A,),
        symmetry=options.sym,
        snr=options.snr,
        seed=options.seed,
    ).validate()


def _simulated(config: SimulateConfig) -> SimulatedDataset:
    """Simulate on the leader; the other ranks wait, and learn what was written or that it failed."""
    from mpiapp.parallel.errors import raise_together
    from mpiapp.parallel.runtime import session

    data = None
    with session() as team:
        with raise_together(team):
            if team.is_leader:
                from mpiapp.testing.simulate import simulate

                say(f"Simulating {config.n_particles} particles with known poses ...")
                data = simulate(config, log=say)
        found: SimulatedDataset = team.bcast(data)
    return found


def run_refinement(data: SimulatedDataset, config: SimulateConfig, root: str, threads: int = 0) -> None:
    """Refine the simulated particles from the low-passed reference; all ranks call this.

    Parameters
    ----------
    data, config : what was simulated
    root : output root, as of ``mpiapp refine3d --o``
    threads : of each process; 0 shares the cores
    """
    from mpiapp.config.refine import RefineConfig
    from mpiapp.engine.refine3d import refine3d

    flags: dict[str, Any] = {
        "i": str(data.particles_star),
        "ref": str(data.references[0]),
        "o": root,
        "ini_high": config.low_pass_A,
        "particle_diameter": data.diameter_A,
        "sym": config.symmetry,
        "random_seed": config.seed,
        "j": threads,
    }
    refine3d(RefineConfig.from_options(flags).validate())


def compare(data: SimulatedDataset, symmetry: str, root: str) -> Comparison:
    """Score the finished run against the truth and leave plots in the folder of the demo."""
    from mpiapp.io.mrc import read_map
    from mpiapp.io.outputs import OutputNames
    from mpiapp.report.plots import plot_fsc, plot_slices
    from mpiapp.testing.truth import score_map, score_star

    names = OutputNames(root)
    pixel, diameter = data.pixel_size_A, data.diameter_A
    poses = score_star(names.data(None), data.truth_star, symmetry)
    final, _ = read_map(names.final_map())
    true, _ = read_map(data.truth_maps[0])
    half1, half2 = (read_map(names.unfil(half))[0] for half in (1, 2))
    against_truth = score_map(final, true, pixel, diameter, poses)
    half_maps = score_map(half1, half2, pixel, diameter)
    plots = [data.folder / name for name in ("fsc.png", "map.png", "truth.png")]
    plot_fsc(
        plots[0],
        {
            "half maps, sphere": (half_maps.frequency_invA, half_maps.fsc),
            "map against truth": (against_truth.frequency_invA, against_truth.fsc),
        },
        title="Demo: Fourier shell correlation",
    )
    plot_slices(plots[1], final, pixel, "Refined map", diameter)
    plot_slices(plots[2], true, pixel, "Truth", diameter)
    return Comparison(poses, against_truth, half_maps, plots)


def report(data: SimulatedDataset, comparison: Comparison, root: str, seconds: float) -> list[str]:
    """What the demo says at its end: scores, and where to look."""
    from mpiapp.io.outputs import OutputNames

    names = OutputNames(root)
    plots = [str(path) for path in comparison.plots]
    return [
        "",
        f"Compared with the truth (whole demo: {seconds:.0f} s):",
        f"  half maps: FSC 0.143 at {comparison.half_maps.resolution_0143_A:.2f} A",
        f"  {comparison.against_truth.summary()}",
        f"  {comparison.poses.summary()}",
        "Look at:",
        f"  {plots[0]:<28} FSC of the half maps, and of the map with the truth",
        f"  {plots[1]:<28} slices through the refined map",
        f"  {plots[2]:<28} the same slices through the truth",
        f"  {names.final_map()!s:<28} the map, for ChimeraX; truth: {data.truth_maps[0]}",
        f"  {names.data(None)!s:<28} the particles with their poses; truth: {data.truth_star}",
    ]
