"""What is drawn at random for a simulated particle: its view, place, class and CTF, before any image is made.

Every particle and every micrograph has its own random stream, seeded by (seed, purpose, number). A particle
is therefore the same however the work is cut into pieces, and in a larger set with the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.simulate import SimulateConfig

_PARTICLE, _MICROGRAPH, _NOISE = 1, 2, 3

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ParticleTruth:
    """Known truth of n particles; arrays all of length n.

    Attributes
    ----------
    number, micrograph, group, class_index : 0-based
    rot_deg, tilt_deg, psi_deg : Euler angles (refinement.md, 1.1)
    shift_A : (n, 2), x and y, of the particle from the image centre; RELION's origin is its negative
    defocus_u_A, defocus_v_A, defocus_angle_deg, phase_shift_deg : CTF
    scale : of the signal, per micrograph
    coordinate_px : (n, 2), place in the micrograph
    """

    number: Integers
    micrograph: Integers
    group: Integers
    class_index: Integers
    rot_deg: Floats
    tilt_deg: Floats
    psi_deg: Floats
    shift_A: Floats
    defocus_u_A: Floats
    defocus_v_A: Floats
    defocus_angle_deg: Floats
    phase_shift_deg: Floats
    scale: Floats
    coordinate_px: Floats

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: NDArray) -> ParticleTruth:
        """The same for some rows."""
        return ParticleTruth(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def draw_particles(config: SimulateConfig, numbers: NDArray) -> ParticleTruth:
    """Draw the truth of particles.

    Parameters
    ----------
    config : with validated values
    numbers : (n,) int, 0-based particle numbers; any, also beyond ``n_particles``
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    micrograph = numbers // config.per_micrograph
    seen, back = np.unique(micrograph, return_inverse=True)
    of_micrograph = _draw_micrographs(config, seen)[back]
    # one stream a particle, hence a loop; six numbers each
    uniform = np.empty((len(numbers), 6))
    normal = np.empty((len(numbers), 3))
    for row, number in enumerate(numbers):
        stream = np.random.default_rng([config.seed, _PARTICLE, int(number)])
        uniform[row] = stream.random(6)
        normal[row] = stream.standard_normal(3)
    mean, difference, angle, phase_shift, scale = of_micrograph.T
    mean = mean + config.defocus_spread_A * normal[:, 2]
    return ParticleTruth(
        number=numbers,
        micrograph=micrograph,
        group=micrograph % config.n_groups,
        class_index=_classes(config, uniform[:, 3]),
        rot_deg=360.0 * uniform[:, 0] - 180.0,
        tilt_deg=np.rad2deg(np.arccos(np.clip(2.0 * uniform[:, 1] - 1.0, -1.0, 1.0))),
        psi_deg=360.0 * uniform[:, 2] - 180.0,
        shift_A=config.shift_sigma_A * normal[:, :2],
        defocus_u_A=mean + difference / 2,
        defocus_v_A=mean - difference / 2,
        defocus_angle_deg=angle,
        phase_shift_deg=phase_shift,
        scale=scale,
        coordinate_px=200.0 + 3600.0 * uniform[:, 4:6],
    )


def _draw_micrographs(config: SimulateConfig, numbers: NDArray) -> Floats:
    """Mean defocus, U - V, azimuth, phase shift and signal scale of micrographs: (m, 5)."""
    drawn = np.empty((len(numbers), 5))
    for row, number in enumerate(numbers):
        stream = np.random.default_rng([config.seed, _MICROGRAPH, int(number)])
        drawn[row, 0] = stream.uniform(*config.defocus_A)
        drawn[row, 1] = abs(stream.normal(0.0, config.astigmatism_A))
        drawn[row, 2] = stream.uniform(0.0, 180.0)
        drawn[row, 3] = stream.uniform(*config.phase_shift_deg)
        drawn[row, 4] = max(0.2, stream.normal(1.0, config.intensity_sigma))
    return drawn


def _classes(config: SimulateConfig, uniform: Floats) -> Integers:
    share = np.array(config.proportions or [1.0] * config.n_objects, dtype=np.float64)
    borders = np.cumsum(share / share.sum())[:-1]
    return np.searchsorted(borders, uniform, side="right").astype(np.int64)


def white_noise(config: SimulateConfig, numbers: NDArray, box: int) -> NDArray[np.float32]:
    """White noise of variance 1 for particles, (n, box, box) float32, from each particle's own stream."""
    out = np.empty((len(numbers), box, box), np.float32)
    for row, number in enumerate(numbers):
        stream = np.random.default_rng([config.seed, _NOISE, int(number)])
        stream.standard_normal(out=out[row], dtype=np.float32)
    return out
