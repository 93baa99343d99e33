"""An expectation step done in two parts gives the sums and poses of one done at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpiapp.config.refine import RefineConfig
from mpiapp.engine import partial
from mpiapp.engine.iteration import Share
from mpiapp.engine.state import Schedule
from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.outputs import OutputNames
from mpiapp.model.particles import ParticleData, Poses
from mpiapp.model.sums import WeightedSums
from mpiapp.parallel.serial import SerialTeam

N = 20
half_of = np.where(np.arange(N) % 3 == 0, 1, 2).astype(np.int8)
BAD = 7


def make_shares() -> dict[int, Share]:
    ids = np.arange(N)
    data = ParticleData(ids, ids, ids, np.zeros((N, 8)), ids, ids)
    rows = {h: np.flatnonzero(half_of == h + 1) for h in (0, 1)}
    return {h: Share(r, data.take(r), Poses.zeros(N).take(r)) for h, r in rows.items()}


class Step:
    """Stands for an expectation step: sums of squares of particle numbers, until so many particles are done."""

    def __init__(self, limit: int = N) -> None:
        self.limit = limit
        self.seen: list[int] = []

    def __call__(self, shares: dict[int, Share]) -> tuple[partial.Sums, partial.Bad]:
        sums, bad = {}, {}
        for h, share in shares.items():
            sums[h] = WeightedSums.zeros((1, 3, 3, 2, 3), 1, 2, 1, 1, 3)
            bad[h] = np.zeros(share.rows.size, bool)
            new = Poses.zeros(share.rows.size)
            for i, number in enumerate(share.data.particle_id):
                if len(self.seen) >= self.limit:
                    break
                self.seen.append(int(number))
                bad[h][i] = number == BAD
                new.rot_deg[i], new.n_significant[i] = number + 0.5, 0 if number == BAD else 3
                for array in sums[h].arrays():
                    array += float(number) ** 2
            share.poses = new
        return sums, bad


def schedule() -> Schedule:
    return Schedule(2, 6.0, 2.0, iteration=4, perturbation=0.123456789, sigma_deg=None)


def config(tmp_path: Path, **more: object) -> RefineConfig:
    return RefineConfig.from_options({"i": "a.star", "o": str(tmp_path / "run"), "ref": "r.mrc", **more})


@pytest.mark.parametrize("limits", [(5, N), (0, N), (3, 9, N), (N, N)])
def test_parts_add_up_to_the_whole(tmp_path: Path, limits: tuple[int, ...]) -> None:
    team, names, options = SerialTeam(2), OutputNames(str(tmp_path / "run")), config(tmp_path)
    team.assign([int((half_of == h).sum()) for h in (1, 2)])
    whole = make_shares()
    expected, bad = Step()(whole)

    kept, seen = None, []
    for limit in limits:
        shares, step = make_shares(), Step(limit)
        assert partial.remaining(team, kept, shares) == N - len(seen)
        sums, marks = partial.expectation(team, kept, shares, step)
        seen += step.seen
        done = partial.keep(team, names, options, schedule(), half_of, shares, sums, marks)
        assert done == len(seen)
        kept = load_checkpoint(names.partial_checkpoint(4))[0]
        assert partial.is_usable(kept, schedule(), options)

    assert sorted(seen) == list(range(N))
    for h in (0, 1):
        for mine, theirs in zip(sums[h].arrays(), expected[h].arrays(), strict=True):
            assert np.allclose(mine, theirs, rtol=1e-12)
        assert np.array_equal(marks[h], bad[h])
        good = ~bad[h]
        assert np.array_equal(shares[h].poses.rot_deg[good], whole[h].poses.rot_deg[good])


def test_other_decisions_or_options_make_it_useless(tmp_path: Path) -> None:
    team, names, options = SerialTeam(2), OutputNames(str(tmp_path / "run")), config(tmp_path)
    team.assign([int((half_of == h).sum()) for h in (1, 2)])
    shares = make_shares()
    partial.keep(team, names, options, schedule(), half_of, shares, *Step(4)(shares))
    kept = load_checkpoint(names.partial_checkpoint(4))[0]
    other = schedule()
    other.perturbation += 1e-12
    assert not partial.is_usable(kept, other, options)
    assert not partial.is_usable(kept, schedule(), config(tmp_path, tau2_fudge=2))
    computing = config(tmp_path, j=7, max_hours=3, o="elsewhere/run", auto_iter_max=9)
    assert partial.is_usable(kept, schedule(), computing)
