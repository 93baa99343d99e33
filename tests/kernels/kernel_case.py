"""A small simulated data set and its expectation step by the CPU backend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from mpiapp.kernels.arguments import Posterior
from numpy.typing import NDArray

from mpiapp.backend.base import HalfModel, ImagingSetup, ReadImages
from mpiapp.model.aberrations import even_gamma, fold_beam_tilt, magnify, odd_phase
from mpiapp.model.ctf import ctf, ctf_coefficients
from mpiapp.model.noise import shell_ratio
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.projection import slice_volume, transform_reference
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.model.sampling import direction_grid
from mpiapp.model.scores import (
    image_samples,
)
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.model.symmetry import point_group

F64 = NDArray[np.float64]
BOX, PIXEL_A, PADDING = 24, 3.0, 2.0
R_MAX, R_COARSE = 9, 6
DIAMETER_A, EDGE = 48.0, 3.0
KV, CS = 300.0, 2.7


def optics_model(box: int = BOX, pixel_A: float = PIXEL_A, **changes: Any) -> OpticsModel:
    """An optics group of the model's box and pixel size without aberrations, or with what is given."""
    plain = OpticsModel(
        box, pixel_A, shell_ratio(box, pixel_A, BOX, PIXEL_A), (1.0, 0.0, 0.0, 1.0), (), (), False
    )
    return replace(plain, **changes)


def distorted(**changes: Any) -> OpticsModel:
    """An optics group with another pixel size and box, a magnification matrix and aberrations."""
    odd = fold_beam_tilt((), (6.0, -4.0), KV, CS)
    magnification = (1.02, 0.012, -0.008, 0.985)
    even = (0.3, 0.0, 40.0, -60.0)
    return replace(
        optics_model(30, 2.5), magnification=magnification, even_zernike=even, odd_zernike=odd, **changes
    )


@lru_cache(maxsize=1)
def phantom() -> NDArray[np.float32]:
    """Map of a dozen Gaussian blobs without symmetry, inside the particle's diameter."""
    rng = np.random.default_rng(5)
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
    volume = np.zeros((BOX,) * 3)
    for centre in rng.uniform(-4.0, 4.0, size=(12, 3)):
        d2 = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        volume += np.exp(-d2 / (2 * 1.1**2))
    return volume.astype(np.float32)


def make_search(**changes: Any) -> Search:
    """A global search at 15 degrees with one level of oversampling, shifts on 6 A."""
    plain = Search(direction_grid(2, "C1"), 1, 0.3, 9.0, 6.0, None, False, R_COARSE, R_MAX, 0.999, 0)
    return replace(plain, **changes)


@dataclass
class ArrayReader:
    """Reads images from arrays, a stack each; as `io.stacks.ImageReader`."""

    stacks: list[NDArray[Any]]

    def __call__(self, stack: NDArray[np.int32], index: NDArray[np.int64]) -> NDArray[np.float32]:
        images = [self.stacks[int(s)][int(i)] for s, i in zip(stack, index, strict=True)]
        return np.stack(images).astype(np.float32)

    def stored_type(self, stack: NDArray[np.int32]) -> np.dtype[Any]:
        types = {self.stacks[int(s)].dtype for s in stack}
        return types.pop() if len(types) == 1 else np.dtype(np.float32)

    def read_into(self, out: NDArray[Any], stack: NDArray[np.int32], index: NDArray[np.int64]) -> None:
        for row, s, i in zip(out, stack, index, strict=True):
            row[:] = self.stacks[int(s)][int(i)]


@dataclass
class Case:
    """Images with known poses, and everything that an expectation step takes."""

    setup: ImagingSetup
    model: HalfModel
    data: ParticleData
    poses: Poses  # the starting point of the search
    truth: F64  # (n, 3, 3)
    images: list[NDArray[np.float32]]  # a stack for each optics group

    @property
    def read(self) -> ArrayReader:
        """Reader of the images, as a run has one."""
        return ArrayReader(self.images)

    def optics_of(self, i: int) -> OpticsModel:
        """Optics group of a particle."""
        return self.setup.optics[int(self.data.optics[i])]


def make_case(
    optics: list[OpticsModel],
    per_group: int = 3,
    noise: float = 1.0,
    signal: float = 1.2,
    seed: int = 1,
    radius: int = R_MAX,
) -> Case:
    """Simulate images of the phantom: contrast, aberrations, shifts, white noise."""
    rng = np.random.default_rng(seed)
    n = per_group * len(optics)
    group = np.repeat(np.arange(len(optics)), per_group)
    angles = (
        rng.uniform(-180, 180, n),
        np.degrees(np.arccos(rng.uniform(-1, 1, n))),
        rng.uniform(-180, 180, n),
    )
    truth = euler_to_matrix(*angles)
    origin_A = rng.uniform(-6.0, 6.0, size=(n, 2))
    underfocus = rng.uniform(3000, 6000, n)
    coefficients = ctf_coefficients(
        KV,
        CS,
        0.1,
        underfocus,
        underfocus - 800,
        rng.uniform(-90, 90, n),
        10.0,
        20.0,
        rng.uniform(0.9, 1.1, n),
    )
    sharp = transform_reference(phantom() * np.float32(signal), BOX // 2, PADDING)
    images: list[NDArray[np.float32]] = []
    for g, o in enumerate(optics):
        rows = np.flatnonzero(group == g)
        clean = [_image(sharp, o, truth[i], origin_A[i], coefficients[i]) for i in rows]
        deviates = rng.normal(size=(per_group, o.box, o.box)) * noise
        images.append((np.stack(clean) + deviates).astype(np.float32))
    poses = Poses.zeros(n)
    poses.rot_deg, poses.tilt_deg, poses.psi_deg = angles
    poses.origin_A = origin_A + rng.uniform(-3.0, 3.0, size=(n, 2))
    poses.norm = rng.uniform(0.9, 1.1, n)
    index = np.tile(np.arange(per_group), len(optics)).astype(np.int64)
    data = ParticleData(
        np.arange(n, dtype=np.int64),
        group.astype(np.int32),
        (np.arange(n) % 2).astype(np.int32),
        coefficients,
        group.astype(np.int32),
        index,
    )
    setup = ImagingSetup(BOX, PIXEL_A, PADDING, DIAMETER_A, EDGE, True, optics, 2, point_group("C1"), seed)
    return Case(setup, _half_model(optics, signal, noise, radius), data, poses, truth, images)


def _image(
    transform: NDArray[np.complex64], optics: OpticsModel, matrix: F64, origin_A: F64, coefficients: F64
) -> F64:
    """Noise-free image: its transform at the integer pixels, then back."""
    samples = image_samples(optics, BOX // 2 - 1)
    unit = 1.0 / (optics.box * optics.pixel_size_A)
    kx, ky = samples.k * unit
    sx, sy = magnify(kx, ky, optics.magnification)
    contrast = ctf(sx, sy, coefficients[None], even_gamma=even_gamma(optics.even_zernike, sx, sy))[0]
    section = slice_volume(transform, PADDING, matrix[None], *samples.q)[0]
    # the stored origin moves the particle to the centre, so it lies at minus the origin
    phase = odd_phase(optics.odd_zernike, sx, sy) + 2 * np.pi * unit * (origin_A @ samples.k)
    if optics.premultiplied:
        contrast = contrast**2
    half = np.zeros((optics.box, optics.box // 2 + 1), np.complex128)
    column, row = np.rint(samples.k).astype(int)
    half[row, column] = contrast * section * np.exp(1j * phase) * (-1.0) ** (column + row)
    twice = row[(column == 0) & (row > 0)]
    half[-twice, 0] = half[twice, 0].conj()
    return np.asarray(np.fft.irfft2(half, s=(optics.box,) * 2) * optics.box**2)


def _half_model(optics: list[OpticsModel], signal: float, noise: float, radius: int) -> HalfModel:
    shells = np.arange(BOX // 2 + 1)
    colour = 1.0 + 0.3 * np.cos(shells / 2.0)
    sigma2 = np.stack([colour * noise**2 / (2.0 * o.box**2) for o in optics])
    n_dir = make_search().n_directions
    prior = np.random.default_rng(3).uniform(0.5, 1.5, n_dir)
    blurred = transform_reference(phantom() * np.float32(signal), radius, PADDING)
    scale = np.array([0.9, 1.1])
    return HalfModel(
        transforms=blurred[None],
        sigma2=sigma2,
        data_vs_prior=np.linspace(9.0, 0.5, shells.size)[None],
        scale=scale,
        average_norm=1.05,
        direction_prior=(prior / prior.sum())[None],
        sigma_offset_A=8.0,
        frame=np.eye(3),
        offset_centre_A=np.zeros((1, 2)),
    )


# ---- the backend, with what its kernels returned -----------------------------------------------------------


@dataclass
class Traced:
    """Results of an expectation step and of the kernels inside it; one batch for each kind of image."""

    sums: WeightedSums
    poses: Poses
    bad: NDArray[np.bool_]
    states: list[NDArray[np.int32]] = field(default_factory=list)  # a particle each: direction, psi, shift
    priors: list[NDArray[np.float32]] = field(default_factory=list)
    fine: dict[str, NDArray[Any]] = field(default_factory=dict)  # fields of Posterior, a row a particle


def run(
    case: Case, search: Search, threads: int = 1, read: ReadImages | None = None
) -> tuple[WeightedSums, Poses, NDArray[np.bool_]]:
    """One expectation step of the CPU backend."""
    from mpiapp.backend import cpu

    backend = cpu.CpuBackend(threads)
    try:
        return backend.expectation(
            case.setup, case.model, search, case.data, case.poses, read or case.read, lambda n: False
        )
    finally:
        backend.pool.shutdown()


def traced(case: Case, search: Search) -> Traced:
    """One expectation step, keeping the states that its coarse pass accepted and its posterior."""
    from mpiapp.backend import task

    coarse: list[tuple[NDArray[Any], ...]] = []
    fine: list[Posterior] = []

    def keep(store: list[Any], function: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            store.append(function(*arguments))
            return store[-1]

        return wrapped

    order: list[int] = []
    rows = {
        key: row for row, key in enumerate(zip(case.data.stack_index, case.data.image_index, strict=True))
    }

    def read(stack: NDArray[np.int32], index: NDArray[np.int64]) -> NDArray[np.float32]:
        order.extend(rows[key] for key in zip(stack, index, strict=True))
        return case.read(stack, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "global_search", keep(coarse, task.global_search))
        patch.setattr(task, "local_search", keep(coarse, task.local_search))
        patch.setattr(task, "fine_pass", keep(fine, task.fine_pass))
        out = Traced(*run(case, search, read=read))
    states = [s for o, all_states, _ in coarse for s in np.split(all_states[: o[-1]], o[1:-1])]
    priors = [p for o, _, all_priors in coarse for p in np.split(all_priors[: o[-1]], o[1:-1])]
    back = np.argsort(order)
    if coarse:  # there is no coarse pass where orientations are fixed
        out.states, out.priors = [states[i] for i in back], [priors[i] for i in back]
    for name in ("log_best", "log_sum", "best_weight", "cross", "power", "weight", "offset_variance"):
        out.fine[name] = np.concatenate([getattr(p, name) for p in fine])[back]
    return out
