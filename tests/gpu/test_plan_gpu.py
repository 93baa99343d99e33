"""What a step keeps on the device is what the plan says, to the byte."""

from __future__ import annotations

import pytest
from kernel_case import make_case, make_search, optics_model

from mpiapp.backend.step_plan import StepPlan
from mpiapp.model.search import Free

MIB = 1 << 20
SEARCHES = {
    "global": make_search(),
    "local": make_search(sigma_deg=8.0),
    "shifts": make_search(free=Free.SHIFTS),
}


def sizes(plan: StepPlan) -> dict[str, int]:
    return {item.name: item.bytes for item in plan.items if not item.per_image}


@pytest.mark.parametrize("name", list(SEARCHES))
@pytest.mark.parametrize("memory", [4096 * MIB, 64 * MIB, 2 * MIB])
def test_a_step_keeps_what_is_planned(name: str, memory: int) -> None:
    from mpiapp.backend.gpu import GpuBackend
    from mpiapp.backend.gpu_task import Task

    case, search = make_case([optics_model()]), SEARCHES[name]
    backend = GpuBackend(0, "half", memory)
    backend.cupy.get_default_memory_pool().set_limit(size=0)  # the plan alone is looked at
    task = Task(backend, case.setup, case.model, search, case.data, case.poses)
    kept = {
        "reference, padded transform": task.references.stack.nbytes,
        "accumulators": task.target.grid.nbytes,
    }
    if search.free is Free.ALL:
        if task.tables.coarse is not None:
            power = task.coarse_power.nbytes if name == "global" else 0
            kept["coarse slices"] = task.tables.coarse.table.nbytes + power
        if task.tables.fine is not None:
            kept["fine slices"] = task.tables.fine.table.nbytes
        if task.target.slices is not None:
            kept["sums by orientation"] = task.target.slices.nbytes
    assert kept == sizes(task.plan)
    assert task.plan.cache == backend.cache.used
    assert (task.plan.fitting == 0) == (memory < 1024 * MIB)
