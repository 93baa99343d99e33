"""Decisions between iterations (checklist items 12 and 13): tables from the rules, and whole fabricated runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from mpiapp.engine.schedule import (
    Policy,
    coarse_radius,
    grids_apart_deg,
    has_converged,
    image_size,
    is_fine_enough,
    local_sigma_deg,
    needed_step_deg,
    resolution_shell,
    stalled,
    update_changes,
    update_increment,
    update_resolution,
    update_sampling,
)
from mpiapp.engine.state import UNKNOWN, Schedule

POLICY = Policy(box=128, pixel_size_A=2.0, particle_diameter_A=150.0)
RELION = replace(POLICY, relion_convergence=True)


def schedule(**changes: object) -> Schedule:
    return replace(Schedule(healpix_order=2, offset_range_A=10.0, offset_step_A=4.0), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shell", "p_max", "high_fsc", "increment", "converged", "expected"),
    [
        (10, 0.9, False, 10, False, 40),  # 10 + 10 shells
        (10, 0.05, True, 10, False, 40),  # poses too uncertain for the big step
        (10, 0.9, True, 10, False, 52),  # a quarter of the radius of 64: 16 shells
        (10, 0.1, True, 10, False, 40),  # more than 0.1 is asked for
        (10, 0.9, False, 17, False, 54),  # a slow fall of the FSC widens the margin
        (60, 0.9, False, 10, False, 128),  # never more than the box
        (60, 0.9, True, 10, False, 128),
        (10, 0.0, False, 10, True, 128),  # the last iteration uses all data
    ],
)
def test_image_size(
    shell: int, p_max: float, high_fsc: bool, increment: int, converged: bool, expected: int
) -> None:
    s = schedule(
        frequency=POLICY.frequency(shell),
        average_pmax=p_max,
        high_fsc_at_limit=high_fsc,
        increment=increment,
        converged=converged,
    )
    assert image_size(POLICY, s) == expected


def test_quarter_of_the_radius_is_rounded() -> None:
    odd = replace(POLICY, box=100)  # a quarter of 50 is 12.5, rounded to 13
    s = schedule(frequency=odd.frequency(10), average_pmax=1.0, high_fsc_at_limit=True)
    assert image_size(odd, s) == 2 * (10 + 13)


def test_shells_and_frequencies() -> None:
    assert POLICY.frequency(16) == pytest.approx(1 / 16)  # 256 A across
    assert [POLICY.shell(POLICY.frequency(s)) for s in range(65)] == list(range(65))


@pytest.mark.parametrize(
    ("good", "minres", "expected"),
    [
        (range(21), 5, 20),  # the last shell before the fall
        (range(3), 5, 5),  # at least minres_map
        ([*range(11), 13], 5, 10),  # single shells near the fall do not count
        ([*range(11), *range(12, 30)], 5, 29),  # a dip does not end it
        ([*range(11), 14], 5, 14),  # more than three shells beyond
        (range(33), 5, 31),  # never the last shell
    ],
)
def test_resolution_shell(good: range | list[int], minres: int, expected: int) -> None:
    data_vs_prior = np.full(33, 0.5)
    data_vs_prior[list(good)] = 3.0
    assert resolution_shell(data_vs_prior, minres) == expected


def test_shell_zero_does_not_end_the_resolution() -> None:
    data_vs_prior = np.full(33, 2.0)
    data_vs_prior[0] = 0.0
    assert resolution_shell(data_vs_prior, 5) == 31


@pytest.mark.parametrize(
    ("policy", "counts"),
    # RELION compares with the iteration before: the swing from 19 to 20 counts as a gain once more
    [(POLICY, [0, 0, 1, 2, 3, 0]), (RELION, [0, 0, 1, 0, 1, 0])],
)
def test_gains_of_resolution(policy: Policy, counts: list[int]) -> None:
    s = schedule()
    found = []
    for shell in (15, 20, 19, 20, 20, 21):
        update_resolution(policy, s, shell)
        found.append(s.iterations_without_gain)
    assert found == counts
    assert s.frequency == s.best_frequency == policy.frequency(21)


def fsc_curve(half: int, low: int, floor: float = 0.05) -> np.ndarray:
    """1 up to shell half, 0.3 up to shell low, then a floor."""
    shells = np.arange(65)
    return np.where(shells < half, 0.99, np.where(shells < low, 0.3, floor))


def test_increment_follows_the_fall_of_the_fsc() -> None:
    s = schedule()
    update_increment(s, fsc_curve(20, 24), 80)
    assert s.increment == 10  # 24 - 20 + 5 is less
    update_increment(s, fsc_curve(20, 32), 80)
    assert s.increment == 17
    update_increment(s, fsc_curve(20, 24), 80)
    assert s.increment == 17  # it never shrinks
    update_increment(s, fsc_curve(20, 65), 80)  # no shell below 0.143
    assert s.increment == 17


def test_high_fsc_at_the_limit_is_remembered() -> None:
    s = schedule()
    update_increment(s, fsc_curve(30, 39), 80)  # shell 39 is 0.05
    assert not s.high_fsc_at_limit
    update_increment(s, fsc_curve(30, 40), 80)  # shell 39 is 0.3
    assert s.high_fsc_at_limit
    update_increment(s, fsc_curve(5, 6), 80)
    assert s.high_fsc_at_limit


@pytest.mark.parametrize(("policy", "factor"), [(POLICY, 1.15), (RELION, 1.03)])
def test_changes_count_when_they_stop_shrinking(policy: Policy, factor: float) -> None:
    s = schedule()  # fine steps of 7.5 degrees and 2 A
    update_changes(policy, s, 60.0, 5.0)
    assert s.iterations_without_changes == 0  # the first comparison is with nothing
    update_changes(policy, s, 60.0 / factor * 1.001, 5.0 / factor * 1.001)
    assert s.iterations_without_changes == 1
    update_changes(policy, s, s.smallest_angle_deg / factor * 0.999, 5.0)
    assert s.iterations_without_changes == 0  # angles still shrink
    update_changes(policy, s, 60.0, s.smallest_offset_A / factor * 0.999)
    assert s.iterations_without_changes == 0  # offsets still shrink
    update_changes(policy, s, 2.9, 0.79)  # below 0.4 of both steps
    assert s.iterations_without_changes == 1
    assert (s.smallest_angle_deg, s.smallest_offset_A) == (2.9, 0.79)
    update_changes(policy, s, 2.0, 0.5)
    assert s.iterations_without_changes == 2
    assert (s.change_angle_deg, s.change_offset_A) == (2.0, 0.5)


def test_what_grids_and_accuracy_explain_is_calm_but_does_not_end_a_run() -> None:
    polishing = schedule(healpix_order=5, accuracy_rot_deg=0.5, accuracy_trans_A=3.0, last_step_deg=0.9375)
    apart = grids_apart_deg(0.9375, 0.9375)
    assert apart == pytest.approx(0.9375 / 2**0.5)
    s = replace(polishing)
    update_changes(POLICY, s, apart * 0.99, 2.2)  # fine steps of 0.9375 degrees and 2 A; 2.2 < 0.75 * 3
    assert (s.iterations_without_changes, s.iterations_settled) == (1, 0)
    update_changes(POLICY, s, apart * 0.8, 1.5)  # they shrink, and are explained
    assert (s.iterations_without_changes, s.iterations_settled) == (2, 0)
    assert not has_converged(POLICY, replace(s, fine_enough=True, iterations_without_gain=3))
    update_changes(POLICY, s, apart * 0.8, 1.5)  # they no longer shrink
    assert (s.iterations_without_changes, s.iterations_settled) == (3, 1)
    assert has_converged(POLICY, replace(s, fine_enough=True, iterations_without_gain=3))
    for policy, start in ((RELION, polishing), (POLICY, replace(polishing, healpix_order=4))):
        other = replace(start)
        update_changes(policy, other, apart * 0.99, 2.2)
        assert other.iterations_without_changes == 0
    unexplained = replace(polishing)
    update_changes(POLICY, unexplained, apart * 1.01, 2.2)
    assert unexplained.iterations_without_changes == 0


def test_the_distance_of_two_grids() -> None:
    """Nearest points of two lattices turned at random, against numbers drawn."""
    errors = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 200000, 3)) * np.array([3.0, 4.0])[:, None, None]
    apart = np.sqrt(((errors[0] - errors[1]) ** 2).sum(1).mean())
    assert grids_apart_deg(3.0, 4.0) == pytest.approx(apart, rel=0.01)


def test_step_that_a_resolution_needs() -> None:
    assert needed_step_deg(POLICY, 0.1) == pytest.approx(360 / 48)  # ceil(pi 150 / 10)
    assert needed_step_deg(POLICY, 0.0) == 360.0


@pytest.mark.parametrize(
    ("order", "oversampling", "strict", "expected"),
    [
        (2, 1, -1.0, 16),  # d = 15/360 pi 150 = 19.6 A; ceil(256 * 1.2 / 19.6)
        (3, 1, -1.0, 32),
        (4, 1, -1.0, 40),  # never more than the current size
        (2, 0, -1.0, 40),  # one pass only
        (3, 1, 10.0, 26),  # round(256 / 10)
        (3, 1, 1.0, 40),
    ],
)
def test_radius_of_the_coarse_pass(order: int, oversampling: int, strict: float, expected: int) -> None:
    s = schedule(healpix_order=order, oversampling=oversampling)
    assert coarse_radius(POLICY, s, 40, strict) == expected


@pytest.mark.parametrize(
    ("accuracy_A", "change_A", "old", "expected"),
    [
        (1.0, 1.95, (10.0, 4.0), (4.875, 1.5)),  # 9.75 is more than four steps: halved
        (1.0, 0.5, (10.0, 4.0), (2.5, 1.5)),
        (1.0, 0.1, (10.0, 4.0), (2.25, 1.5)),  # at least one and a half steps
        (5.0, 1.0, (10.0, 4.0), (5.0, 3.0)),  # a step of 1.5 A before oversampling at most
        (0.4, 9.0, (10.0, 4.0), (6.5, 1.625)),  # 13, halved, is still more than four steps of 0.6
        (5.0, 1.0, (10.0, 2.5), (10.0, 2.5)),  # the step never grows
        (1.0, 9.0, (2.0, 1.5), (2.6, 1.5)),  # the range grows by 1.3 at most
    ],
)
def test_offsets_of_a_finer_sampling(
    accuracy_A: float, change_A: float, old: tuple[float, float], expected: tuple[float, float]
) -> None:
    s = schedule(
        offset_range_A=old[0],
        offset_step_A=old[1],
        accuracy_trans_A=accuracy_A,
        accuracy_rot_deg=1.0,
        change_offset_A=change_A,
        iterations_without_gain=1,
        iterations_without_changes=1,
        smallest_angle_deg=3.0,
    )
    assert update_sampling(POLICY, s)
    assert (s.offset_range_A, s.offset_step_A) == pytest.approx(expected)
    assert s.healpix_order == 3
    assert (s.iterations_without_gain, s.iterations_without_changes) == (0, 0)
    assert s.smallest_angle_deg == s.smallest_offset_A == UNKNOWN
    assert s.sigma_deg is None


def test_local_searches_begin_at_their_order() -> None:
    s = schedule(
        healpix_order=3, accuracy_rot_deg=0.5, iterations_without_gain=1, iterations_without_changes=1
    )
    assert update_sampling(POLICY, s)
    assert s.step_deg == pytest.approx(1.875)
    assert s.sigma_deg == pytest.approx(2 * 1.875)
    assert local_sigma_deg(replace(POLICY, sigma_ang_deg=5.0), s) == 5.0


@pytest.mark.parametrize(
    ("no_gain", "no_changes", "ignore", "expected"),
    [
        (0, 3, False, False),
        (1, 0, False, False),
        (1, 1, False, True),
        (1, 0, True, True),
        (0, 0, True, False),
    ],
)
def test_both_have_to_stall(no_gain: int, no_changes: int, ignore: bool, expected: bool) -> None:
    s = schedule(
        iterations_without_gain=no_gain,
        iterations_without_changes=no_changes,
        iterations_settled=no_changes,
        fine_enough=True,
    )
    policy = replace(POLICY, ignore_angles=ignore)
    assert stalled(policy, s) == has_converged(policy, s) == expected
    s.fine_enough = False
    assert not has_converged(policy, s)


def test_resolution_alone_can_ask_for_finer_angles() -> None:
    policy = replace(POLICY, resolution_angles=True)
    s = schedule(iterations_without_changes=1, frequency=1 / 6)  # needs 4.6 degrees, has 7.5
    assert stalled(policy, s)
    assert not stalled(POLICY, s)
    s.healpix_order = 3  # the next one would be local: not before the resolution stalls
    s.frequency = 1 / 3
    assert not stalled(policy, s)


def test_fine_enough() -> None:
    s = schedule(healpix_order=4, accuracy_rot_deg=3.0, frequency=1 / 14)  # 1.875 degrees
    assert is_fine_enough(RELION, s)
    assert is_fine_enough(POLICY, s)
    large = replace(POLICY, particle_diameter_A=1000.0)  # 1.6 degrees are needed at 14 A
    assert not is_fine_enough(large, s)
    assert is_fine_enough(replace(large, relion_convergence=True), s)
    s.accuracy_rot_deg = 2.0
    assert not is_fine_enough(RELION, s)
    s.healpix_order = POLICY.max_healpix_order
    assert is_fine_enough(POLICY, s)


# ---- whole runs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What one iteration finds: expected accuracies at its start, resolution and changes at its end."""

    accuracy_deg: float
    accuracy_A: float
    shell: int
    angle_deg: float
    offset_A: float


def drive(
    policy: Policy, outcomes: list[Outcome], **start: object
) -> tuple[list[int], list[int], int | None]:
    """Orders and image sizes of every iteration, and the converging one, in the order of a run's decisions."""
    s = schedule(frequency=policy.frequency(6), best_frequency=policy.frequency(6), **start)
    orders, sizes = [], []
    for iteration, found in enumerate(outcomes, start=1):
        s.iteration = iteration
        if iteration > 1 and has_converged(policy, s):
            s.converged = True
        s.current_size = image_size(policy, s)
        s.accuracy_rot_deg, s.accuracy_trans_A = found.accuracy_deg, found.accuracy_A
        if iteration > 1 and not s.converged:
            update_sampling(policy, s)
        orders.append(s.healpix_order)
        sizes.append(s.current_size)
        if s.converged:
            return orders, sizes, iteration
        update_resolution(policy, s, found.shell)
        update_changes(policy, s, found.angle_deg, found.offset_A)
    return orders, sizes, None


STEADY = [
    Outcome(UNKNOWN, UNKNOWN, 10, 60.0, 5.0),  # 1: order 2
    Outcome(2.0, 1.0, 12, 20.0, 3.0),  # 2: both improve
    Outcome(2.0, 1.0, 12, 10.0, 2.0),  # 3: the resolution stalls
    Outcome(2.0, 1.0, 12, 9.9, 1.99),  # 4: so do the poses
    Outcome(2.0, 1.0, 15, 4.0, 1.0),  # 5: order 3
    Outcome(2.0, 1.0, 15, 1.4, 0.2),  # 6: stalls at once
    Outcome(2.0, 1.0, 18, 1.5, 0.4),  # 7: order 4, local
    Outcome(3.0, 1.0, 18, 0.7, 0.2),  # 8: stalls
    Outcome(3.0, 1.0, 18, 0.7, 0.2),  # 9: 1.875 < 0.75 * 3: fine enough, stalls again
    Outcome(3.0, 1.0, 18, 0.7, 0.2),  # 10: the last one
    Outcome(3.0, 1.0, 18, 0.7, 0.2),
]


@pytest.mark.parametrize("policy", [POLICY, RELION], ids=["ours", "RELION"])
def test_a_steady_run(policy: Policy) -> None:
    orders, sizes, converged = drive(policy, STEADY)
    assert orders == [2, 2, 2, 2, 3, 3, 4, 4, 4, 4]
    assert sizes == [32, 40, 44, 44, 44, 50, 50, 56, 56, 128]
    assert converged == 10


def test_a_large_particle_goes_on() -> None:
    """At 1000 A across 14 A need 1.6 degrees: only RELION's rule is content with 1.875."""
    large = replace(POLICY, particle_diameter_A=1000.0)
    assert drive(replace(large, relion_convergence=True), STEADY)[2] == 10
    more = [*STEADY[:8], *[Outcome(3.0, 1.0, 18, 0.2, 0.1)] * 6]
    orders, _, converged = drive(large, more)
    # 9: order 5, which does not help; 10: its changes are small: calm; 11: fine enough at 0.94; 12: the last
    assert orders == [2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 5]
    assert converged == 11


def test_a_swinging_resolution() -> None:
    """Between two shells RELION sees a gain every other iteration, which can hold the sampling back."""
    swing = [Outcome(2.0, 1.0, shell, 50.0, 5.0) for shell in (12, 12, 11, 12, 11, 12, 11)]
    assert drive(POLICY, swing)[0] == [2, 2, 3, 3, 4, 4, 5]
    assert drive(RELION, swing)[0] == [2, 2, 3, 3, 3, 4, 4]


def test_changes_that_never_settle() -> None:
    shrinking = [Outcome(2.0, 1.0, 12, 60.0 * 0.8**n, 50.0 * 0.8**n) for n in range(8)]
    assert drive(POLICY, shrinking)[0] == [2] * 8
    assert drive(replace(POLICY, ignore_angles=True), shrinking)[0][:4] == [2, 2, 3, 4]
