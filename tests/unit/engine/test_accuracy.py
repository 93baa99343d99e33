"""Expected accuracies (checklist item 14): closed forms, the same search written as a loop, and its trend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mpiapp.engine.accuracy import ENOUGH, Accuracies, expected_accuracies, rotation_steps, shift_steps
from mpiapp.model.noise import particle_generator
from mpiapp.model.pixels import pixel_list
from mpiapp.model.rotations import euler_to_matrix

BOX, SEED = 32, 11
PIXELS = pixel_list(10)
POINTS = np.random.default_rng(8).uniform(-6, 6, (5, 3))
IDS = np.array([3, 8, 21, 40, 41, 57])
ANGLES = tuple(np.random.default_rng(9).uniform(-90, 90, (3, IDS.size)))
Slicer = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float32]]


def points(matrices: NDArray[np.float64], _: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Sections of a few points, as real and imaginary parts."""
    at = matrices @ POINTS.T  # (n, 3, point)
    phase = PIXELS.kx[:, None] * at[:, None, 0] + PIXELS.ky[:, None] * at[:, None, 1]
    value = np.exp(-2j * np.pi / BOX * phase).sum(-1)
    return np.stack([value.real, value.imag], axis=1).astype(np.float32)


def accuracies(
    weight: float, slicer: Slicer = points, ids: NDArray[np.int64] = IDS, pixel_A: float = 1.7
) -> Accuracies:
    rows = np.flatnonzero(np.isin(IDS, ids))
    weights = np.full((rows.size, len(PIXELS)), weight)
    weights[:, 0] = 0
    angles = tuple(a[rows] for a in ANGLES)
    sizes = np.full(rows.size, pixel_A)
    return expected_accuracies(slicer, PIXELS, angles, weights, sizes, BOX, SEED, ids)  # type: ignore[arg-type]


def test_steps() -> None:
    """refinement.md 6.2: finer below, and one step beyond the bounds of 30 degrees and 10 pixels."""
    rotation, shift = np.array(rotation_steps()), np.array(shift_steps())
    np.testing.assert_allclose(rotation[:6], [0.05, 0.1, 0.15, 0.2, 0.3, 0.4])
    assert {float(round(e, 2)) for e in rotation} >= {
        1.0,
        1.2,
        2.0,
        2.5,
        5.0,
        6.0,
        10.0,
        12.0,
        20.0,
        25.0,
        30.0,
    }
    assert rotation[-1] == pytest.approx(35)
    np.testing.assert_allclose(shift[8:12], [0.9, 1.0, 1.2, 1.4])
    assert {float(round(e, 2)) for e in shift} >= {2.0, 2.5, 5.0, 6.0, 10.0}
    assert shift[-1] == pytest.approx(12)
    assert len(rotation) == 4 + 8 + 5 + 6 + 5 + 5 + 3
    assert len(shift) == 10 + 5 + 6 + 5 + 1


def test_against_a_loop_over_particles() -> None:
    """One particle and one step at a time, as the rule is written."""
    weight = 0.1
    rotations, shifts = [], []
    spectrum = np.zeros(PIXELS.n_shells)
    for row, particle in enumerate(IDS):
        draw = particle_generator(SEED, "accuracy", int(particle)).random(2)
        angles = np.array([a[row] for a in ANGLES])
        first = points(euler_to_matrix(*angles)[None])[0]
        for e in rotation_steps():
            moved = angles.copy()
            moved[0 if draw[0] < 0.3333 else 1 if draw[0] < 0.6667 else 2] += e
            power = ((points(euler_to_matrix(*moved)[None])[0] - first) ** 2).sum(0) * weight
            power[0] = 0
            if power.sum() > ENOUGH:
                spectrum += np.bincount(PIXELS.shell, power, PIXELS.n_shells)
                break
        rotations.append(e)
        k = PIXELS.kx if draw[1] < 0.5 else PIXELS.ky
        section = first[0] + 1j * first[1]
        for e in shift_steps():
            power = np.abs(section * (1 - np.exp(-2j * np.pi * k * e / BOX))) ** 2 * weight
            if power[1:].sum() > ENOUGH:
                break
        shifts.append(e)
    found = accuracies(weight)
    assert found.rot_deg == pytest.approx(np.mean(rotations))
    assert found.trans_A == pytest.approx(1.7 * np.mean(shifts))
    np.testing.assert_allclose(found.orientability, spectrum / spectrum.sum(), atol=1e-5)
    assert found.orientability.sum() == pytest.approx(1)


def test_stronger_signal_tells_smaller_errors() -> None:
    """Item 14, over the range of the steps."""
    found = [accuracies(w) for w in (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)]
    rot, trans = [a.rot_deg for a in found], [a.trans_A for a in found]
    assert rot == sorted(rot, reverse=True)
    assert trans == sorted(trans, reverse=True)
    assert rot[0] > 10 * rot[-1]


def test_errors_scale_with_the_noise() -> None:
    """For small errors the difference is linear in them: nine times the weight finds a third of the error."""
    weak, strong = accuracies(0.1), accuracies(0.9)
    assert weak.rot_deg / strong.rot_deg == pytest.approx(3, rel=0.2)
    assert weak.trans_A / strong.trans_A == pytest.approx(3, rel=0.2)


def test_without_signal_the_bounds_are_passed() -> None:
    found = accuracies(0.0)
    assert found.rot_deg == pytest.approx(35)
    assert found.trans_A == pytest.approx(12 * 1.7)
    assert not found.orientability.any()


def test_a_particle_draws_the_same_in_any_company() -> None:
    alone = [accuracies(0.1, ids=np.array([i])) for i in IDS]
    together = accuracies(0.1)
    assert together.rot_deg == pytest.approx(np.mean([a.rot_deg for a in alone]))
    assert together.trans_A == pytest.approx(np.mean([a.trans_A for a in alone]))
