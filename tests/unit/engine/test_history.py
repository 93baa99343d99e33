"""The history of a run stays a table when columns come and go: a device in some iterations only."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpiapp.backend.base import ImagingSetup
from mpiapp.engine.messages import record
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.model.particles import Poses
from mpiapp.model.symmetry import point_group


def test_share_of_a_device_that_is_not_always_there() -> None:
    half = HalfState(
        np.ones((1, 21)), np.ones(3), np.ones((1, 48)), np.zeros((1, 2)), *np.ones((4, 1, 21)), np.ones(4),
        np.ones((1, 2)),
    )  # fmt: skip
    volume, none = np.zeros((1, 40, 40, 40), np.float32), np.zeros((0, 0, 0), np.float32)
    setup = ImagingSetup(40, 3.0, 2.0, 90.0, 5.0, True, [], 1, point_group("C1"), 1)
    schedule = Schedule(2, 3.0, 1.0, iteration=1)
    state = RunState(schedule, [half], [volume], Poses.zeros(5), np.ones(5, np.int8), np.zeros(21), 1, none)
    for busy in (None, 0.75, 0.5, None):
        record(state, setup, 1.0, 0.1, {} if busy is None else {"device_busy": busy})
    assert {len(column) for column in state.history.values()} == {4}
    found = state.history["device_busy"]
    assert [math.isnan(value) for value in found] == [True, False, False, True]
    assert found[1:3] == [pytest.approx(0.75), pytest.approx(0.5)]
