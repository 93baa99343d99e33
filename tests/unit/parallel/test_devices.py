"""Ranks find their devices under every way of launching, and know whom they share them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mpiapp.errors import ConfigError, DeviceError
from mpiapp.parallel.devices import (
    Device,
    Facts,
    bind,
    bind_team,
    parse_gpu,
    split_memory,
    table,
)
from mpiapp.parallel.serial import SerialTeam

GB = 10**9


def card(index: int, uuid: str) -> Device:
    return Device(index, "NVIDIA H100 80GB HBM3", uuid, 80 * GB)


def cards(n: int, host: str = "n1") -> tuple[Device, ...]:
    """All devices of a machine."""
    return tuple(card(i, f"GPU-{host}-{i}") for i in range(n))


def world(per_host: dict[str, Sequence[tuple[Device, ...]]]) -> list[Facts]:
    """A leader on the first host, and on each host workers that see the given devices."""
    first = next(iter(per_host))
    facts = [Facts(0, first, 0, False, ())]
    for host, seen in per_host.items():
        facts += [Facts(len(facts) + k, host, k, True, devices) for k, devices in enumerate(seen)]
    return facts


def chosen(text: str, facts: list[Facts]) -> list[tuple[int, str, int]]:
    return [(b.rank, b.device.uuid, b.sharers) for b in bind(text, facts).bindings]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("", ()),
        ('""', ()),
        ("0", ((0,),)),
        ("0:1:2:3", ((0,), (1,), (2,), (3,))),
        ("0,1", ((0, 1),)),
        ("0,1:2,3", ((0, 1), (2, 3))),
        (" 12:3 ", ((12,), (3,))),
    ],
)
def test_the_syntaxes_of_relion(text: str, groups: Any) -> None:
    assert parse_gpu(text) == groups


@pytest.mark.parametrize("text", ["a", "-1", "0:", ":", "0,,1", "0;1", "0:1,", "1.5"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--gpu .*expected device numbers"):
        parse_gpu(text)


def test_automatic_takes_a_device_for_each_worker() -> None:
    facts = world({"n1": [cards(2)] * 2, "n2": [cards(2, "n2")] * 2})
    assert chosen("", facts) == [
        (1, "GPU-n1-0", 1),
        (2, "GPU-n1-1", 1),
        (3, "GPU-n2-0", 1),
        (4, "GPU-n2-1", 1),
    ]
    assert bind("", facts).warnings == ()


def test_ranks_that_see_their_own_device_only_do_not_share() -> None:
    own = [(card(0, f"GPU-n1-{k}"),) for k in range(3)]
    facts = world({"n1": own})
    assert chosen("", facts) == [(1, "GPU-n1-0", 1), (2, "GPU-n1-1", 1), (3, "GPU-n1-2", 1)]
    assert chosen("0", facts) == chosen("", facts)
    assert bind("0", facts).apart([1, 2, 3])


def test_ranks_bound_to_one_device_share_it_whatever_its_index() -> None:
    facts = world({"n1": [(card(0, "GPU-a"),), (card(0, "GPU-b"), card(1, "GPU-a")), (card(0, "GPU-b"),)]})
    placement = bind("", facts)
    assert [b.device.uuid for b in placement.bindings] == ["GPU-a", "GPU-b", "GPU-b"]
    assert [b.sharers for b in placement.bindings] == [1, 2, 2]
    assert placement.apart([1])
    assert not placement.apart([1, 2])
    assert "3 workers on n1 share 2 device(s)" in placement.warnings[0]


def test_a_short_list_is_repeated_over_the_workers_of_each_machine() -> None:
    facts = world({"n1": [cards(4)] * 3, "n2": [cards(4, "n2")] * 2})
    assert [uuid for _, uuid, _ in chosen("3:1", facts)] == [
        "GPU-n1-3",
        "GPU-n1-1",
        "GPU-n1-3",
        "GPU-n2-3",
        "GPU-n2-1",
    ]


def test_a_list_for_all_workers_goes_by_rank() -> None:
    facts = world({"n1": [cards(4)] * 2, "n2": [cards(4, "n2")] * 2})
    assert [uuid for _, uuid, _ in chosen("0:1:2:3", facts)] == [
        "GPU-n1-0",
        "GPU-n1-1",
        "GPU-n2-2",
        "GPU-n2-3",
    ]


def test_several_devices_for_one_rank_are_spread_over_those_who_may_use_them() -> None:
    facts = world({"n1": [cards(4)] * 4})
    assert [b.device.index for b in bind("0,1,2,3", facts).bindings] == [0, 1, 2, 3]
    placement = bind("0,1:2,3", world({"n1": [cards(4)] * 2}))
    assert [b.device.index for b in placement.bindings] == [0, 2]
    assert "unused on n1: device 1 (" in placement.warnings[0]
    assert "device 3 (" in placement.warnings[0]


def test_more_workers_than_devices_share_with_a_warning_and_equal_memory() -> None:
    facts = world({"n1": [cards(2)] * 4})
    placement = bind("", facts)
    assert [(b.device.index, b.sharers) for b in placement.bindings] == [(0, 2), (1, 2), (0, 2), (1, 2)]
    assert placement.warnings == (
        "4 workers on n1 share 2 device(s): each gets part of the memory, and they wait for one another; start 2 "
        "workers there, one a device",
    )
    shares = split_memory(placement.bindings, [0, 70 * GB, 80 * GB, 69 * GB, 78 * GB], leave_free=GB)
    assert [b.share for b in shares] == [34 * GB, 77 * GB // 2, 34 * GB, 77 * GB // 2]


def test_an_index_that_a_rank_does_not_see_names_those_it_sees() -> None:
    with pytest.raises(ConfigError) as caught:
        bind("0:7", world({"n1": [cards(2)] * 2}))
    assert "rank 2 on n1 has no device 7" in str(caught.value)
    assert "device 1 (NVIDIA H100 80GB HBM3, GPU-n1-1)" in str(caught.value)
    with pytest.raises(ConfigError, match="shows each rank its own device"):
        bind("0:1", world({"n1": [(card(0, "GPU-a"),), (card(0, "GPU-b"),)]}))


def test_a_worker_without_devices_is_an_error_of_devices() -> None:
    with pytest.raises(DeviceError, match="rank 2 on n1 sees no CUDA device"):
        bind("", world({"n1": [cards(1), ()]}))


def test_a_full_device_is_named() -> None:
    placement = bind("", world({"n1": [cards(1)]}))
    with pytest.raises(DeviceError, match=r"GPU-n1-0\) on n1: 0\.5 GB free, and 1\.0 GB are to be left free"):
        split_memory(placement.bindings, [0, GB // 2], leave_free=GB)


def test_one_process_takes_the_first_of_several_devices_and_says_so() -> None:
    asked: list[int] = []

    def free(device: Device) -> int:
        asked.append(device.index)
        return 60 * GB

    team = SerialTeam()
    placement = bind_team(team, "1,0", cards(2, team.host), free, leave_free=10 * GB)
    assert [(b.rank, b.device.index, b.share) for b in placement.bindings] == [(0, 1, 50 * GB)]
    assert set(asked) == {1}  # no other device is opened
    assert "unused on" in placement.warnings[0]
    assert "device 0" in placement.warnings[0]


def test_the_table_has_a_line_for_each_worker() -> None:
    placement = bind("", world({"n1": [cards(1)] * 2}))
    lines = table(split_memory(placement.bindings, [0, 60 * GB, 60 * GB]))
    assert lines[0].split() == ["rank", "host", "device", "name", "UUID", "memory", "share"]
    assert lines[1] == "  1     n1    0       NVIDIA H100 80GB HBM3  GPU-n1-0  80.0 GB  30.0 GB (1 of 2)"
    assert len(lines) == 3
