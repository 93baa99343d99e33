"""``mpiapp plan``: the memory of a refinement on devices, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpiapp.backend.memory import (
    RESERVED,
    cache_bytes,
    plan_step,
    reconstruction_items,
    required,
    step_items,
    total,
)
from mpiapp.cli.console import is_leader, say
from mpiapp.cli.options import parse
from mpiapp.config.plan import PlanConfig
from mpiapp.engine.memory_plan import Stage, stages
from mpiapp.io.outputs import OutputNames
from mpiapp.report.memory_plot import GB, plot_memory

SUMMARY = (
    "What a refinement on GPUs keeps in device memory, from the first iteration to the final one at full size, and "
    "the batches that fit on a card. Nothing is run and no device is needed; the sizes are computed, not measured."
)
EXAMPLE = """\
mpiapp plan --box 360 --angpix 1.24 --particle_diameter 330 --particles 10000
mpiapp plan --box 256 --K 6 --gpu_memory 24 --o plan/ribosome"""
CARDS_GB = (8.0, 11.0, 24.0, 48.0, 80.0)
BOXES = range(100, 601, 50)
MB = 1 << 20
NAME = 34
Curves = dict[str, tuple[list[int], list[int]]]


def run(argv: Sequence[str]) -> int:
    """Parse, print the tables, plot; returns the exit code."""
    config = parse(PlanConfig, argv, SUMMARY, EXAMPLE)
    if config is None or not is_leader():
        return 0
    config = config.validate()
    found = stages(config)
    say("\n".join([*_heading(config), "", *_what_lives(config, found), "", *_cards(config, found)]))
    if config.output_root:
        path = OutputNames(config.output_root).memory_plot
        path.parent.mkdir(parents=True, exist_ok=True)
        titles = (f"Least memory, {_classes(config)}", f"Least memory, box {config.box} px")
        plot_memory(path, _by_box(config), _by_classes(config), CARDS_GB, titles)
        say(f"\nPlot: {path} (numbers in {path.with_suffix('.csv').name})")
    return 0


def _heading(config: PlanConfig) -> list[str]:
    return [
        *config.notes,
        f"Box {config.box} px of {config.angpix:g} A, particle of {config.diameter_A:g} A, {config.sym.upper()}, "
        f"{_classes(config)}, padding {config.pad:g}, precision {config.precision}",
        f"{config.particles:,} particles on {config.workers} worker(s): {_share(config):,} each",
    ]


def _classes(config: PlanConfig) -> str:
    return f"{config.n_classes} class{'es' * (config.n_classes > 1)}"


def _share(config: PlanConfig) -> int:
    return -(-config.particles // config.workers)


def _what_lives(config: PlanConfig, found: Sequence[Stage]) -> list[str]:
    """Items against stages, in MB."""
    columns = [{(i.name, i.per_image): i.bytes for i in step_items(stage.load)} for stage in found]
    names = list(dict.fromkeys(key for column in columns for key in column))
    lines = [
        _row("MB (2^20 bytes)", [stage.name for stage in found]),
        _row("  angular step, degrees", [f"{stage.step_deg:.3g}" for stage in found]),
        _row("  resolution, A", [f"{stage.resolution_A:.3g}" for stage in found]),
        _row("  image size, px", [str(stage.image_size) for stage in found]),
        _row("  search", ["local" if stage.load.local else "global" for stage in found]),
    ]
    for per_image, heading in ((False, "On the device"), (True, "For each image of a batch")):
        lines.append(f"{heading}:")
        for name, each in names:
            if each == per_image:
                lines.append(_row(f"  {name}", [_mb(column.get((name, each))) for column in columns]))
        sums = [sum(size for (_, each), size in column.items() if each == per_image) for column in columns]
        lines.append(_row("  together", [_mb(size) for size in sums]))
    lines.append("Final reconstruction at full size:")
    items = reconstruction_items(config.box, config.pad, config.n_classes)
    lines += [_row(f"  {item.name}", [_mb(item.bytes)]) for item in items]
    lines.append(_row("  together", [_mb(total(items))]))
    lines.append("Image cache of a worker, what fits on the device, the rest on the host:")
    for kind, half in (("float32", False), ("float16", True)):
        lines.append(_row(f"  {kind}", [_mb(cache_bytes(config.box, _share(config), half))]))
    return lines


def _cards(config: PlanConfig, found: Sequence[Stage]) -> list[str]:
    """Batch and route of every stage on each card."""
    sizes = (config.gpu_memory,) if config.gpu_memory > 0 else CARDS_GB
    lines = [_row("Images of a batch on a card of", [stage.name for stage in found] + ["maps", "cached"])]
    final = total(reconstruction_items(config.box, config.pad, config.n_classes))
    for size in sizes:
        free = int(size * GB - RESERVED - config.free_gpu_memory * 1e6)
        plans = [plan_step(stage.load, free) for stage in found]
        cells = [f"{plan.batch} {plan.route}" if plan.batch else "too small" for plan in plans]
        spare = free - max(plan.total for plan in plans)
        cached = max(0.0, min(1.0, spare / cache_bytes(config.box, _share(config), config.float16)))
        fits = "fit" if final <= free else "too large"
        lines.append(_row(f"  {size:g} GB", [*cells, fits, f"{100 * cached:.0f} %"]))
    return [
        *lines,
        "table: slices of all fine orientations are kept; batch: they are made for each batch; local: for each image.",
        f"{RESERVED / GB:g} GB of each card is left to CUDA. maps: the final reconstruction. cached: images on the "
        "device beside the largest step.",
    ]


def _row(name: str, cells: Sequence[str]) -> str:
    return (f"{name:<{NAME}}" + "".join(f"{cell:>11}" for cell in cells)).rstrip()


def _mb(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / MB:,.0f}" if size >= 100 * MB else f"{size / MB:.3g}"


def _least(stage: Stage) -> int:
    """Memory without which an expectation step does not work."""
    return required(stage.load) + RESERVED


def _maps(config: PlanConfig) -> int:
    return total(reconstruction_items(config.box, config.pad, config.n_classes)) + RESERVED


def _by_box(config: PlanConfig) -> Curves:
    """The final iteration of boxes at the same sampling, the particle growing with the box."""
    boxes = list(BOXES)
    curves: Curves = {}
    for pad in dict.fromkeys((config.pad, 1.0)):
        sized = [
            replace(config, box=box, pad=pad, particle_diameter=config.diameter_A * box / config.box)
            for box in boxes
        ]
        curves[f"expectation, padding {pad:g}"] = (boxes, [_least(stages(each)[-1]) for each in sized])
        curves[f"reconstruction, padding {pad:g}"] = (boxes, [_maps(each) for each in sized])
    return curves


def _by_classes(config: PlanConfig) -> Curves:
    """The last global search and the final iteration against the number of classes."""
    classes = list(range(1, max(8, config.n_classes) + 1))
    many = [replace(config, n_classes=n) for n in classes]
    searches = [[stage for stage in stages(each) if not stage.load.local][-1] for each in many]
    resolution = searches[0].resolution_A
    return {
        "expectation, data to Nyquist": (classes, [_least(stages(each)[-1]) for each in many]),
        "reconstruction": (classes, [_maps(each) for each in many]),
        f"global search at {resolution:.2g} Å": (classes, [_least(stage) for stage in searches]),
    }
