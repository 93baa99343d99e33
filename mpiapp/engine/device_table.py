"""Tables of what steps keep on a device, by which routes and in which batches (engine.md 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpiapp.backend.memory import RESERVED, left_free
from mpiapp.backend.step_plan import LANES, StepPlan

MIB = 1 << 20
NAME, CELL = 30, 19


@dataclass(frozen=True)
class Column:
    """A step on a device.

    Attributes
    ----------
    images : bytes of all images of the process, whether kept or not.
    maps : bytes that the maps made after the step take with their sums; 0 where that is not of interest.
    """

    heading: str
    plan: StepPlan
    images: int
    maps: int = 0

    @property
    def kept(self) -> float:
        """Share of the images that stay on the device."""
        return self.plan.cache / self.images if self.images else 1.0


def row(name: str, cells: Sequence[str], width: int = CELL) -> str:
    """A line of a table."""
    return (f"{name:<{NAME}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()


def mebibytes(size: int) -> str:
    """A size in MiB, whole from 100 on."""
    return f"{size / MIB:,.0f}" if size >= 100 * MIB else f"{size / MIB:.3g}"


def maps_fit(column: Column) -> str:
    """Whether memory suffices for the maps: beside the images, without them, or not at all."""
    spare = column.plan.memory - RESERVED - column.maps
    return "too large" if spare < 0 else "no images" if spare < column.plan.cache else "fit"


def table(title: str, columns: Sequence[Column]) -> list[str]:
    """A dozen lines; the items of a column add up to what it takes together, of what the process may use."""
    rows: list[tuple[str, Callable[[Column], str]]] = [
        ("  image size, search", _search),
        ("  images kept", lambda c: f"{100 * c.kept:.0f} % {mebibytes(c.plan.cache)}"),
        ("  reference, padded transform", lambda c: _size(c.plan, "reference, padded transform")),
        ("  accumulators", lambda c: _size(c.plan, "accumulators")),
        ("  coarse slices", lambda c: f"{c.plan.coarse_route} {_size(c.plan, 'coarse slices')}"),
        ("  fine slices", lambda c: f"{c.plan.fine_route} {_size(c.plan, 'fine slices')}"),
        ("  sums by orientation", lambda c: f"{c.plan.sums_route} {_size(c.plan, 'sums by orientation')}"),
        ("  batches in work", _batches),
        ("  left to CUDA, other half", lambda c: mebibytes(left_free(c.plan.memory))),
        ("  together, of", lambda c: f"{mebibytes(c.plan.total)} of {mebibytes(c.plan.memory)}"),
    ]
    if any(c.maps for c in columns):
        rows.append(
            ("  then maps with their sums", lambda c: f"{maps_fit(c)} {mebibytes(c.maps)}" if c.maps else "-")
        )
    lines = [row(title, [c.heading for c in columns])]
    return lines + [row(name, [cell(c).strip() for c in columns]) for name, cell in rows]


def _search(column: Column) -> str:
    load = column.plan.load
    kind = "global" if load.near is None else "local" if load.searched else "none"
    return f"{2 * load.r_max} {kind}"


def _batches(column: Column) -> str:
    plan = column.plan
    if not plan.fitting:
        return "too small"
    work = sum(plan.held(item) for item in plan.items if item.per_image)
    return f"{LANES} x {plan.batch}: {mebibytes(work)}"


def _size(plan: StepPlan, name: str) -> str:
    """Size of what is kept for the whole step; nothing for what is not."""
    found = [item for item in plan.items if item.name == name and not item.per_image]
    return mebibytes(found[0].bytes) if found else ""
