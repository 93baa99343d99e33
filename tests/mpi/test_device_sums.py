"""Sums of device arrays by each way, and the choice of the way. Devices and NCCL are fakes, MPI is not."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mpiapp.errors import ParallelError
from mpiapp.parallel.base import Team
from mpiapp.parallel.devices import Binding, Device, Placement
from mpiapp.parallel.nccl import DEVICE_MPI, DeviceSums, make_device_sums

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(60)]

pytest.importorskip("mpi4py")
import fake_cupy as fake  # noqa: E402  (imports mpi4py)

KINDS = ("float32", "float64", "complex64", "int64")


def placement(size: int, shared: bool = False) -> Placement:
    workers = range(1, size) if size > 1 else [0]
    cards = [Device(0, "card", "GPU-0" if shared else f"GPU-{rank}", 10**10) for rank in workers]
    return Placement(
        tuple(
            Binding(rank, "n1", card, len(cards) if shared else 1)
            for rank, card in zip(workers, cards, strict=True)
        ),
        (),
    )


def arrays_of(rank: int) -> list[Any]:
    """Whole numbers, so that sums are exact in any order; one array is empty."""
    numbers = np.arange(24).reshape(2, 3, 4) + 100 * rank
    return [*(fake.asarray(numbers.astype(kind)) for kind in KINDS), fake.asarray(np.zeros((0, 2)))]


def expected(members: list[int]) -> list[Any]:
    return [sum(np.asarray(arrays_of(rank)[i]) for rank in members) for i in range(len(KINDS) + 1)]


def check_sums(team: Team, sums: DeviceSums, s: int, members: list[int]) -> None:
    mine = arrays_of(team.rank)
    total = sums.allreduce(mine)
    if team.rank not in members:
        assert total is None
    else:
        assert total is not None
        for got, want, given in zip(total, expected(members), mine, strict=True):
            assert got is given
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    mine = arrays_of(team.rank)
    total = sums.reduce(mine)
    assert (total is not None) == team.is_root(s)
    wanted = expected(members) if team.is_root(s) else arrays_of(team.rank)
    for got, want in zip(mine, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def made(
    team: Team,
    nccl: Any,
    environ: Mapping[str, str] | None = None,
    *,
    shared: bool = False,
    piece_bytes: int = 1 << 20,
) -> tuple[DeviceSums, Any]:
    cupy = fake.FakeCupy()
    sums = make_device_sums(
        team, cupy, nccl, placement(team.size, shared), environ or {}, piece_bytes=piece_bytes
    )
    return sums[0], cupy


@pytest.mark.parametrize("size", [3, 4])
def test_nccl_adds_up_in_one_group(make_team: Callable[..., Team], size: int) -> None:
    team, members = make_team(size, 1), list(range(1, size))
    nccl = fake.FakeNccl(members)
    sums, cupy = made(team, nccl)
    assert sums.name == "NCCL"
    nccl.calls.clear()
    check_sums(team, sums, 0, members)
    one = ["start", *["sum"] * len(KINDS), "end"]
    assert nccl.calls == (one * 2 if team.rank in members else [])
    assert cupy.waits == 0


def test_one_worker_a_set_needs_no_sum(make_team: Callable[..., Team]) -> None:
    team = make_team(3, 2)
    nccl = fake.FakeNccl([])
    sums = make_device_sums(team, fake.FakeCupy(), nccl, placement(3), {})
    for s in (0, 1):
        assert sums[s].name == "not needed, one worker a set"
        check_sums(team, sums[s], s, [s + 1])
    assert nccl.calls == []


@pytest.mark.parametrize("piece_bytes", [16, 1 << 20])
def test_shared_devices_add_up_through_the_host(make_team: Callable[..., Team], piece_bytes: int) -> None:
    team, members = make_team(3, 1), [1, 2]
    sums, cupy = made(team, fake.FakeNccl(members), shared=True, piece_bytes=piece_bytes)
    assert sums.name == "host memory (no NCCL: workers share devices)"
    check_sums(team, sums, 0, members)
    assert cupy.pinned == (piece_bytes if team.rank in members else 0)  # one buffer, whatever the arrays


def test_mpi_reads_device_memory_only_where_asked(make_team: Callable[..., Team]) -> None:
    team, members = make_team(3, 1), [1, 2]
    sums, cupy = made(team, None, {DEVICE_MPI: "1"})
    assert sums.name == (
        "MPI on device memory (no NCCL at rank 1, 2: pip install nvidia-nccl-cu13 (or -cu12))"
    )
    check_sums(team, sums, 0, members)
    assert cupy.pinned == 0
    asked_by_one = {DEVICE_MPI: "1" if team.rank == 1 else "0"}
    assert made(team, None, asked_by_one)[0].name.startswith("host memory (no NCCL at rank 1, 2")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"wrong": True}, r"NCCL failed, rank 1: \[ 6\. 11\. 16\. 21\.\] instead of \[ 5\. 10\. 15\. 20\.\]"),
        ({"fails": "id"}, r"NCCL failed, rank 1: no unique id \(NCCL_ERROR_SYSTEM_ERROR: no network\)"),
    ],
)
def test_an_nccl_that_fails_is_given_up_by_all(
    make_team: Callable[..., Team], options: Any, reason: str
) -> None:
    team = make_team(3, 1)
    sums, _ = made(team, fake.FakeNccl([1, 2], **options))
    assert re.fullmatch(rf"host memory \({reason}\)", sums.name), sums.name
    check_sums(team, sums, 0, [1, 2])


def test_different_versions_of_nccl_are_not_mixed(make_team: Callable[..., Team]) -> None:
    team = make_team(3, 1)
    sums, _ = made(team, fake.FakeNccl([1, 2], version=22700 + team.rank))
    assert "its versions differ between ranks, [22701, 22702]" in sums.name


def test_the_way_is_said_once(make_team: Callable[..., Team], caplog: pytest.LogCaptureFixture) -> None:
    team = make_team(3, 1)
    with caplog.at_level(logging.INFO, "mpiapp"):
        made(team, fake.FakeNccl([1, 2]))
    assert caplog.messages == ([" Sums over devices: NCCL"] if team.is_leader else [])


def test_arrays_that_differ_are_refused(make_team: Callable[..., Team]) -> None:
    team = make_team(3, 1)
    sums, _ = made(team, fake.FakeNccl([1, 2]), shared=True)
    if team.rank == 2:
        with pytest.raises(ParallelError, match="rank 2 adds up other arrays than the root of set 0"):
            sums._check([fake.asarray(np.zeros(3))])
    elif team.rank == 1:
        sums._check([fake.asarray(np.zeros(4))])
    team.barrier()


def test_strided_arrays_are_refused(make_team: Callable[..., Team]) -> None:
    team = make_team(3, 1)
    sums, _ = made(team, fake.FakeNccl([1, 2]))
    if not team.is_leader:
        with pytest.raises(ValueError, match="contiguous"):
            sums.allreduce([fake.asarray(np.zeros((4, 4)))[:, ::2]])
    team.barrier()
