"""From the posterior of a batch to poses and to the sums that are not maps (refinement.md 4.9, 5.6)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.base import HalfModel, ImagingSetup
from mpiapp.kernels.arguments import Posterior
from mpiapp.model.noise import sums_to_model, to_model_shell
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.pixels import shell_pixels
from mpiapp.model.rotations import matrix_to_euler, rotation_z
from mpiapp.model.search import Free, Search
from mpiapp.model.sums import WeightedSums

F64 = NDArray[np.float64]


class Prepared(Protocol):
    """What is looked at of a prepared batch, on whatever device it was prepared."""

    @property
    def old_A(self) -> F64:
        """(n, 2) whole-pixel offsets that were applied, in A."""

    @property
    def power(self) -> F64:
        """(n, L / 2 + 1) |X|^2 by shell of the image, norm correction applied."""

    @property
    def bad(self) -> NDArray[np.bool_]:
        """(n,) images that hold NaN or infinity."""


# Shells whose signal outweighs the prior by this factor determine the intensity scales
SCALE_DATA_VS_PRIOR = 3.0


class Outcome(NamedTuple):
    """What the passes over a batch left."""

    posterior: Posterior
    n_significant: NDArray[np.int64]  # (n_img,) accepted coarse states
    per_class: int  # coarse rows of a class


def batch_results(
    setup: ImagingSetup,
    model: HalfModel,
    search: Search,
    data: ParticleData,
    poses: Poses,
    batch: Prepared,
    outcome: Outcome,
    sums: WeightedSums,
) -> Poses:
    """Best poses of a batch; adds its noise, scale, norm and prior sums to ``sums``."""
    posterior = outcome.posterior
    new = _best_poses(search, outcome, batch, poses)
    good = ~batch.bad
    residual, pixels = _residual(setup, model, data, batch, posterior)
    variance = residual[:, 1:].sum(1) + _power_beyond_model(setup, data, batch)
    new.norm = poses.norm / model.average_norm * np.sqrt(2 * np.maximum(variance, 0))
    if search.correlate:
        new.norm = poses.norm.copy()
        new.log_likelihood = posterior.log_best.astype(float)
    else:
        new.log_likelihood = _log_likelihood(setup, model, data, batch, posterior)
    new.p_max = posterior.best_weight.astype(float)
    new.n_significant = outcome.n_significant.astype(float)
    np.add.at(sums.noise, data.optics[good], residual[good])
    np.add.at(sums.noise_pixels, data.optics[good], pixels)
    _scale_sums(model, data, posterior, new.class_number.astype(int) - 1, sums, good)
    _row_sums(outcome, sums)
    sums.totals += [
        posterior.weight[good].sum(),
        posterior.offset_variance[good].sum(),
        new.norm[good].sum(),
        new.log_likelihood[good].sum(),
        new.p_max[good].sum(),
        good.sum(),
    ]
    return new


def _row_sums(outcome: Outcome, sums: WeightedSums) -> None:
    """Weights by class and direction, and offsets by class."""
    n_class, n_dir = sums.direction_weight.shape
    weight = outcome.posterior.row_weight.reshape(n_class, outcome.per_class)
    # orientations of their own say nothing of the distribution of directions
    sums.direction_weight += weight if n_dir == outcome.per_class else weight.sum(1, keepdims=True)
    sums.class_shift += outcome.posterior.row_shift.reshape(n_class, -1, 2).sum(1)


def _best_poses(search: Search, outcome: Outcome, batch: Prepared, old: Poses) -> Poses:
    """Classes, angles and total offsets of the best fine states."""
    row, child, psi, psi_child, shift = outcome.posterior.best.T
    of_class, direction = np.divmod(row.astype(np.int64), outcome.per_class)
    poses = old.take(np.arange(len(row)))
    poses.class_number = of_class + 1.0
    if search.free is Free.ALL:
        fine = direction * search.children + child
        angle = search.fine_psi_deg[psi * 2**search.oversampling + psi_child]
        rotations = rotation_z(angle) @ search.fine_matrices_of(fine)
        poses.rot_deg, poses.tilt_deg, poses.psi_deg = matrix_to_euler(rotations)
    if search.free is not Free.CLASS:
        poses.origin_A = batch.old_A + search.fine_shifts_A[shift]
    return poses


def _residual(
    setup: ImagingSetup, model: HalfModel, data: ParticleData, batch: Prepared, posterior: Posterior
) -> tuple[F64, F64]:
    """Expected |Ref - X|^2 of each image by shell of the model, (n, n_shells), and pixels of each shell, (n_shells,)."""
    optics, reach = _geometry(setup, data), posterior.cross.shape[1]
    power = _to_model(batch.power, setup.n_shells, optics.ratio)
    power[:, :reach] *= posterior.weight[:, None]
    power[:, :reach] += model.sigma2[data.optics, :reach] * (posterior.power - 2 * posterior.cross)
    return power, sums_to_model(shell_pixels(optics.box).astype(float), setup.n_shells, optics.ratio)


def _geometry(setup: ImagingSetup, data: ParticleData) -> OpticsModel:
    """Box and ratio of the images of a batch: all have the same."""
    return setup.optics[int(data.optics[0])]


def _power_beyond_model(setup: ImagingSetup, data: ParticleData, batch: Prepared) -> F64:
    """|X|^2 of each image in shells finer than the model's: the norm is that of the whole image."""
    shell = to_model_shell(np.arange(batch.power.shape[1]), _geometry(setup, data).ratio)
    return np.asarray(batch.power[:, shell >= setup.n_shells].sum(1))


def _to_model(power: F64, n_shells: int, ratio: float) -> F64:
    if ratio == 1.0 and power.shape[1] == n_shells:
        return power.copy()
    return np.stack([sums_to_model(row, n_shells, ratio) for row in power])


def _log_likelihood(
    setup: ImagingSetup, model: HalfModel, data: ParticleData, batch: Prepared, posterior: Posterior
) -> F64:
    """Log-likelihood of each image: log sum of weights with the constants that the scores leave out."""
    out = posterior.log_best + posterior.log_sum
    optics, reach = _geometry(setup, data), posterior.cross.shape[1]
    sigma2 = model.sigma2[data.optics, 1:reach]
    used = sigma2 > 0
    sigma2 = np.where(used, sigma2, 1.0)
    power = _to_model(batch.power, setup.n_shells, optics.ratio)[:, 1:reach]
    count = sums_to_model(shell_pixels(optics.box).astype(float), setup.n_shells, optics.ratio)[1:reach]
    out -= (used * (power / (2 * sigma2) + count * np.log(2 * np.pi * sigma2))).sum(1)
    return np.asarray(out, float)


def _scale_sums(
    model: HalfModel,
    data: ParticleData,
    posterior: Posterior,
    best_class: NDArray[np.int64],
    sums: WeightedSums,
    good: NDArray[np.bool_],
) -> None:
    """XA and AA of every intensity-scale group over the shells where the signal of an image's class is strong."""
    reach = posterior.cross.shape[1]
    strong = model.data_vs_prior[best_class, :reach] > SCALE_DATA_VS_PRIOR
    strong[:, 0] = False
    sigma2 = model.sigma2[data.optics, :reach] * strong
    scale = np.maximum(model.scale[data.group], 0.001)
    product = (posterior.cross * sigma2).sum(1) / scale
    power = (posterior.power * sigma2).sum(1) / scale**2
    np.add.at(sums.signal_product, data.group[good], product[good])
    np.add.at(sums.signal_power, data.group[good], power[good])
