"""Sums over real devices: NCCL where there are two of them, host memory where ranks share one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpiapp.parallel.base import Team

pytestmark = [pytest.mark.mpi, pytest.mark.gpu, pytest.mark.timeout(120)]

KINDS = ("float32", "float64", "complex64", "int64")


@pytest.mark.parametrize("text", ["", "0"])
def test_sums_of_device_arrays(make_team: Callable[..., Team], text: str) -> None:
    cupy = pytest.importorskip("cupy")
    from mpiapp.backend.device_query import free_memory, load_nccl, visible_devices
    from mpiapp.parallel.devices import bind_team
    from mpiapp.parallel.nccl import make_device_sums

    team = make_team(3, 1)
    seen = visible_devices(cupy)
    if not seen:
        pytest.skip("no CUDA device")
    placement = bind_team(team, text, seen, lambda device: free_memory(cupy, device))
    mine = placement.of(team.rank)
    if mine is not None:
        cupy.cuda.Device(mine.device.index).use()
    nccl = load_nccl()
    sums = make_device_sums(team, cupy, nccl, placement, {}, piece_bytes=1 << 12)[0]
    apart = text == "" and len(seen) > 1
    assert sums.name == "NCCL" if apart and nccl is not None else sums.name.startswith("host memory")

    numbers = np.arange(3000).reshape(3, 1000)
    for everywhere in (True, False):
        arrays: list[Any] = []
        if mine is not None:
            arrays = [cupy.asarray((numbers * team.rank).astype(kind)) for kind in KINDS]
        total = (sums.allreduce if everywhere else sums.reduce)(arrays)
        assert (total is not None) == (team.rank > 0 if everywhere else team.rank == 1)
        for kind, array in zip(KINDS, total or [], strict=bool(total)):
            np.testing.assert_array_equal(array.get(), (numbers * 3).astype(kind))
