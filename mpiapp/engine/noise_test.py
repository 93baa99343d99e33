"""Noise substitution: the same refinement with and without detail in the particles (Chen et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.noise_test import NoiseTestConfig
from mpiapp.errors import InputError
from mpiapp.io.outputs import OutputNames
from mpiapp.model.fsc import fsc, resolution_at
from mpiapp.model.masks import soft_sphere
from mpiapp.model.noise_substitution import randomise_images, true_fsc

if TYPE_CHECKING:
    from mpiapp.io.particles import ParticleTable

F64 = NDArray[np.float64]
STACK = 2000  # images of one stack that is written
OVERFIT = 0.143


@dataclass(frozen=True)
class NoiseTest:
    """What came out of it: curves of the true and of the noisy particles, and the difference, by shell."""

    frequency_invA: F64
    original: F64
    noise: F64
    true: F64
    from_shell: int
    overfitted_A: float  # up to where noise correlates above 0.143; 0: nowhere beyond `from_shell`


def noise_test(config: NoiseTestConfig) -> NoiseTest | None:
    """Refine the particles, refine them again with noise for detail, compare; all processes call this.

    Returns
    -------
    NoiseTest on the leader, None elsewhere.

    Raises
    ------
    InputError, ConfigError
        Before any work starts.
    """
    from mpiapp.engine.refine3d import refine3d
    from mpiapp.parallel.errors import raise_together
    from mpiapp.parallel.runtime import session

    config.validate()
    root = OutputNames(config.output_root).root
    original, noise = OutputNames(config.original or f"{root}_original"), OutputNames(f"{root}_noise")
    seed = config.random_seed if config.random_seed >= 0 else 1
    star = Path(f"{root}_noise_particles.star")
    with session() as team, raise_together(team):
        if team.is_leader:
            if config.original:
                _finished(original)
            substitute(config, star, f"{root}_noise_particles", seed)
    if not config.original:
        refine3d(config.refinement(output_root=original.root, random_seed=seed))
    refine3d(config.refinement(input_star=str(star), root="", output_root=noise.root, random_seed=seed))
    with session() as team, raise_together(team):
        return compare(config, original, noise, root) if team.is_leader else None


def _finished(names: OutputNames) -> None:
    for half in (1, 2):
        if not names.unfil(half).is_file():
            raise InputError(
                f"{names.unfil(half)}: no such file; --original takes the root of a finished run"
            )


def substitute(config: NoiseTestConfig, star: Path, stack_root: str, seed: int) -> None:
    """Write the particles with random phases beyond --randomize_at, and their STAR file."""
    from mpiapp.engine.inputs import make_reader
    from mpiapp.io.mrc import write_stack
    from mpiapp.io.particles import read_particles, write_particles

    table = read_particles(config.input_star, root=config.root or None)
    read = make_reader(table.stack_paths)
    names = np.empty(len(table), object)
    for number, rows in enumerate(_portions(table), 1):
        group = table.optics[int(table.optics_index[rows[0]])]
        shell = group.box * group.pixel_size_A / config.randomize_at
        images = read(table.stack_index[rows], table.image_index[rows])
        path = Path(f"{stack_root}_{number:04d}.mrcs")
        write_stack(path, randomise_images(images, shell, seed, rows), group.pixel_size_A)
        names[rows] = [f"{i + 1:06d}@{path}" for i in range(rows.size)]
    write_particles(star, table, {"rlnImageName": names}, comment=config.command_line())


def _portions(table: ParticleTable) -> list[NDArray[np.int64]]:
    """Rows of one optics group, at most STACK of them."""
    out = []
    for group in np.unique(table.optics_index):
        rows = np.flatnonzero(table.optics_index == group)
        out += [rows[i : i + STACK] for i in range(0, rows.size, STACK)]
    return out


def compare(config: NoiseTestConfig, original: OutputNames, noise: OutputNames, root: str) -> NoiseTest:
    """Curves of both runs within the mask, as plot, numbers and words."""
    from mpiapp.report import log
    from mpiapp.report.plots import plot_fsc

    pair, pixel = _masked_halves(config, original)
    box = pair[0].shape[0]
    curves = [fsc(*pair), fsc(*_masked_halves(config, noise)[0])]
    shell = max(1, int(box * pixel / config.randomize_at))
    true = true_fsc(curves[0], curves[1], shell)
    frequency = np.arange(curves[0].size) / (box * pixel)
    above = curves[1][shell + 2 :] > OVERFIT
    reach = shell + 1 + int(np.argmin(above) if not above.all() else above.size)
    overfitted = box * pixel / reach if above.size and above[0] else 0.0
    plot_fsc(
        f"{root}_noise_test.png",
        {
            "particles as they are": (frequency, curves[0]),
            f"noise beyond {config.randomize_at:g} A": (frequency, curves[1]),
            "without what noise gets": (frequency, true),
        },
        thresholds=(0.143,),
        title="Noise substitution",
    )
    log.setup(config.verb)
    lines = [
        f" Noise test: FSC 0.143 at {resolution_at(curves[0], OVERFIT, pixel, box):.4g} A, without what noise gets "
        f"at {resolution_at(true, OVERFIT, pixel, box):.4g} A; {root}_noise_test.png and .csv"
    ]
    log.emit(lines)
    if overfitted:
        log.warn(
            f"overfitting: noise correlates from {config.randomize_at:g} A on to {overfitted:.4g} A, where there is "
            "nothing to find. Lower --ini_high (a larger number), use an independent start map, or a wider mask."
        )
    else:
        log.emit([f" Noise test: no overfitting, noise does not correlate beyond {config.randomize_at:g} A"])
    log.close()
    return NoiseTest(frequency, curves[0], curves[1], true, shell, overfitted)


def _masked_halves(config: NoiseTestConfig, names: OutputNames) -> tuple[list[NDArray[Any]], float]:
    """Unfiltered half maps of a run within the solvent mask, or a sphere of the particle's diameter."""
    from mpiapp.io.maps_in import load_like, load_map

    first = load_map(names.unfil(1))
    second = load_like(names.unfil(2), first, names.unfil(1))
    box = first.density.shape[0]
    if config.solvent_mask:
        mask = load_like(config.solvent_mask, first, names.unfil(1))
    else:
        diameter = (
            config.particle_diameter if config.particle_diameter > 0 else 0.9 * box * first.pixel_size_A
        )
        mask = soft_sphere(box, diameter / 2 / first.pixel_size_A, 5)
    return [first.density * mask, second * mask], first.pixel_size_A
