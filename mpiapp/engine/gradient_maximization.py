"""The maximization step of a gradient classification (refinement.md 7.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.engine.class_maximization import ClassMaximization, ClassResult, centring, moved
from mpiapp.engine.gradient_schedule import GradientStep
from mpiapp.engine.state import HalfState
from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.gradient import (
    Moments,
    descend,
    gradient,
    reference_of,
    signal_share,
    stepped,
    transform_of,
)
from mpiapp.model.projection import padded_box
from mpiapp.model.reconstruct import Spectra
from mpiapp.model.sums import WeightedSums

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# References are not moved by less than this: pixels, and share of the particle's diameter
LEAST_MOVE_PX, LEAST_MOVE = 2.0, 0.01


class GradientMaximization(ClassMaximization):
    """Gradient steps of all classes over a team; each rank keeps the moments of its classes."""

    step: GradientStep
    half: HalfState
    moments: dict[int, Moments]
    strength: dict[int, float]  # mean |G|^2 times the size of each class

    def restore(self, stored: dict[str, Any], n_class: int, ndim: int) -> None:
        """Moments of the classes of this rank, from what the leader has (all ranks).

        Parameters
        ----------
        stored : of :meth:`gather`, empty before the first gradient step
        ndim : 3 for maps, 2 for class averages
        """
        self.ndim, self.strength = ndim, {}
        mine = self.classes_here(n_class, self.team.allgather(0 in self.team.sets))
        self.moments = {k: Moments.none(ndim) for k in mine}
        reach = self.team.bcast_array(stored.get("reach"))
        for k in range(n_class if reach is not None else 0):
            first = self.team.bcast_array(stored["first"][k] if stored else None)
            second = self.team.bcast_array(stored["second"][k] if stored else None)
            if k in self.moments and first is not None and second is not None and reach is not None:
                self.moments[k] = Moments(first.copy(), second.copy(), int(reach[k]))

    def gather(self, n_class: int) -> dict[str, Any]:
        """Moments of all classes on the leader, for the checkpoint; nothing elsewhere (all ranks)."""
        team, root = self.team, self.team.is_root(0)
        radius = max(team.allgather(max((m.radius for m in self.moments.values()), default=0)))
        reach = {k: n for part in team.allgather(self._reach()) for k, n in part.items()}
        first, second = [], []
        for k in range(n_class):
            shared = self._shared(k, radius)
            parts = [team.to_leader(0, shared[i] if root and shared else None) for i in (0, 1)]
            if parts[0] is not None and parts[1] is not None:
                first.append(parts[0])
                second.append(parts[1])
        if not team.is_leader:
            return {}
        known = np.array([reach[k] for k in range(n_class)], np.int64)
        return {"first": np.stack(first), "second": np.stack(second), "reach": known}

    def _reach(self) -> dict[int, int]:
        return {k: m.reach for k, m in self.moments.items()}

    def descend(
        self,
        step: GradientStep,
        half: HalfState,
        sums: dict[int, WeightedSums],
        maps: list[F32 | None],
        r_max: int,
    ) -> tuple[ClassResult, HalfState]:
        """As :meth:`run`, by a gradient step; ``half`` comes back, changed where a class was replaced (all ranks).

        Parameters
        ----------
        half : parameters that entered the mini-batch
        sums : grids hold the pseudo-halves, classes k and K + k
        """
        self.step, self.half, self.strength = step, half, {}
        old = maps[0]
        result = self.run(sums, maps, r_max, -1.0)
        new = maps[0]
        assert old is not None
        assert new is not None
        return result, self._replaced(result, old, new)

    def _references(
        self, classes: list[int], grid: F64, old: F32, r_max: int, lowpass_A: float
    ) -> tuple[F32, F64]:
        if not self.step.gradient:
            return super()._references(classes, grid, old, r_max, lowpass_A)
        old = self.backend.to_device(old)
        new = module_of(old).xp.zeros_like(old)
        half, packed = self.half, np.zeros((len(old), 4, self.setup.n_shells))
        kept = np.stack([half.sigma2_ref, half.tau2, half.data_vs_prior, half.coverage], axis=1)
        for k in self.moments:
            if k in classes:
                halves = grid[k], grid[k + len(old)]
                reference, spectra = self._step_of(k, halves, old[k], r_max)
                new[k], packed[k] = self._filtered(reference, lowpass_A), spectra.packed()
            else:  # nothing to learn from this mini-batch
                new[k], packed[k] = old[k], kept[k]
        return (new if self.team.size == 1 else to_host(new)), packed

    def _step_of(self, k: int, halves: tuple[F64, F64], old: F32, r_max: int) -> tuple[F32, Spectra]:
        """New reference of one class from the sums of the pseudo-halves."""
        setup, step = self.setup, self.step
        a, b = (self._complete(grid) for grid in halves)
        share = float(self.half.class_prior[k])
        spectra = self._spectra(a + b, self._power(old, r_max), step.tau2_fudge)
        transform = transform_of(old, r_max, setup.padding, workers=self.options.workers)
        gradients = gradient(a, transform), gradient(b, transform)
        self.moments[k], found = descend(self.moments[k], gradients, setup.padding, setup.n_shells)
        self.strength[k] = found.strength * share
        signal = signal_share(transform, found.noise, step.tau2_fudge, setup.padding)
        # small classes go slowly, as little of what they learn is of this mini-batch
        size = step.step_size * (1 - np.exp(-(3 * self.half.n_class + 10) * share))
        transform = stepped(transform, found.direction, signal, size, setup.padding)
        new = reference_of(transform, setup.box, setup.padding, workers=self.options.workers)
        return self._centred(k, new), spectra

    def _centred(self, k: int, reference: F32) -> F32:
        """The reference in the middle of the box, and its moments with it; small moves would only shake it."""
        if self.centre_px <= 0 or not self.step.centres:
            return reference
        setup = self.setup
        shift = centring(reference, self.centre_px)
        least = max(LEAST_MOVE_PX, LEAST_MOVE * setup.particle_diameter_A / setup.pixel_size_A)
        if np.sqrt((shift**2).sum()) < least:
            return reference
        self.moments[k] = self.moments[k].moved(shift, padded_box(setup.box, setup.padding))
        return moved(reference, shift)

    def _replaced(self, result: ClassResult, old: F32, new: F32) -> HalfState:
        """Put a copy of the class that changes most in the place of an idle one, if there is one (step 7)."""
        half, step = self.half, self.step
        strength = {k: s for part in self.team.allgather(self.strength) for k, s in part.items()}
        prior = half.class_prior
        idle = int(prior.argmin())
        if not (strength and prior[idle] < step.inactivity / np.count_nonzero(prior)):
            return half
        active = max(strength, key=lambda k: strength[k])
        if active == idle:
            return half
        new[idle] = module_of(new).xp.asarray(old[active])
        if result.spectra:
            result.spectra[idle] = result.spectra[active]
        here = self.moments.get(active, Moments.none(self.ndim))
        radius = max(self.team.allgather(here.radius))
        reach = max(self.team.allgather(here.reach))
        shared = self._shared(active, radius)
        if shared is not None and idle in self.moments:
            self.moments[idle] = Moments(*shared, reach).damped()
        return half.with_copy(active, idle)

    def _shared(self, k: int, radius: int) -> tuple[Any, Any] | None:
        """First and second moments of a class at all workers; None at a leader that does not work (all ranks)."""
        if 0 not in self.team.sets:
            return None
        none = Moments.none(self.ndim).widened(radius)
        m = self.moments[k].widened(radius) if k in self.moments else none
        share = 1 if k in self.moments else 0
        arrays = [share * to_host(m.first), np.float32(share) * to_host(m.second)]
        found = self.team.allreduce_set(0, arrays)
        assert found is not None
        return found[0], found[1]
