"""Which rank works on which GPU: from RELION's --gpu syntax and the devices that each rank sees.

A rank may see all devices of its machine, or its own one only (SLURM's binding, CUDA_VISIBLE_DEVICES), each time
counted from 0. So the index says little and the UUID tells whether two ranks share a device. Nothing here touches a
device; the facts come from :mod:`mpiapp.backend.device_query`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mpiapp.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from .base import Team

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Device:
    """A GPU as one rank sees it."""

    index: int  # among those visible to the rank
    name: str
    uuid: str
    memory: int  # bytes in all


class Facts(NamedTuple):
    """What a rank knows of itself."""

    rank: int
    host: str
    local_worker: int  # its number among the workers of its machine
    works: bool  # False for a leader with workers
    devices: tuple[Device, ...]  # those it sees


class Binding(NamedTuple):
    """A worker and its device."""

    rank: int
    host: str
    device: Device
    sharers: int  # workers on this device, this one included
    share: int = 0  # bytes that this worker may use; 0 while not measured


class Placement(NamedTuple):
    """Result of `bind` and `bind_team`."""

    bindings: tuple[Binding, ...]  # one for each worker, by rank
    warnings: tuple[str, ...]  # for the log

    def of(self, rank: int) -> Binding | None:
        """The binding of a rank; None for a leader with workers."""
        return next((binding for binding in self.bindings if binding.rank == rank), None)

    def apart(self, ranks: Iterable[int]) -> bool:
        """Whether each of these workers has a device that no other worker uses."""
        return all((mine := self.of(rank)) is not None and mine.sharers == 1 for rank in ranks)


def parse_gpu(text: str) -> Groups:
    """Read the value of --gpu.

    Parameters
    ----------
    text
        "" is automatic. ":" separates ranks and "," the devices that one rank may use: "0", "0:1:2:3", "0,1:2,3".

    Returns
    -------
    tuple of tuple of int
        Devices of each rank; empty for automatic.

    Raises
    ------
    ConfigError
        The text is something else.
    """
    text = text.strip().strip("\"'")
    if not text:
        return ()
    if not re.fullmatch(r"\d+(,\d+)*(:\d+(,\d+)*)*", text):
        raise ConfigError(
            f'--gpu {text}: expected device numbers with ":" between ranks and "," between the devices of one rank, '
            "e.g. 0, 0:1:2:3 or 0,1:2,3; leave the value out to have devices chosen"
        )
    return tuple(tuple(int(number) for number in part.split(",")) for part in text.split(":"))


def bind(text: str, facts: Sequence[Facts]) -> Placement:
    """Give each worker a device.

    A list with a place for each worker is read in the order of ranks, as RELION does; a shorter one is repeated over
    the workers of each machine. Where a worker may choose, it takes the device that the fewest workers before it use.

    Parameters
    ----------
    text
        Value of --gpu.
    facts
        Those of all ranks, by rank.

    Raises
    ------
    ConfigError
        A device number that the rank does not see; the devices that it sees are named.
    DeviceError
        A worker sees no device at all.
    """
    groups = parse_gpu(text)
    workers = [fact for fact in facts if fact.works]
    allowed: list[list[Device]] = []
    for number, fact in enumerate(workers):
        place = number if len(groups) == len(workers) else fact.local_worker
        allowed.append(_allowed(text, fact, groups[place % len(groups)] if groups else ()))
    load: Counter[str] = Counter()
    chosen: list[Device] = []
    for devices in allowed:
        chosen.append(min(devices, key=lambda device: load[device.uuid]))
        load[chosen[-1].uuid] += 1
    bindings = tuple(
        Binding(fact.rank, fact.host, device, load[device.uuid])
        for fact, device in zip(workers, chosen, strict=True)
    )
    return Placement(bindings, (*_shared(bindings, workers), *_idle(bindings, allowed)))


def bind_team(
    team: Team,
    text: str,
    devices: Sequence[Device],
    free_memory: Callable[[Device], int],
    leave_free: int = 0,
) -> Placement:
    """`bind` over a team, with the memory of shared devices split fairly (all processes).

    Parameters
    ----------
    devices
        Those that this rank sees; none for a leader with workers.
    free_memory
        Bytes free on a device now; called once for the device of this rank, after every rank opened its own.
    leave_free
        Bytes of each device that nobody shall use.

    Raises
    ------
    ConfigError, DeviceError
        As `bind`; at every rank.
    """
    works = team.size == 1 or not team.is_leader
    mine = Facts(team.rank, team.host, team.local_worker, works, tuple(devices))
    placement = bind(text, team.allgather(mine))
    own = placement.of(team.rank)
    if own is not None:
        free_memory(own.device)  # opens the device, which takes memory too
    team.barrier()
    free = team.allgather(free_memory(own.device) if own is not None else 0)
    return Placement(split_memory(placement.bindings, free, leave_free), placement.warnings)


def split_memory(
    bindings: Sequence[Binding], free: Sequence[int], leave_free: int = 0
) -> tuple[Binding, ...]:
    """Divide what is free on each device equally among its workers.

    Parameters
    ----------
    free
        Bytes that each rank found free on its device, by rank.

    Raises
    ------
    DeviceError
        Nothing is left on a device.
    """
    least: dict[str, int] = {}
    for binding in bindings:
        uuid = binding.device.uuid
        least[uuid] = min(least.get(uuid, free[binding.rank]), free[binding.rank])
    for binding in bindings:
        if least[binding.device.uuid] <= leave_free:
            raise DeviceError(
                f"{_describe(binding.device)} on {binding.host}: {least[binding.device.uuid] / 1e9:.1f} GB free, and "
                f"{leave_free / 1e9:.1f} GB are to be left free; end other programs on it, give --gpu another "
                "device, or lower --free_gpu_memory"
            )
    return tuple(b._replace(share=(least[b.device.uuid] - leave_free) // b.sharers) for b in bindings)


def table(bindings: Sequence[Binding]) -> list[str]:
    """The placement as lines for the log: rank, host, device index, name, UUID, memory, share."""
    heading = ("rank", "host", "device", "name", "UUID", "memory", "share")
    rows = [heading]
    for b in bindings:
        share = f"{b.share / 1e9:.1f} GB" if b.share else "-"
        shared = f" (1 of {b.sharers})" if b.sharers > 1 else ""
        memory = f"{b.device.memory / 1e9:.1f} GB"
        rows.append(
            (str(b.rank), b.host, str(b.device.index), b.device.name, b.device.uuid, memory, share + shared)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _allowed(text: str, fact: Facts, group: Sequence[int]) -> list[Device]:
    """Devices that a worker may use."""
    where = f"rank {fact.rank} on {fact.host}"
    if not fact.devices:
        raise DeviceError(
            f"--gpu: {where} sees no CUDA device. `nvidia-smi` there shows whether the driver works, and "
            "CUDA_VISIBLE_DEVICES or the scheduler may hide devices; without --gpu the job runs on processors"
        )
    by_index = {device.index: device for device in fact.devices}
    for number in group:
        if number not in by_index:
            seen = "; ".join(_describe(device) for device in fact.devices)
            hidden = " A scheduler that shows each rank its own device only needs --gpu without a value." * (
                len(fact.devices) == 1
            )
            raise ConfigError(f"--gpu {text}: {where} has no device {number}. It sees {seen}.{hidden}")
    return [by_index[number] for number in group] or list(fact.devices)


def _describe(device: Device) -> str:
    return f"device {device.index} ({device.name}, {device.uuid})"


def _shared(bindings: Sequence[Binding], workers: Sequence[Facts]) -> list[str]:
    """A warning for each machine whose devices are used by several workers."""
    lines = []
    for host in dict.fromkeys(b.host for b in bindings if b.sharers > 1):
        here = [b for b in bindings if b.host == host]
        used = len({b.device.uuid for b in here})
        visible = len({device.uuid for fact in workers if fact.host == host for device in fact.devices})
        remedy = (
            f"name more of its {visible} devices after --gpu"
            if visible > used
            else f"start {used} workers there, one a device"
        )
        lines.append(
            f"{len(here)} workers on {host} share {used} device(s): each gets part of the memory, and they wait for "
            f"one another; {remedy}"
        )
    return lines


def _idle(bindings: Sequence[Binding], allowed: Sequence[Sequence[Device]]) -> list[str]:
    """A line for each machine with devices that its workers may use and none does."""
    used = {b.device.uuid for b in bindings}
    idle: dict[str, dict[str, Device]] = {}
    for binding, devices in zip(bindings, allowed, strict=True):
        spare = {device.uuid: device for device in devices if device.uuid not in used}
        idle.setdefault(binding.host, {}).update(spare)
    return [
        f"a worker computes on one device; unused on {host}: {', '.join(map(_describe, spare.values()))}; start more "
        "workers (mpirun -n) to use all"
        for host, spare in idle.items()
        if spare
    ]
