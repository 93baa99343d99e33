"""The state of a run through a checkpoint file and back."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from mpiapp.engine.state import UNKNOWN, HalfState, RunState, Schedule, new_half
from mpiapp.io.checkpoint import load_checkpoint, save_checkpoint
from mpiapp.model.particles import Poses


def random_poses(rng: np.random.Generator, n: int) -> Poses:
    poses = Poses.zeros(n)
    for f in fields(Poses):
        setattr(poses, f.name, rng.normal(size=getattr(poses, f.name).shape))
    return poses


def run_state(rng: np.random.Generator, sigma_deg: float | None) -> RunState:
    schedule = Schedule(
        4, 3.7, 1.25, iteration=9, sigma_deg=sigma_deg, frequency=1 / 7, high_fsc_at_limit=True
    )
    halves = []
    for _ in range(2):
        spectra = rng.uniform(size=(4, 3, 17))
        halves.append(
            HalfState(
                rng.uniform(size=(2, 17)),
                rng.uniform(size=3),
                rng.uniform(size=(3, 48)),
                rng.normal(size=(3, 2)),
                *spectra,
                rng.normal(size=4),
                rng.uniform(size=(3, 2)),
            )
        )
    maps = [rng.normal(size=(3, 8, 8, 8)).astype(np.float32) for _ in range(2)]
    anchor = rng.normal(size=(8, 8, 8)).astype(np.float32)
    half = rng.integers(1, 3, 30).astype(np.int8)
    history = {"iteration": [1.0, 2.0], "resolution_A": [12.5, 1 / 3], "nothing": []}
    return RunState(
        schedule,
        halves,
        maps,
        random_poses(rng, 30),
        half,
        rng.uniform(size=17),
        2**40 + 1,
        anchor,
        0.07,
        history,
    )


def same(first: object, second: object) -> None:
    """Equal values of equal types, down to the last bit."""
    if isinstance(first, np.ndarray):
        assert isinstance(second, np.ndarray)
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, dict):
        assert isinstance(second, dict)
        assert first.keys() == second.keys()
        for key in first:
            same(first[key], second[key])
    else:
        assert type(first) is type(second)
        assert first == second


@pytest.mark.parametrize("sigma_deg", [None, 3.75])
def test_checkpoint_holds_the_whole_state(
    tmp_path: Path, rng: np.random.Generator, sigma_deg: float | None
) -> None:
    state = run_state(rng, sigma_deg)
    path = tmp_path / "run_it009_checkpoint.h5"
    save_checkpoint(path, state.to_dict(), {"command": "test"})
    stored, _ = load_checkpoint(path)
    found = RunState.from_dict(stored)
    same(state.to_dict(), found.to_dict())
    same(asdict(state.schedule), asdict(found.schedule))
    assert found.schedule.sigma_deg == sigma_deg
    assert found.history == state.history
    assert [f.name for f in fields(found)] == [f.name for f in fields(state)]


def test_every_field_is_stored(rng: np.random.Generator) -> None:
    """A field added to the state must not be forgotten in its checkpoint."""
    stored = run_state(rng, None).to_dict()
    assert set(stored) == {f.name for f in fields(RunState)}
    assert set(stored["schedule"]) == {f.name for f in fields(Schedule)}
    assert set(stored["halves"]["0"]) == {f.name for f in fields(HalfState)}
    assert set(stored["poses"]) == {f.name for f in fields(Poses)}


def test_a_fresh_state(tmp_path: Path, rng: np.random.Generator) -> None:
    """Before the first iteration: no anchor, no history, nothing known of changes."""
    full = run_state(rng, None)
    empty = np.zeros((0, 0, 0), np.float32)
    state = RunState(
        Schedule(2, 10.0, 4.0), full.halves, full.maps, full.poses, full.half, full.fsc, 1, empty
    )
    path = tmp_path / "run_it000_checkpoint.h5"
    save_checkpoint(path, state.to_dict(), {})
    found = RunState.from_dict(load_checkpoint(path)[0])
    same(state.to_dict(), found.to_dict())
    assert found.schedule.smallest_angle_deg == UNKNOWN
    assert found.history == {}


def test_steps_of_the_schedule() -> None:
    s = Schedule(2, 10.0, 4.0)
    assert (s.step_deg, s.fine_offset_step_A) == (7.5, 2.0)
    assert Schedule(5, 10.0, 4.0, oversampling=0).step_deg == 1.875


def test_named_scalars(rng: np.random.Generator) -> None:
    half = run_state(rng, None).halves[0]
    assert half.average_norm == half.scalars[0]
    assert half.sigma_offset_A == half.scalars[1]


def test_poses_pack_and_unpack(rng: np.random.Generator) -> None:
    poses = random_poses(rng, 7)
    assert poses.pack().shape == (7, 10)
    found = Poses.unpack(poses.pack())
    for f in fields(Poses):
        np.testing.assert_array_equal(getattr(found, f.name), getattr(poses, f.name))
    part = poses.take(np.array([4, 1]))
    poses.put(np.array([0, 2]), part)
    np.testing.assert_array_equal(poses.origin_A[[0, 2]], part.origin_A)


def test_a_class_copied_over_another() -> None:
    half = new_half(1, np.ones((1, 5)), np.array([[0.2, 0.4], [0.1, 0.1], [0.1, 0.1]]), 10.0)
    half.tau2[0] = 7.0
    found = half.with_copy(0, 2)
    # 0.6, 0.2 and 0.6 of 1.4
    np.testing.assert_allclose(found.class_prior, np.array([0.6, 0.2, 0.6]) / 1.4)
    assert (found.tau2[2] == 7.0).all()
    assert not half.tau2[2].any()
