"""What a run with --gpu will do on its devices, told when it starts (engine.md 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpiapp.backend.base import ImagingSetup
from mpiapp.backend.map_memory import reconstruction_items
from mpiapp.backend.memory import NUMBER_BYTES, cache_bytes, image_bytes, total
from mpiapp.backend.step_plan import load_of, plan_step
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.config.common import CommonConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.class_schedule import class_search
from mpiapp.engine.device_table import Column, table
from mpiapp.engine.iteration import Share, make_search
from mpiapp.engine.memory_plan import final_order
from mpiapp.engine.schedule import Policy, image_size, local_sigma_deg
from mpiapp.engine.settings import class_options, class_policy, class_rules, make_options, make_policy
from mpiapp.engine.state import Schedule
from mpiapp.model.search import Search

# of bytes, in which free memory of devices that are alike differs
ALIKE = 1 << 28


class Work(NamedTuple):
    """What a process has to do."""

    images: dict[int, int]  # box: particles of all its halves
    step: int  # particles of its larger half
    halves: int


def work_of(shares: Mapping[int, Share], setup: ImagingSetup) -> Work:
    """What a process with some shares of the particles has to do."""
    box_of = np.array([optics.box for optics in setup.optics])
    boxes = [box_of[share.data.optics] for share in shares.values()]
    box, n = np.unique(np.concatenate(boxes) if boxes else box_of[:0], return_counts=True)
    images = dict(zip(box.tolist(), n.tolist(), strict=True))
    return Work(images, max((b.size for b in boxes), default=0), len(boxes))


def device_lines(
    config: CommonConfig,
    setup: ImagingSetup,
    schedule: Schedule,
    n_class: int,
    work: Sequence[Work],
    memory: Mapping[int, int],
) -> list[str]:
    """The table of this sampling and of the final iteration, for each distinct share of a device.

    Parameters
    ----------
    work : of each rank.
    memory : bytes of its device that each rank which works may use.
    """
    found = searches(config, setup, schedule)
    columns = []
    for rank in _distinct(work, memory):
        columns += _columns(config, setup, found, n_class, work[rank], memory[rank])
    return table(" On a device, MiB (plan)", columns)


def searches(config: CommonConfig, setup: ImagingSetup, schedule: Schedule) -> list[tuple[str, Search]]:
    """The search of the next iteration, and that of the last or of one at full size, as far as it is known ahead."""
    if isinstance(config, RefineConfig):
        policy, options = make_policy(config, setup), make_options(config, 1)
        steps = {"this sampling": _now(policy, schedule), "final iteration": _final(policy, schedule)}
        return [(name, make_search(policy, options, s, config.sym, False)) for name, s in steps.items()]
    assert isinstance(config, Class2dConfig | Class3dConfig)
    policy, options, rules = class_policy(config, setup), class_options(config, 1), class_rules(config, setup)
    steps = {
        "this sampling": _now(policy, schedule),
        "at full size": replace(schedule, current_size=policy.box),
    }
    return [(name, class_search(policy, options, rules, s)) for name, s in steps.items()]


def _now(policy: Policy, schedule: Schedule) -> Schedule:
    return replace(schedule, current_size=image_size(policy, schedule))


def _final(policy: Policy, schedule: Schedule) -> Schedule:
    """The last iteration where sampling follows the resolution up to Nyquist; offsets as now."""
    order = final_order(policy, schedule.healpix_order, schedule.oversampling)
    last = replace(schedule, healpix_order=order, current_size=policy.box)
    if order > schedule.healpix_order and order >= policy.auto_local_healpix_order:
        last.sigma_deg = local_sigma_deg(policy, last)
    return last


def _distinct(work: Sequence[Work], memory: Mapping[int, int]) -> list[int]:
    """Of the ranks with about as much memory, the one with most particles, in order of memory."""
    by_share: dict[int, list[int]] = {}
    for rank, share in memory.items():
        by_share.setdefault(round(share / ALIKE), []).append(rank)
    return [max(ranks, key=lambda rank: work[rank].step) for _, ranks in sorted(by_share.items())]


def _columns(
    config: CommonConfig,
    setup: ImagingSetup,
    found: Sequence[tuple[str, Search]],
    n_class: int,
    work: Work,
    memory: int,
) -> list[Column]:
    cache = cache_bytes(work.images, memory)
    images = sum(n * image_bytes(box) for box, n in work.images.items())
    columns = []
    for name, search in found:
        load = load_of(setup, search, n_class, work.step, NUMBER_BYTES[config.precision])
        columns.append(Column(name, plan_step(load, memory, cache), images))
    if not found[-1][1].planar:
        symmetric = setup.group.order > 1
        items = reconstruction_items(
            setup.box, setup.padding, n_class, halves=work.halves, symmetric=symmetric, memory=memory
        )
        columns[-1] = replace(columns[-1], maps=total(items))
    return columns
