"""Expected accuracy of orientations and shifts from the reference itself (refinement.md 6.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import Backend, ImagingSetup
from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.ctf import ctf
from mpiapp.model.noise import particle_generator
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.pixels import PixelList, pixel_list
from mpiapp.model.projection import transform_reference
from mpiapp.model.rotations import euler_to_matrix

F64 = NDArray[np.float64]
# Two poses count as distinguishable when their expected log-likelihoods differ by -ln 0.01
ENOUGH = -np.log(0.01)
# orientations (n, 3, 3) and the particles of the sample that they belong to, (n,), to slices (n, 2, n_pix)
Slicer = Callable[[F64, NDArray[np.int64]], Any]


@dataclass(frozen=True)
class Accuracies:
    """Mean smallest distinguishable errors, and how much each shell told of the rotations."""

    rot_deg: float
    trans_A: float
    orientability: F64


def rotation_steps() -> list[float]:
    """Errors that are tried, in degrees; the last is beyond the bound of 30."""
    return _steps([(0.2, 0.05), (1, 0.1), (2, 0.2), (5, 0.5), (10, 1), (20, 2), (35, 5)])


def shift_steps() -> list[float]:
    """Errors that are tried, in pixels; the last is beyond the bound of 10."""
    return _steps([(1, 0.1), (2, 0.2), (5, 0.5), (10, 1), (12, 2)])


def _steps(rules: list[tuple[float, float]]) -> list[float]:
    value, out = 0.0, []
    for below, step in rules:
        while value < below - 1e-9:
            value += step
            out.append(value)
    return out


def accuracies_of_sample(
    backend: Backend,
    setup: ImagingSetup,
    reference: NDArray[np.float32],
    current_size: int,
    sigma2: F64,
    data: ParticleData,
    poses: Poses,
    workers: int,
) -> Accuracies:
    """Expected accuracies over some particles, given their reference and its noise spectra.

    Parameters
    ----------
    reference : (box, box, box);  sigma2 : (n_optics, n_shells);  data, poses : of the particles looked at.
    """
    pixels = pixel_list(current_size // 2)
    reference = backend.to_device(reference)
    transform = transform_reference(reference, current_size // 2, setup.padding, workers=workers)
    volume = transform.ravel().view(np.float32)
    kx, ky = pixels.kx.astype(np.float32), pixels.ky.astype(np.float32)

    def slicer(matrices: F64, _: NDArray[np.int64]) -> Any:
        return backend.slices(volume, transform.shape[2] - 1, setup.padding, matrices, kx, ky)

    return expected_accuracies(
        slicer,
        pixels,
        (poses.rot_deg, poses.tilt_deg, poses.psi_deg),
        sample_weights(setup, pixels, sigma2, data, backend.to_device),
        np.full(len(data), setup.pixel_size_A),
        setup.box,
        setup.seed,
        data.particle_id,
    )


def sample_weights(
    setup: ImagingSetup,
    pixels: PixelList,
    sigma2: F64,
    data: ParticleData,
    put: Callable[[Any], Any] = np.asarray,
) -> Any:
    """CTF^2 / (2 sigma2) of some particles at the pixels of the model plane, 0 at the origin: (n, n_pix).

    Parameters
    ----------
    put : takes arrays to where the weights are made.
    """
    unit = 1 / (setup.box * setup.pixel_size_A)
    noise = put(sigma2[data.optics])[:, put(np.minimum(pixels.shell, setup.n_shells - 1))]
    xp = module_of(noise).xp
    weight = xp.where(noise > 0, 1 / xp.where(noise > 0, 2 * noise, 1), 0)
    if data.ctf[:, 6].any():
        # angles enter through an in-plane turn, which the sample's CTFs do not need to follow exactly
        weight *= ctf(put(pixels.kx * unit), put(pixels.ky * unit), put(data.ctf)) ** 2
    weight[:, 0] = 0
    # pixels of the model plane: its pixel size for shifts, and how many image pixels each of them stands for
    weight *= put(np.array([o.density for o in setup.optics])[data.optics][:, None])
    return weight


def expected_accuracies(
    slicer: Slicer,
    pixels: PixelList,
    angles_deg: tuple[F64, F64, F64],
    weight: F64,
    pixel_size_A: F64,
    box: int,
    seed: int,
    particle_ids: NDArray[np.int64],
) -> Accuracies:
    """How far a particle's angles and shifts can be off before the images would tell.

    Parameters
    ----------
    angles_deg : rot, tilt, psi of the sample, each (n,).
    weight : (n, n_pix) CTF^2 / (2 sigma2), 0 at the origin.
    pixel_size_A : (n,) of each particle.
    """
    first = slicer(euler_to_matrix(*angles_deg), np.arange(len(weight)))
    draws = np.array([particle_generator(seed, "accuracy", int(i)).random(2) for i in particle_ids])
    rot, spectrum = rotation_errors(slicer, first, angles_deg, weight, draws[:, 0], pixels)
    trans = shift_errors(first, weight, draws[:, 1], pixels, box)
    total = spectrum.sum()
    return Accuracies(
        float(rot.mean()), float((trans * pixel_size_A).mean()), spectrum / total if total > 0 else spectrum
    )


def rotation_errors(
    slicer: Slicer,
    first: Any,
    angles: tuple[F64, F64, F64],
    weight: Any,
    draw: F64,
    pixels: PixelList,
) -> tuple[F64, F64]:
    """Smallest distinguishable rotation of each particle, degrees, and how much each shell told of them.

    Parameters
    ----------
    first : (n, 2, n_pix) slices at the angles;  draw : (n,) choice of the angle, in [0, 1): 1 for the plane.
    """
    n = len(first)
    error = np.zeros(n)
    axis = np.where(draw < 0.3333, 0, np.where(draw < 0.6667, 1, 2))
    spectrum = np.zeros(pixels.n_shells)
    todo = np.arange(n)
    for e in rotation_steps():
        moved = [a[todo] + e * (axis[todo] == k) for k, a in enumerate(angles)]
        other = slicer(euler_to_matrix(*moved), todo)
        power = ((first[todo] - other) ** 2).sum(1) * weight[todo]
        error[todo] = e
        done = to_host(power.sum(1)) > ENOUGH
        spectrum += np.add.reduceat(to_host(power[done].sum(0)), pixels.shell_start[:-1])
        todo = todo[~done]
        if not todo.size:
            break
    return error, spectrum


def shift_errors(first: Any, weight: Any, draw: F64, pixels: PixelList, box: int) -> F64:
    """Smallest distinguishable shift of each particle along x or y, pixels.

    A shift multiplies by a phase, so the difference is |F|^2 (2 - 2 cos).
    """
    xp = module_of(first).xp
    power = (first**2).sum(1) * weight
    frequency = xp.asarray(np.where(draw[:, None] < 0.5, pixels.kx, pixels.ky) * (2 * np.pi / box))
    error = np.zeros(len(first))
    todo = np.arange(len(first))
    for e in shift_steps():
        snr = to_host((power[todo] * (2 - 2 * xp.cos(frequency[todo] * e))).sum(1))
        error[todo] = e
        todo = todo[snr <= ENOUGH]
        if not todo.size:
            break
    return error
