"""Which in-plane angles a local search looks at, against the distances themselves."""

from __future__ import annotations

import numpy as np
import pytest
from mpiapp.kernels.coarse import _mark_angles


@pytest.mark.parametrize("cutoff", [0.5, 5.6, 100.0, 400.0])
@pytest.mark.parametrize("first", [-1.3, 0.0, 2.9])
def test_no_angle_inside_a_window_is_missed_and_few_outside_are_marked(cutoff: float, first: float) -> None:
    rng = np.random.default_rng(3)
    step = 360 / 96
    psi = first + step * np.arange(96)
    centers = np.concatenate([[-180.0, 0.0, 179.9, 359.99], rng.uniform(-360, 720, 4)])
    for chosen in (centers, centers[:2], centers[2:3]):
        distance = np.abs((psi[:, None] - chosen + 180) % 360 - 180).min(axis=1)
        wanted = np.empty(96, bool)
        _mark_angles(chosen.astype(np.float32), psi.astype(np.float32), np.float32(cutoff), wanted)
        assert wanted[distance < cutoff].all()
        assert not wanted[distance > cutoff + 1.01 * step].any()
