"""What the output files of a job tell: refinements and post-processing, RELION's own folders included."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpiapp.io.outputs import OutputNames
from mpiapp.model.fsc import resolution_at

if TYPE_CHECKING:
    from mpiapp.io.relion_files import OptimiserRecord
    from mpiapp.io.relion_model import ModelRecord

F64 = NDArray[np.float64]
_OPTIMISER = re.compile(r"^(?P<root>.+?)(?:_it(?P<iteration>\d{3,}))?_optimiser\.star$")
# RELION lets a continued run write to run_ct7, run_ct12, ...: the same refinement
_CONTINUED = re.compile(r"_ct\d+$")


@dataclass
class Run:
    """One refinement or classification as its files tell it.

    Attributes
    ----------
    names : output names of the last part of the run
    last : iteration whose files are shown; None: the final ones of a refinement
    finished : whether the final files are there, or those of the last iteration of a classification
    model : of half 1 of that iteration, of all particles of a classification, or the final one
    optimiser : of the same
    head : comment lines of that optimiser file: version and command
    progress : column -> (n_iterations,) values, as for `plot_progress`
    curves : FSC by iteration, the final one last under "final"; none of a classification
    """

    names: OutputNames
    last: int | None
    finished: bool
    model: ModelRecord
    optimiser: OptimiserRecord
    head: list[str]
    progress: dict[str, F64] = field(default_factory=dict)
    curves: dict[str, F64] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """How far it is, in words."""
        return "finished" if self.finished else f"after iteration {self.last}"

    @property
    def largest_first(self) -> NDArray[np.int64]:
        """Indices of the classes that hold particles."""
        shares = np.array([record.distribution for record in self.model.classes])
        order = np.argsort(-shares, kind="stable")
        return order[shares[order] > 0]

    def drawn(self, plot: Path) -> bool:
        """Whether the run itself left this plot of the state that is shown."""
        return is_newer(plot, self.names.data(self.last))


def is_newer(picture: Path, source: Path) -> bool:
    """Whether a picture exists and was made after the file that it shows."""
    return picture.is_file() and source.is_file() and picture.stat().st_mtime >= source.stat().st_mtime


def find_refinements(folder: Path) -> list[tuple[OutputNames, dict[int, OutputNames], bool]]:
    """Refinements in a folder: names of the newest part, names by iteration, whether it is finished."""
    groups: dict[str, dict[int | None, OutputNames]] = {}
    for path in sorted(folder.glob("*_optimiser.star")):
        found = _OPTIMISER.match(path.name)
        if not found:
            continue
        iteration = int(found["iteration"]) if found["iteration"] else None
        names = OutputNames(str(folder / found["root"]))
        # of iterations between those of --write_every there is nothing else
        if iteration is not None and not any(names.model(iteration, half).is_file() for half in (None, 1)):
            continue
        parts = groups.setdefault(_CONTINUED.sub("", found["root"]), {})
        # of an iteration that was done twice the later part counts
        known = parts.get(iteration)
        if known is None or _part_number(names.root) >= _part_number(known.root):
            parts[iteration] = names
    out = []
    for parts in groups.values():
        numbered = dict(sorted((k, v) for k, v in parts.items() if k is not None))
        if not parts:
            continue
        newest = parts.get(None) or numbered[max(numbered)]
        # RELION leaves no optimiser file of its final iteration
        finished = None in parts or (newest.model(None).is_file() and newest.data(None).is_file())
        out.append((newest, numbered, finished))
    return out


def _part_number(root: str) -> int:
    found = _CONTINUED.search(root)
    return int(found[0][3:]) if found else 0


def is_classification(iterations: dict[int, OutputNames]) -> bool:
    """Whether a run has one model file of all particles rather than one of each half."""
    last = max(iterations, default=None)
    if last is None:
        return False
    names = iterations[last]
    return names.model(last).is_file() and not names.model(last, 1).is_file()


def load_classification(iterations: dict[int, OutputNames]) -> Run:
    """Read what the report shows of a classification, from the output names of its iterations.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    from mpiapp.io.relion_files import read_model, read_optimiser

    last = max(iterations)
    names = iterations[last]
    path = names.optimiser(last)
    optimiser = read_optimiser(path)
    model = read_model(names.model(last), directions=False)
    run = Run(names, last, last >= optimiser.n_iterations, model, optimiser, _head(path))
    run.progress = written_progress(names) or _told(_rows(iterations, None, run.curves))
    return run


def load_refinement(names: OutputNames, iterations: dict[int, OutputNames], finished: bool) -> Run:
    """Read what the report shows of a refinement.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    from mpiapp.io.relion_files import read_model, read_optimiser

    last = None if finished else max(iterations)
    model = read_model(names.model(None) if finished else names.model(last, 1), directions=False)
    path = names.optimiser(last)
    if finished and iterations and not path.is_file():
        path = iterations[max(iterations)].optimiser(max(iterations))
    run = Run(names, last, finished, model, read_optimiser(path), _head(path))
    rows = _rows(iterations, 1, run.curves)
    if finished:
        run.curves["final"] = model.classes[0].fsc
    run.progress = written_progress(names) or _told(rows)
    return run


def _rows(
    iterations: dict[int, OutputNames], half: int | None, curves: dict[str, F64]
) -> list[dict[str, float]]:
    """Iterations of the progress table, but for those whose files are not complete; their FSC go to `curves`."""
    rows = []
    for number, names in iterations.items():
        paths = (names.model(number, half), names.optimiser(number), names.sampling(number))
        if not all(path.is_file() for path in paths):
            continue
        row, fsc = _read_row(*paths, stamps=tuple(path.stat().st_mtime_ns for path in paths))
        if number > 0 and half is not None:
            curves[str(number)] = fsc
        rows.append({"iteration": float(number), **row})
    return rows


def _told(rows: list[dict[str, float]]) -> dict[str, F64]:
    return {key: np.array([row[key] for row in rows]) for key in rows[0]} if rows else {}


@lru_cache(maxsize=1024)
def _read_row(
    model_path: Path, optimiser_path: Path, sampling_path: Path, *, stamps: tuple[int, ...]
) -> tuple[dict[str, float], F64]:
    """Figures and FSC of an iteration. A running job shows its page many times: the same files are read once.

    Parameters
    ----------
    stamps : times of the last change of the files
    """
    from mpiapp.io.relion_files import read_model, read_optimiser, read_sampling

    model = read_model(model_path, directions=False)
    optimiser, sampling = read_optimiser(optimiser_path), read_sampling(sampling_path, directions=False)
    fine = 2.0**-optimiser.oversampling
    fsc = model.classes[0].fsc
    if optimiser.split_random_halves:
        of_kind = {"resolution_0.143_A": resolution_at(fsc, 0.143, model.pixel_size_A, model.box)}
    else:
        of_kind = {f"class_{k:03d}": record.distribution for k, record in enumerate(model.classes, 1)}
        of_kind["change_class"] = optimiser.change_classes
    return {
        "resolution_A": model.current_resolution_A,
        **of_kind,
        "step_deg": sampling.psi_step_deg * fine,
        "offset_step_A": sampling.offset_step_A * fine,
        "accuracy_rot_deg": optimiser.accuracy_rot_deg,
        "accuracy_trans_A": optimiser.accuracy_trans_A,
        "change_angle_deg": optimiser.change_orientations_deg,
        "change_offset_A": optimiser.change_offsets_A,
        "average_pmax": model.average_pmax,
        "current_size": float(model.current_size),
    }, fsc


def written_progress(names: OutputNames) -> dict[str, F64]:
    """The table that the run itself keeps, which has times and memory as well; empty without it."""
    path = names.progress_plot.with_suffix(".csv")
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    columns = zip(*rows[1:], strict=True)
    return {
        name: np.array([float(text) if text else np.nan for text in column])
        for name, column in zip(rows[0], columns, strict=False)
    }


def _head(path: Path) -> list[str]:
    """Comment lines at the beginning of a STAR file, without their marks."""
    lines = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("# ").strip())
    return [line for line in lines if line and not line.startswith("version ")]


def find_postprocess(folder: Path) -> list[Path]:
    """Summaries of post-processing jobs in a folder."""
    found = []
    for path in sorted(folder.glob("*.star")):
        with open(path, "rb") as file:
            start = file.read(4096)
        if b"data_general" in start and b"rlnFinalResolution" in start:
            found.append(path)
    return found


def find_local_resolution(folder: Path) -> list[Path]:
    """Local-resolution maps in a folder."""
    return sorted(folder.glob("*_locres.mrc"))


def head_of(path: Path) -> list[str]:
    """Version and command of a STAR file."""
    return _head(path)
