"""An iteration that a signal or the time limit cut short: what is done of it is kept and taken up again.

The weighted sums of an expectation step are additive, so those of the particles that are done, with their
poses, are all that has to be kept. The decisions before the step are made anew from the checkpoint, and the
kept part is used only if they come out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.common import COMPUTING, RUNNING, CommonConfig
from mpiapp.config.option import options_of
from mpiapp.engine.iteration import Share
from mpiapp.engine.state import Schedule
from mpiapp.io.outputs import OutputNames
from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.particles import Poses
from mpiapp.model.sums import N_SUMS, WeightedSums
from mpiapp.parallel.base import Team

F64 = NDArray[np.float64]
Sums = dict[int, WeightedSums]
Marks = NDArray[np.bool_]
Bad = dict[int, Marks]
Expect = Callable[[dict[int, Share]], tuple[Sums, Bad]]

WIDTH = 10  # columns of Poses.pack()


def is_usable(partial: Mapping[str, Any], schedule: Schedule, config: CommonConfig) -> bool:
    """Whether what was kept belongs to this iteration under these options (leader)."""
    same_options = partial["options"] == _shaping_options(config)
    return bool(same_options and partial["schedule"] == asdict(schedule))


def remaining(
    team: Team, partial: Mapping[str, Any] | None, shares: dict[int, Share], batch: Marks | None = None
) -> int:
    """Number of this rank's particles that are still to be done (all ranks).

    Parameters
    ----------
    batch : which of all particles the iteration looks at; None for all
    """
    done = team.bcast_array(None if partial is None else partial["done"])
    left = 0
    for share in shares.values():
        todo = np.ones(share.rows.size, bool) if batch is None else batch[share.rows]
        left += int((todo if done is None else todo & ~done[share.rows]).sum())
    return left


def expectation(
    team: Team, partial: Mapping[str, Any] | None, shares: dict[int, Share], expect: Expect
) -> tuple[Sums, Bad]:
    """Run an expectation step on the particles that are not done yet, and add what was kept (all ranks).

    Parameters
    ----------
    partial : what was kept, at the leader; None when there is nothing
    shares : particles of this rank; their poses are replaced
    expect : runs the step on such shares, replaces their poses, and returns sums and marks of bad images
    """
    if not team.any(partial is not None):
        return expect(shares)
    done = team.bcast_array(None if partial is None else partial["done"])
    bad = team.bcast_array(None if partial is None else partial["bad"])
    poses = team.bcast_array(None if partial is None else partial["poses"])
    assert done is not None
    assert bad is not None
    assert poses is not None
    left = {h: np.flatnonzero(~done[share.rows]) for h, share in shares.items()}
    todo = {
        h: Share(share.rows[left[h]], share.data.take(left[h]), share.poses.take(left[h]))
        for h, share in shares.items()
        if left[h].size
    }
    sums, found = expect(todo)
    marks: Bad = {}
    for h, share in shares.items():
        share.poses = Poses.unpack(poses[share.rows])
        marks[h] = bad[share.rows].astype(bool)
        if h in todo:
            share.poses.put(left[h], todo[h].poses)
            marks[h][left[h]] = found[h]
    for h in range(team.n_sets):
        _add_kept(team, h, partial, sums)
    return sums, marks


def _add_kept(team: Team, h: int, partial: Mapping[str, Any] | None, sums: Sums) -> None:
    """Sums that were kept, to those of the first worker of a half; ranks that did nothing get zeros."""
    kept = None if partial is None else list(partial["sums"][str(h)].values())
    shapes = team.bcast(None if kept is None else [a.shape for a in kept])
    if h in team.sets and h not in sums:
        sums[h] = WeightedSums.from_arrays([np.zeros(shape) for shape in shapes])
    for k in range(len(shapes)):
        array = team.to_root(h, None if kept is None else kept[k])
        if array is not None and team.is_root(h):
            target = sums[h].arrays()[k]
            target += module_of(target).xp.asarray(array)


def keep(
    team: Team,
    names: OutputNames,
    config: CommonConfig,
    schedule: Schedule,
    half: NDArray[np.int8] | None,
    shares: dict[int, Share],
    sums: Sums,
    bad: Bad,
    batch: Marks | None = None,
) -> int:
    """Write what is done of the iteration beside its checkpoint (all ranks); number of particles done.

    Parameters
    ----------
    half : half of each particle (leader)
    shares, sums, bad : as the expectation step left them; a particle without significant states is not done
    batch : which of all particles the iteration looks at; None for all
    """
    from mpiapp.io.checkpoint import save_checkpoint

    n = 0 if half is None else len(half)
    poses, done, marks = np.zeros((n, WIDTH)), np.zeros(n, bool), np.zeros(n, bool)
    kept: dict[str, dict[str, F64]] = {}
    for h in range(team.n_sets):
        rows = None
        if h in shares:
            is_done = bad[h] | (shares[h].poses.n_significant > 0)
            rows = np.column_stack([shares[h].poses.pack(), is_done, bad[h]])
        gathered = team.gather_rows(h, rows)
        reduced = team.reduce_set(h, [to_host(a) for a in sums[h].arrays()] if h in sums else [])
        at_root = reduced if team.is_root(h) else None
        arrays = [team.to_leader(h, at_root[k] if at_root else None) for k in range(N_SUMS)]
        if half is not None and gathered is not None:
            mine = half == h + 1
            poses[mine], done[mine], marks[mine] = (
                gathered[:, :WIDTH],
                gathered[:, -2] > 0,
                gathered[:, -1] > 0,
            )
            kept[str(h)] = {str(k): a for k, a in enumerate(arrays) if a is not None}
    if half is None:
        return 0
    if batch is not None:
        done &= batch
    stored = {
        "schedule": asdict(schedule),
        "options": _shaping_options(config),
        "poses": poses,
        "done": done,
        "bad": marks,
        "sums": kept,
    }
    save_checkpoint(names.partial_checkpoint(schedule.iteration), stored, {"config": config.to_dict()})
    return int(done.sum())


def _shaping_options(config: CommonConfig) -> dict[str, Any]:
    """Options that shape the result of an iteration."""
    free = {spec.name for spec in options_of(type(config)) if spec.panel in (COMPUTING, RUNNING)}
    options = config.to_dict()
    free |= {"output_root", "auto_iter_max"}
    if not options.get("grad"):  # whose schedule follows from the number of iterations
        free.add("n_iter")
    return {k: v for k, v in options.items() if k not in free}
