"""Decisions between iterations: image size, angular and translational sampling, convergence (refinement.md 5.7, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot, pi

import numpy as np
from numpy.typing import NDArray

from mpiapp.engine.state import UNKNOWN, Schedule
from mpiapp.model.fsc import first_shell_below
from mpiapp.model.pixels import round_half_away

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """Fixed rules of a run."""

    box: int
    pixel_size_A: float
    particle_diameter_A: float
    auto_local_healpix_order: int = 4
    minres_map: int = 5
    ignore_angles: bool = False
    resolution_angles: bool = False
    sigma_ang_deg: float = -1.0
    relion_convergence: bool = False
    max_healpix_order: int = 8

    def shell(self, frequency: float) -> int:
        """Shell of a frequency in 1/A."""
        return int(round_half_away(frequency * self.pixel_size_A * self.box))

    def frequency(self, shell: float) -> float:
        """Frequency of a shell in 1/A."""
        return shell / (self.box * self.pixel_size_A)


def image_size(policy: Policy, s: Schedule) -> int:
    """Current image size S of the next expectation step (refinement.md 5.7)."""
    if s.converged:
        return policy.box
    shell = policy.shell(s.frequency)
    if s.average_pmax > 0.1 and s.high_fsc_at_limit:
        shell += int(round_half_away(0.25 * policy.box / 2))
    else:
        shell += s.increment
    return min(2 * shell, policy.box)


def resolution_shell(data_vs_prior: F64, minres_map: int) -> int:
    """Last shell before data_vs_prior falls below 1, or beyond a dip of it, at least minres_map."""
    n = data_vs_prior.size
    below = np.flatnonzero(data_vs_prior[1 : n - 1] < 1)
    shell = int(below[0]) if below.size else n - 2
    above = np.flatnonzero(data_vs_prior[: n - 1] > 1)
    if above.size and above[-1] > shell + 3:
        shell = int(above[-1])
    return max(shell, minres_map)


def update_resolution(policy: Policy, s: Schedule, shell: int) -> None:
    """Take over a resolution, counting iterations without gain.

    RELION compares with the iteration before, so a resolution that swings between two shells counts as a gain every
    other time; ours compares with the best so far.
    """
    frequency = policy.frequency(shell)
    before = s.frequency if policy.relion_convergence else s.best_frequency
    if frequency <= before + 0.0001:
        s.iterations_without_gain += 1
    else:
        s.iterations_without_gain = 0
    s.frequency = frequency
    s.best_frequency = max(s.best_frequency, frequency)


def update_increment(s: Schedule, fsc: F64, current_size: int) -> None:
    """Widen the margin beyond the current resolution by the width of the FSC's fall (refinement.md 5.7)."""
    half, low = first_shell_below(fsc, 0.5), first_shell_below(fsc, 0.143)
    s.increment = max(s.increment, low - half + 5)
    limit = min(current_size // 2 - 1, fsc.size - 1)
    s.high_fsc_at_limit = s.high_fsc_at_limit or bool(fsc[limit] > 0.2)


# Poses count as settled when their change is not this much smaller than the smallest before. RELION has 1.03; the
# random turn of the grid alone makes changes scatter by several per cent, so that costs iterations and gains nothing.
SETTLED, SETTLED_RELION = 1.15, 1.03
# A step or a change below this part of the estimated accuracy is beyond what the data can tell (refinement.md 6.3).
USEFUL = 0.75


def grids_apart_deg(step_deg: float, other_deg: float) -> float:
    """R.m.s. distance in degrees of the points nearest to one orientation in two grids turned at random.

    Each grid misses the orientation by an error that is uniform over its step in three directions: 3 (a^2 + b^2) / 12.
    """
    return hypot(step_deg, other_deg) / 2


def update_changes(policy: Policy, s: Schedule, angle_deg: float, offset_A: float) -> None:
    """Compare the changes of poses with the smallest so far (refinement.md 6.1).

    RELION calls poses calm that change by less than 0.4 of a step, which the random turn of its grid never lets
    happen, or hardly less than before. Beyond the first sampling of local searches ours are calm too when the grids of
    this iteration and the last explain the change, or when it is below what the data can tell: such samplings polish poses,
    and the resolution seldom gains from a second iteration. Not before, and not to end a run: maps still improve then.
    """
    s.change_angle_deg, s.change_offset_A = angle_deg, offset_A
    factor = SETTLED_RELION if policy.relion_convergence else SETTLED
    settled_angle = angle_deg / s.step_deg < 0.40 or factor * angle_deg >= s.smallest_angle_deg
    settled_offset = offset_A / s.fine_offset_step_A < 0.40 or factor * offset_A >= s.smallest_offset_A
    explained_deg = max(grids_apart_deg(s.step_deg, s.last_step_deg), USEFUL * known(s.accuracy_rot_deg))
    calm_angle = settled_angle or angle_deg < explained_deg
    calm_offset = settled_offset or offset_A < USEFUL * known(s.accuracy_trans_A)
    settled = settled_angle and settled_offset
    s.iterations_settled = s.iterations_settled + 1 if settled else 0
    polishing = s.healpix_order > policy.auto_local_healpix_order and not policy.relion_convergence
    calm = calm_angle and calm_offset if polishing else settled
    s.iterations_without_changes = s.iterations_without_changes + 1 if calm else 0
    s.smallest_angle_deg = min(s.smallest_angle_deg, angle_deg)
    s.smallest_offset_A = min(s.smallest_offset_A, offset_A)
    s.last_step_deg = s.step_deg


def known(accuracy: float) -> float:
    """An estimated accuracy, 0 before there is one."""
    return 0.0 if accuracy == UNKNOWN else accuracy


def needed_step_deg(policy: Policy, frequency: float) -> float:
    """Angular step that the current resolution asks for."""
    return 360.0 / ceil(pi * policy.particle_diameter_A * max(frequency, 1e-6))


def stalled(policy: Policy, s: Schedule) -> bool:
    """Whether resolution and poses stopped improving at this sampling."""
    resolution = s.iterations_without_gain >= 1 or (
        policy.resolution_angles
        and needed_step_deg(policy, s.frequency) < s.step_deg
        and s.healpix_order + 1 != policy.auto_local_healpix_order
    )
    return resolution and (policy.ignore_angles or s.iterations_without_changes >= 1)


def is_fine_enough(policy: Policy, s: Schedule) -> bool:
    """Whether a finer angular sampling can not help.

    RELION stops refining the grid when its step is below 0.75 of the estimated accuracy. Ours also asks that
    the step resolves the current resolution: the accuracy is computed from the reference at hand, and a
    poor one promises little, so on its own the rule gives up while the map, and with it the accuracy,
    would still improve.
    """
    if s.healpix_order >= policy.max_healpix_order:
        return True
    fine = s.step_deg < USEFUL * s.accuracy_rot_deg
    if policy.relion_convergence:
        return fine
    return fine and s.step_deg <= needed_step_deg(policy, s.frequency)


def update_sampling(policy: Policy, s: Schedule) -> bool:
    """Refine the sampling if everything stalled; returns whether it changed (refinement.md 6.3)."""
    if not stalled(policy, s):
        return False
    if is_fine_enough(policy, s):
        # the last sampling is left by RELION's rule: maps still improve while poses are merely explained
        s.fine_enough = policy.ignore_angles or s.iterations_settled >= 1
        return False
    s.fine_enough = False
    _refine_offsets(s)
    s.healpix_order += 1
    s.iterations_without_gain = s.iterations_without_changes = s.iterations_settled = 0
    s.smallest_angle_deg = s.smallest_offset_A = UNKNOWN
    if s.healpix_order >= policy.auto_local_healpix_order:
        s.sigma_deg = local_sigma_deg(policy, s)
    return True


def local_sigma_deg(policy: Policy, s: Schedule) -> float:
    """Standard deviation of the priors of a local search: two fine steps, or as asked."""
    return policy.sigma_ang_deg if policy.sigma_ang_deg > 0 else 2 * s.step_deg


def _refine_offsets(s: Schedule) -> None:
    """New range and step of the shifts from the accuracy and the changes."""
    step = min(1.5, USEFUL * s.accuracy_trans_A) * 2**s.oversampling
    span = 5 * s.change_offset_A
    span = max(min(span, 1.3 * s.offset_range_A), 1.5 * step)
    if span > 4 * step:
        span /= 2
        if span > 4 * step:
            step = span / 4
    if step > s.offset_step_A:
        return
    s.offset_range_A, s.offset_step_A = span, step


def has_converged(policy: Policy, s: Schedule) -> bool:
    """Whether the next iteration is the last one, with all data (refinement.md 6.4)."""
    return (
        s.fine_enough
        and s.iterations_without_gain >= 1
        and (policy.ignore_angles or s.iterations_settled >= 1)
    )


def score_radius(policy: Policy, r_max: int, strict_highres_A: float) -> int:
    """Highest frequency in pixels that may count in scores (--strict_highres_exp)."""
    return min(r_max, policy.shell(1 / strict_highres_A)) if strict_highres_A > 0 else r_max


def coarse_radius(
    policy: Policy, s: Schedule, r_max: int, strict_highres_A: float = -1.0, factor: float = 1.2
) -> int:
    """Highest frequency of the coarse pass in pixels (refinement.md 4.1)."""
    if s.oversampling == 0 or strict_highres_A > 0:
        return score_radius(policy, r_max, strict_highres_A)
    arc = s.step_deg * 2**s.oversampling / 360.0 * pi * policy.particle_diameter_A
    return min(r_max, ceil(policy.pixel_size_A * policy.box * factor / arc))
