"""The stages of a refinement as loads on device memory: from the first iteration to the final full-size one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor, pi

from mpiapp.backend.memory import NUMBER_BYTES, Load, near_counts
from mpiapp.backend.step_plan import FULL_SPHERE
from mpiapp.config.plan import PlanConfig
from mpiapp.engine.schedule import Policy, coarse_radius, local_sigma_deg
from mpiapp.engine.state import Schedule
from mpiapp.model.sampling import angular_step_deg, direction_grid, translation_lattice


@dataclass(frozen=True)
class Stage:
    """One sampling order at the highest resolution that it serves, or the first or the final iteration."""

    name: str
    step_deg: float
    resolution_A: float
    load: Load

    @property
    def image_size(self) -> int:
        """Current image size in pixels."""
        return 2 * self.load.r_max


def stages(config: PlanConfig) -> list[Stage]:
    """Stages in the order of a run.

    A sampling order is shown at the resolution from which the next finer one is asked for; accuracies may end a real
    run at a coarser one. Offsets keep their first range and step, which a run narrows.
    """
    policy = Policy(config.box, config.angpix, config.diameter_A, config.auto_local_healpix_order)
    nyquist = config.box // 2
    shell = min(max(policy.shell(1 / config.ini_high), 1), nyquist)
    order = config.healpix_order
    found = [stage(config, policy, "start", order, shell)]
    while True:
        served = min(last_shell(policy, order + config.oversampling), nyquist)
        if served > shell:
            shell = served
            found.append(stage(config, policy, f"order {order}", order, shell))
        if shell == nyquist or order == policy.max_healpix_order:
            final = stage(config, policy, "final", order, nyquist)
            # the last order often reaches Nyquist by itself
            return [*(s for s in found if s.load != final.load), final]
        order += 1


def final_order(policy: Policy, order: int, oversampling: int) -> int:
    """Sampling order of the coarse pass from a given one on that serves all shells up to Nyquist, or the finest."""
    while last_shell(policy, order + oversampling) < policy.box // 2 and order < policy.max_healpix_order:
        order += 1
    return order


def last_shell(policy: Policy, fine_order: int) -> int:
    """Highest shell that does not ask for a finer step: where pi D / d passes 360 degrees over the step."""
    frequency = 360.0 / angular_step_deg(fine_order) / (pi * policy.particle_diameter_A)
    return floor(frequency / policy.frequency(1))


def stage(config: PlanConfig, policy: Policy, name: str, order: int, shell: int) -> Stage:
    """A stage at one sampling order and resolution."""
    schedule = Schedule(
        order, config.offset_range * config.angpix, config.offset_step * config.angpix, config.oversampling
    )
    local = name != "start" and order >= config.auto_local_healpix_order
    r_max = config.box // 2 if name == "final" else min(shell + config.incr_size, config.box // 2)
    n_dir, n_psi = _directions(order, config.sym), round(360.0 / angular_step_deg(order))
    near = None
    if local:
        sigma = local_sigma_deg(policy, schedule)
        near = near_counts(n_dir, n_psi, FULL_SPHERE * 4**order, angular_step_deg(order), sigma)
    load = Load(
        box=config.box,
        padding=config.pad,
        r_max=r_max,
        r_coarse=coarse_radius(policy, schedule, r_max),
        n_dir=n_dir,
        n_psi=n_psi,
        n_shifts=len(translation_lattice(schedule.offset_range_A, schedule.offset_step_A)),
        near=near,
        children=4**config.oversampling,
        psi_children=2**config.oversampling,
        classes=config.n_classes,
        particles=config.step_particles,
        number_bytes=NUMBER_BYTES[config.precision],
    )
    resolution = 1 / policy.frequency(config.box // 2 if name == "final" else shell)
    return Stage(name, schedule.step_deg, resolution, load)


@lru_cache(maxsize=64)
def _directions(order: int, sym: str) -> int:
    return direction_grid(order, sym).n_directions
