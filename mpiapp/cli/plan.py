"""``mpiapp plan``: the memory of a refinement on devices, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpiapp.backend.map_memory import LEAST, reconstruction_items
from mpiapp.backend.memory import BESIDE_SHARE, RESERVED, Item, cache_bytes, image_bytes, required, total
from mpiapp.backend.step_plan import StepPlan, plan_step
from mpiapp.cli.console import is_leader, say
from mpiapp.cli.options import parse
from mpiapp.config.plan import PlanConfig
from mpiapp.engine.device_table import Column, maps_fit, mebibytes, row, table
from mpiapp.engine.memory_plan import Stage, stages
from mpiapp.io.outputs import OutputNames
from mpiapp.report.memory_plot import GB, plot_memory

SUMMARY = (
    "What a refinement on GPUs keeps in device memory, from the first iteration to the final one at full size, by which "
    "routes, and in which batches, as a run with --gpu decides it. Nothing is run and no device is needed; the sizes are "
    "computed, not measured."
)
EXAMPLE = """\
mpiapp plan --box 360 --angpix 1.24 --particle_diameter 330 --particles 10000
mpiapp plan --box 256 --K 6 --gpu_memory 24 --o plan/ribosome"""
CARDS_GB = (8.0, 11.0, 24.0, 48.0, 80.0)
NARROW = 13
BOXES = range(100, 601, 50)
SHOWN_GB = 24.0  # the card whose table is shown where several are compared
Curves = dict[str, tuple[list[int], list[int]]]


def run(argv: Sequence[str]) -> int:
    """Parse, print the tables, plot; returns the exit code."""
    config = parse(PlanConfig, argv, SUMMARY, EXAMPLE)
    if config is None or not is_leader():
        return 0
    config = config.validate()
    found = stages(config)
    parts = [
        _heading(config),
        _stages(found),
        _on_card(config, found),
        _details(config, found),
        _cards(config, found),
    ]
    say("\n\n".join("\n".join(part) for part in parts))
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
        f"{config.particles:,} particles on {config.workers} worker(s): {config.share:,} each, "
        f"{config.step_particles:,} in one step",
    ]


def _classes(config: PlanConfig) -> str:
    return f"{config.n_classes} class{'es' * (config.n_classes > 1)}"


def _stages(found: Sequence[Stage]) -> list[str]:
    return [
        row("Stage", [stage.name for stage in found]),
        row("  angular step, degrees", [f"{stage.step_deg:.3g}" for stage in found]),
        row("  resolution, A", [f"{stage.resolution_A:.3g}" for stage in found]),
    ]


def _columns(config: PlanConfig, found: Sequence[Stage], card_GB: float) -> list[Column]:
    """All stages on a card that is empty otherwise; maps are told of with the last."""
    memory = int(card_GB * GB - config.free_gpu_memory * 1e6)
    cache = cache_bytes({config.box: config.share}, memory)
    images = image_bytes(config.box) * config.share
    columns = [Column(stage.name, plan_step(stage.load, memory, cache), images) for stage in found]
    return [*columns[:-1], replace(columns[-1], maps=total(_map_items(config, memory)))]


def _shown(config: PlanConfig) -> float:
    return config.gpu_memory if config.gpu_memory > 0 else SHOWN_GB


def _on_card(config: PlanConfig, found: Sequence[Stage]) -> list[str]:
    columns = _columns(config, found, _shown(config))
    return [*table(f"On a card of {_shown(config):g} GB, MiB", columns), *_reading(config, columns[0])]


def _reading(config: PlanConfig, column: Column) -> list[str]:
    """What is not kept is read again."""
    left = column.images - column.plan.cache
    if not left:
        return ["Images are read once and kept on the device."]
    size = left // 2 if config.float16 else left
    return [f"{mebibytes(size)} MiB of images that are not kept are read again in each iteration."]


def _details(config: PlanConfig, found: Sequence[Stage]) -> list[str]:
    """Items of an image and of the maps, in MiB."""
    plans = [column.plan for column in _columns(config, found, _shown(config))]
    columns = [{item.name: item for item in plan.items if item.per_image} for plan in plans]
    lines = ["For each image of a batch, MiB (* scores are held for a part of the batch at a time):"]
    for name in dict.fromkeys(name for column in columns for name in column):
        lines.append(row(f"  {name}", [_of_image(column.get(name)) for column in columns]))
    lines.append("Maps at full size, MiB:")
    items = _map_items(config, int(_shown(config) * GB))
    lines += [row(f"  {item.name}", [mebibytes(item.bytes)]) for item in items]
    return [*lines, row("  together", [mebibytes(total(items))])]


def _of_image(item: Item | None) -> str:
    if item is None:
        return "-"
    return mebibytes(item.bytes) + "*" * (item.limit > 0)


def _map_items(config: PlanConfig, memory: int) -> tuple[Item, ...]:
    """What maps take at full size; one worker holds the sums of both halves where memory is plenty."""
    return reconstruction_items(
        config.box,
        config.pad,
        config.n_classes,
        halves=2 if config.n_halves == 2 and config.workers == 1 else 1,
        symmetric=config.sym.upper() != "C1",
        memory=memory,
    )


def _cards(config: PlanConfig, found: Sequence[Stage]) -> list[str]:
    """Batch and routes of every stage on each card."""
    sizes = (config.gpu_memory,) if config.gpu_memory > 0 else CARDS_GB
    headings = [stage.name for stage in found] + ["maps", "cached"]
    lines = [row("Images of a batch, routes, on", headings, NARROW)]
    for size in sizes:
        columns = _columns(config, found, size)
        cells = [_cell(column.plan) + "!" * (column.plan.cache < columns[0].plan.cache) for column in columns]
        cached = f"{100 * columns[0].kept:.0f} %"
        lines.append(row(f"  {size:g} GB", [*cells, maps_fit(columns[-1]), cached], NARROW))
    return [
        *lines,
        "Routes of the coarse and of the fine pass: d dense products with all slices, t a table of slices, i slices "
        "interpolated",
        "for each batch; of the sums: sl slice-space (by orientation first), sc scatter (straight into the map).",
        "!: images are no longer kept, for want of memory. maps: whether they fit; no images: if images are kept no longer.",
        "cached: images that stay on the device; the others are read again in each iteration.",
        f"Of each card {RESERVED / GB:g} GB is left to CUDA, and {100 * BESIDE_SHARE:g} % to the sums of the other half of "
        "a refinement; larger ones wait in host memory.",
    ]


def _cell(plan: StepPlan) -> str:
    """Batch and first letters of the routes."""
    if not plan.fitting:
        return "too small"
    letters = "".join(name[0] for name in (plan.coarse_route, plan.fine_route)) + "/" + plan.sums_route[:2]
    return f"{plan.batch} {letters}"


def _least(config: PlanConfig, stage: Stage) -> int:
    """Memory without which an expectation step over all particles of a worker does not work."""
    return required(replace(stage.load, particles=config.share)) + RESERVED


def _maps(config: PlanConfig) -> int:
    """Memory without which maps can not be made: that of one half and of few planes at a time."""
    return total(_map_items(config, LEAST)) + RESERVED


def _by_box(config: PlanConfig) -> Curves:
    """The final iteration of boxes at the same sampling, the particle growing with the box."""
    boxes = list(BOXES)
    curves: Curves = {}
    for pad in dict.fromkeys((config.pad, 1.0)):
        sized = [
            replace(config, box=box, pad=pad, particle_diameter=config.diameter_A * box / config.box)
            for box in boxes
        ]
        curves[f"expectation, padding {pad:g}"] = (
            boxes,
            [_least(config, stages(each)[-1]) for each in sized],
        )
        curves[f"reconstruction, padding {pad:g}"] = (boxes, [_maps(each) for each in sized])
    return curves


def _by_classes(config: PlanConfig) -> Curves:
    """The last global search and the final iteration against the number of classes."""
    classes = list(range(1, max(8, config.n_classes) + 1))
    many = [replace(config, n_classes=n) for n in classes]
    searches = [[stage for stage in stages(each) if stage.load.near is None][-1] for each in many]
    resolution = searches[0].resolution_A
    return {
        "expectation, data to Nyquist": (classes, [_least(config, stages(each)[-1]) for each in many]),
        "reconstruction of classes": (classes, [_maps(each) for each in many]),
        f"global search at {resolution:.2g} Å": (classes, [_least(config, stage) for stage in searches]),
    }
