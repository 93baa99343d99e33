"""What a run tells of its devices when it starts is what its steps will ask for and what ``mpiapp plan`` shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpiapp.backend.base import ImagingSetup
from mpiapp.backend.memory import NUMBER_BYTES, cache_bytes
from mpiapp.backend.step_plan import load_of, plan_step
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.config.common import CommonConfig
from mpiapp.config.plan import PlanConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.device_plan import Work, device_lines, searches, work_of
from mpiapp.engine.iteration import Share
from mpiapp.engine.memory_plan import stages
from mpiapp.engine.state import Schedule
from mpiapp.model.particles import OpticsModel, ParticleData, Poses
from mpiapp.model.symmetry import point_group

GIB = 1 << 30
BOX, ANGPIX, DIAMETER = 256, 1.0, 190.0


def setup(box: int = BOX, sym: str = "C1") -> ImagingSetup:
    optics = OpticsModel(box, ANGPIX, 1.0, (1.0, 0.0, 0.0, 1.0), (), (), False)
    return ImagingSetup(box, ANGPIX, 2.0, DIAMETER, 5.0, True, (optics,), 1, point_group(sym), 1)


def particles(n: int) -> ParticleData:
    zero = np.zeros(n, np.int32)
    return ParticleData(np.arange(n), zero, zero, np.zeros((n, 8)), zero, np.arange(n))


def share(n: int) -> Share:
    return Share(np.arange(n), particles(n), Poses.zeros(n))


def schedule(**changes: object) -> Schedule:
    """That of a refinement which starts at 40 A with the defaults of ``mpiapp plan``."""
    plain = Schedule(2, 6.0, 2.0, frequency=1 / 40.0, increment=10)
    return replace(plain, **changes)  # type: ignore[arg-type]


REFINE = RefineConfig(gpu="")


def lines(config: CommonConfig, memory: dict[int, int], n: int = 10_000, n_class: int = 1) -> list[str]:
    work = [work_of({0: share(n // 2), 1: share(n // 2)}, setup())] * (max(memory) + 1)
    return device_lines(config, setup(), schedule(), n_class, work, memory)


def test_the_first_and_the_final_step_are_those_of_the_plan() -> None:
    plan = PlanConfig(box=BOX, angpix=ANGPIX, particle_diameter=DIAMETER, particles=10_000).validate()
    found = [load_of(setup(), search, 1, 5000, 2) for _, search in searches(REFINE, setup(), schedule())]
    stage = stages(plan)
    for load, planned in zip(found, (stage[0].load, stage[-1].load), strict=True):
        assert replace(load, n_map=0) == planned
        assert load.map_pixels == planned.map_pixels


def test_the_table_is_short_and_holds_what_is_planned() -> None:
    table = lines(REFINE, {0: 24 * GIB})
    assert len(table) <= 12
    assert all(len(line) <= 120 for line in table)
    rows = {line[:30].strip(): line[30:].split() for line in table}
    cache = cache_bytes({BOX: 10_000}, 24 * GIB)
    assert rows["images kept"] == ["100", "%", "2,500"] * 2
    for column, (_, search) in enumerate(searches(REFINE, setup(), schedule())):
        step = plan_step(load_of(setup(), search, 1, 5000, NUMBER_BYTES["auto"]), 24 * GIB, cache)
        assert step.coarse_route in rows["coarse slices"]
        assert step.fine_route in rows["fine slices"]
        assert step.sums_route in rows["sums by orientation"]
        assert f"{step.batch}:" in rows["batches in work"][column * 4 : column * 4 + 4]
        assert f"{step.total / 2**20:,.0f}" in rows["together, of"]
    assert rows["together, of"].count("24,576") == 2
    assert rows["image size, search"] == ["32", "global", "256", "local"]
    assert rows["then maps with their sums"][:2] == ["-", "fit"]


def test_each_distinct_share_of_a_device_has_its_columns() -> None:
    alike = lines(REFINE, {1: 24 * GIB, 2: 24 * GIB - (1 << 20), 3: 24 * GIB})
    assert alike[0].count("this sampling") == 1
    two = lines(REFINE, {1: 24 * GIB, 2: 8 * GIB})
    assert two[0].count("this sampling") == 2
    assert len(two) <= 12
    assert two[10].split().index("8,192") < two[10].split().index("24,576")


def test_what_does_not_fit_is_said() -> None:
    text = "\n".join(lines(REFINE, {0: GIB + (1 << 20)}))
    assert "too small" in text
    assert "too large" in text


def test_a_process_keeps_images_of_both_halves_and_works_on_one() -> None:
    assert work_of({0: share(5), 1: share(7)}, setup()) == Work({BOX: 12}, 7, 2)
    assert work_of({}, setup()) == Work({}, 0, 0)


def test_classes_and_averages_have_a_table_too() -> None:
    volumes = lines(Class3dConfig(gpu="", n_classes=4), {0: 24 * GIB}, n_class=4)
    assert "at full size" in volumes[0]
    averages = device_lines(
        Class2dConfig(gpu="", n_classes=50), setup(), schedule(psi_step_deg=12.0), 50,
        [Work({BOX: 1000}, 1000, 1)], {0: 8 * GIB},
    )  # fmt: skip
    assert "dense" in "\n".join(averages)
    assert not any("maps" in line for line in averages)
