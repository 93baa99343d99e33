"""Memory of the device that ends outside batches: the step routes down, or one message says what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gpu_case import relative
from kernel_case import Case, make_case, make_search, optics_model

from mpiapp.errors import DeviceError
from mpiapp.model.search import Search

SEARCHES = {"global": make_search(), "local": make_search(sigma_deg=8.0)}


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case([optics_model()])


def capped(case: Case, search: Search, limit: int) -> tuple[np.ndarray, int]:
    """Sums of a step with no more than a limit in CuPy's pool; bytes of the images that are still kept."""
    import cupy

    from mpiapp.backend.gpu import GpuBackend

    backend, pool = GpuBackend(0, "half"), cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=limit)
    try:
        sums, _, _ = backend.expectation(
            case.setup, case.model, search, case.data, case.poses, case.read, lambda n: False
        )
        return sums.grid[0].get(), backend.cache.used
    finally:
        pool.set_limit(size=0)


@pytest.mark.parametrize("name", list(SEARCHES))
def test_a_step_fits_or_says_why(case: Case, name: str) -> None:
    """From plenty of memory down to none: the same sums, then less of them kept, then one clear message."""
    whole, cache = capped(case, SEARCHES[name], 1 << 30)
    assert cache > 0
    outcomes, messages = [], []
    for limit in np.geomspace(64 << 20, 256 << 10, 17).astype(int):
        try:
            grid, _ = capped(case, SEARCHES[name], int(limit))
        except DeviceError as fault:
            messages.append(str(fault))
            outcomes.append(False)
        else:
            assert relative(grid, whole) < 1e-5
            outcomes.append(True)
    assert outcomes[0]
    assert not outcomes[-1]
    assert all("GPU memory does not suffice for" in m and "mpiapp plan" in m for m in messages), messages


def test_images_are_given_up_for_a_map(case: Case) -> None:
    import cupy

    from mpiapp.backend.gpu import GpuBackend

    backend, pool = GpuBackend(0, "half"), cupy.get_default_memory_pool()
    backend.cache.reserve(512, np.arange(64))  # 64 MiB of images
    held = pool.used_bytes()
    pool.set_limit(size=held + (8 << 20))
    try:
        made = backend.within_memory("a large array", lambda: cupy.ones(4 << 20, np.float32))
        assert float(made.sum()) == 4 << 20
        assert backend.cache.used == 0
        with pytest.raises(
            DeviceError, match="GPU memory does not suffice for too much: it takes about 9 GB"
        ):
            backend.within_memory("too much", lambda: cupy.ones(1 << 30, np.float32), 9 * 10**9)
    finally:
        pool.set_limit(size=0)


def refuse(size: int) -> None:
    """An allocator without any memory."""
    from cupy.cuda.memory import OutOfMemoryError

    raise OutOfMemoryError(size, 0, 0)


@pytest.mark.parametrize("work", ["slices", "to_device", "symmetrise"])
def test_other_work_says_why(work: str) -> None:
    import cupy

    from mpiapp.backend.gpu import GpuBackend
    from mpiapp.model.symmetry import point_group

    backend = GpuBackend(0, "half")
    radius, one = 30, np.ones(2000, np.float32)
    volume = cupy.ones((61, 61, 31), np.complex64)
    sums = cupy.ones((61, 61, 31, 4), np.float32)
    calls: dict[str, Callable[[], object]] = {
        "slices": lambda: backend.slices(volume, radius, 2.0, np.tile(np.eye(3), (500, 1, 1)), one, one),
        "to_device": lambda: backend.to_device(np.ones(1 << 20)),
        "symmetrise": lambda: backend.symmetrise(sums, point_group("D2"), 2.0),
    }
    calls[work]()
    allocator = cupy.cuda.get_allocator()
    cupy.cuda.set_allocator(refuse)  # a limit of the pool would leave what earlier tests have freed
    try:
        with pytest.raises(DeviceError, match="GPU memory does not suffice for"):
            calls[work]()
    finally:
        cupy.cuda.set_allocator(allocator)
