"""What a backend does in one iteration: the seam between the science and a device (engine.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.search import Search
from mpiapp.model.sums import WeightedSums
from mpiapp.model.symmetry import PointGroup
from mpiapp.parallel.base import Team

F64 = NDArray[np.float64]
T = TypeVar("T")


class ReadImages(Protocol):
    """Reads images of the stacks of a run (``io.stacks.ImageReader``): called, as float32, or into given memory."""

    def __call__(
        self, stack_index: NDArray[np.int32], image_index: NDArray[np.int64], /
    ) -> NDArray[np.float32]:
        """Images (n, box, box)."""

    def stored_type(self, stack_index: NDArray[np.int32], /) -> np.dtype[Any]:
        """Type of the images of some stacks, float32 where these differ."""

    def read_into(
        self, out: NDArray[Any], stack_index: NDArray[np.int32], image_index: NDArray[np.int64], /
    ) -> None:
        """Images into (n, box, box) of float32 or of the stored type."""


@dataclass(frozen=True)
class ImagingSetup:
    """What does not change during a run."""

    box: int  # N of the model
    pixel_size_A: float
    padding: float
    particle_diameter_A: float
    mask_edge: float  # pixels
    zero_mask: bool
    optics: Sequence[OpticsModel]
    n_groups: int  # intensity-scale groups
    group: PointGroup
    seed: int

    @property
    def n_shells(self) -> int:
        """Shells 0 .. N / 2."""
        return self.box // 2 + 1


@dataclass(frozen=True)
class HalfModel:
    """The model of one half set, or of all particles, as the expectation step needs it.

    The references are padded transforms of maps (2 R + 1, 2 R + 1, R + 1), or transforms of class averages
    (2 r + 1, r + 1) on whole pixels, y and x with the origin at (r, 0); one for each class.
    """

    transforms: NDArray[
        np.complex64
    ]  # (n_class, 2 R + 1, 2 R + 1, R + 1), without the first axis of space for averages
    sigma2: F64  # (n_optics, n_shells) noise variance per component
    data_vs_prior: F64  # (n_class, n_shells)
    scale: F64  # (n_groups,)
    average_norm: float
    direction_prior: F64  # (n_class, n_dir), sums to 1
    sigma_offset_A: float
    frame: F64  # (3, 3) rotation of the reference: a direction D is read at D @ frame
    offset_centre_A: F64  # (n_class, 2) centre of the prior of offsets for class averages, or (1, 2) for all
    own_gain: F64 = field(default_factory=lambda: np.zeros(0))  # (n_class,), or empty: model.own_share


@dataclass(frozen=True)
class ImageOptions:
    """How the CTF of images at known poses is taken into account, and whether their corners are (`model.ctf.ctf`)."""

    ctf: bool  # False leaves the CTF out
    phase_flipped: bool = False
    only_flip_phases: bool = False
    intact_first_peak: bool = False
    corners: bool = False


class Backend(Protocol):
    """Arrays on a device and the operations that need kernels."""

    def expectation(
        self,
        setup: ImagingSetup,
        model: HalfModel,
        search: Search,
        data: ParticleData,
        poses: Poses,
        read: ReadImages,
        step: Callable[[int], bool],
    ) -> tuple[WeightedSums, Poses, NDArray[np.bool_]]:
        """Posterior and weighted sums of all given particles of one half.

        ``step(n)`` is called after every n finished particles and answers True when the run must stop. The last
        result marks particles whose image is not finite; they contribute nothing.
        """

    def back_project(
        self,
        setup: ImagingSetup,
        r_max: int,
        data: ParticleData,
        poses: Poses,
        read: ReadImages,
        options: ImageOptions,
        *,
        weights: F64 | None = None,
        step: Callable[[int], object] = lambda n: None,
    ) -> tuple[Any, int]:
        """Sums D and W of particles at known poses, without noise weighting: D += w CTF X, W += w CTF^2.

        Parameters
        ----------
        r_max : highest frequency of the model in pixels
        weights : (n,) w of the particles; none: 1
        step : called with the number of particles done

        Returns
        -------
        grid : (2 R + 1, 2 R + 1, R + 1, 3 or more) real and imaginary part of D, W, where this backend computes
        n_bad : images left out because they hold NaN or infinity
        """

    def slices(
        self,
        volume: NDArray[np.float32],
        radius: int,
        padding: float,
        matrices: F64,
        kx: NDArray[np.float32],
        ky: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Central slices of a padded transform (flat, interleaved): (n, 2, n_pix) float32."""

    def symmetrise(self, sums: F64, group: PointGroup, padding: float) -> F64:
        """Sum a grid over the operators of a point group (refinement.md 2.6): a new grid, or the same one for C1."""

    def to_device(self, array: NDArray[Any]) -> Any:
        """A host array as this backend computes with it; ``model.arrays`` has the functions for it."""

    def stays(self, size: int) -> bool:
        """Whether sums of some bytes may stay where they are while other particles are worked on."""

    def within_memory(self, what: str, work: Callable[[], T], needs: int = 0) -> T:
        """Result of a piece of work that takes memory of the device.

        Where memory does not suffice, what can be spared is given up and the work begins anew: it must not have changed
        anything, nor talk to other ranks.

        Parameters
        ----------
        what : the work, as the message names it;  needs : bytes that it takes, 0 for unknown.

        Raises
        ------
        DeviceError
            Memory does not suffice.
        """

    def take_busy(self) -> float | None:
        """Share of the time since the last call in which this rank had work on its device; None for processors."""

    def take_score_error(self) -> float | None:
        """R.m.s. error of a sample of the scores since the last call, nats; None where none was measured."""

    def judge_precision(self, error: float) -> list[str]:
        """Choose the precision of the next iteration's scores; lines for the log.

        Parameters
        ----------
        error : the largest r.m.s. error of all ranks, nats, so that all choose alike
        """

    def reduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """Sum of the accumulators of all workers of a set, at its root; None elsewhere.

        Parameters
        ----------
        grid : of this rank; None where it has no particles of the set.
        """

    def allreduce_grid(self, team: Team, s: int, grid: Any) -> Any:
        """As `reduce_grid`, with the sum at every worker of the set."""
