"""The fine pass on the device: children of the significant states, their posterior, and the weighted sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.gpu_back_projection import ENTRY_WORDS, Target, back_project
from mpiapp.backend.gpu_coarse import grouped, image_starts
from mpiapp.backend.gpu_groups import Groups, starts
from mpiapp.backend.gpu_images import DeviceImages, MapSide
from mpiapp.backend.gpu_kernels import blocks
from mpiapp.backend.gpu_pass import Pass
from mpiapp.backend.gpu_references import Rows, Slices
from mpiapp.backend.gpu_select import Selection, select
from mpiapp.kernels.arguments import Posterior


@dataclass
class Scored:
    """Scores of a fine pass as they lie on the device, for the check of their precision."""

    groups: Groups
    image_of: Any
    psi_of: Any
    rows: Any  # row of the table of each listed direction's first child
    slices: Rows
    scores: Any
    out_start: Any
    found: Any  # accepted ones


def fine_pass(
    p: Pass,
    groups: Groups,
    images: DeviceImages,
    slices: Slices,
    still: MapSide,
    target: Target,
    log_shift: Any,
    centre_A: Any,
    per_class: int,
    family: tuple[int, int, int],
    fraction: float,
    correlate: bool,
    n_shell: int,
) -> tuple[Posterior, Scored, Callable[[], None]]:
    """Posterior over the children of the grouped states, and its sums; what of it goes to the host comes as one.

    Parameters
    ----------
    centre_A : (n_centre, 2) centre of the prior of the offsets, for each class or for all.
    per_class : coarse rows of a class.

    Returns
    -------
    Posterior of all images, what the check of precision looks at, and the back-projection, to be called when the batch
    can no longer fail: it changes the target and takes no memory.
    """
    cupy, n, of_psi = p.kernels.cupy, len(images.planes), family[0]
    image_of = cupy.repeat(groups.image, of_psi)
    psi_of = cupy.repeat(groups.psi, of_psi) * of_psi + cupy.tile(
        cupy.arange(of_psi, dtype=np.int32), len(groups)
    )
    rows = slices.row_of[groups.directions]
    scores, out_start, base, weight = grouped(
        p, groups, images, slices.rows.table, rows, log_shift, family, correlate, image_of, psi_of
    )
    start = image_starts(cupy, image_of, out_start, n)
    chosen = select(p.kernels, scores, start, fraction, 0, correlate)
    scored = Scored(groups, image_of, psi_of, rows, slices.rows, scores, out_start, chosen.found)
    entries, orientation, listed, child, shift = _decoded(p, scored, chosen, images, still, family)
    entry_start = starts(cupy, chosen.count, np.int32)
    cross, power = _reference_sums(p, slices.rows.table, entries, entry_start, base, weight, n, n_shell)
    direction = groups.directions[listed]
    number = None
    if target.slices is not None:
        fine = direction * np.int32(family[1]) + child // np.int32(of_psi)
        number = fine * np.int32(p.n_psi) + psi_of[entries.view(np.int32)[:, 1]]
    w, image = entries[:, 2].astype(np.float64), entries.view(np.int32)[:, 7]
    n_class = int(target.grid.shape[0])
    row_weight = _sums_by(cupy, direction, w, n_class * per_class)
    of_class = direction // np.int32(per_class)
    offset = cupy.asarray(images.old_A)[image] + p.shift_A[shift]
    row_shift = cupy.stack([_sums_by(cupy, of_class, w * offset[:, c], n_class) for c in (0, 1)], axis=1)
    square = ((offset - centre_A[of_class if len(centre_A) > 1 else 0]) ** 2).sum(1)
    variance, total = _sums_by(cupy, image, w * square, n), _sums_by(cupy, image, w, n)
    best = _best(cupy, chosen, entries, psi_of, direction, child, shift, of_psi)
    posterior = Posterior(
        best,
        chosen.best,
        cupy.log(chosen.total),
        1 / chosen.total,
        cross,
        power,
        row_weight,
        row_shift,
        variance,
        total,
    )

    def project() -> None:
        back_project(
            p.kernels, images, still, target, slices.rows.of_class, entries, entry_start, orientation, number
        )

    return posterior, scored, project


def _decoded(
    p: Pass,
    scored: Scored,
    chosen: Selection,
    images: DeviceImages,
    still: MapSide,
    family: tuple[int, int, int],
) -> tuple[Any, Any, Any, Any, Any]:
    """The accepted states, one a row: entries and orientations, as `back_project` takes them, the place of the coarse
    direction in the list of directions, number of the child, number of the fine shift."""
    cupy, groups, m = p.kernels.cupy, scored.groups, int(scored.found.size)
    entries, orientation = cupy.empty((m, ENTRY_WORDS), np.float32), cupy.empty((m, 6), np.float32)
    listed, child, shift = (cupy.empty(m, np.int32) for _ in range(3))
    arguments = (scored.found, m, scored.out_start, int(scored.image_of.size), *family, scored.image_of, scored.psi_of,
                 groups.d_start, groups.t_start, groups.n_t, scored.rows, groups.shifts, scored.scores, chosen.best,
                 chosen.total, images.group, p.optics, still.optics, p.cosine, p.sine, p.shift_A, scored.slices.matrices,
                 entries, orientation, listed, child, shift)  # fmt: skip
    p.kernels.launch("sums.cu", "decode_entries", (blocks(m),), arguments)
    return entries, orientation, listed, child, shift


def _sums_by(cupy: Any, index: Any, weights: Any, n: int) -> Any:
    """As bincount, which would wait for the device to look at the indices first."""
    out = cupy.zeros(n, np.float64)
    cupy.add.at(out, index, weights)
    return out


def _reference_sums(
    p: Pass, table: Any, entries: Any, entry_start: Any, base: Any, weight: Any, n: int, n_shell: int
) -> tuple[Any, Any]:
    cupy = p.kernels.cupy
    cross, power = cupy.zeros((n, n_shell), np.float32), cupy.zeros((n, n_shell), np.float32)
    arguments = (entry_start, entries, table, np.int64(table.shape[1]), p.pitch, base, weight, p.qx, p.qy, p.shell,
                 p.n_pix, n_shell, cross, power)  # fmt: skip
    name = f"reference_sums<{p.precision.kernel}>"
    p.kernels.launch(
        "sums.cu", name, (blocks(p.n_pix, 128), n), arguments, block=128, shared=8 * (n_shell + 2)
    )
    return cross, power


def _best(
    cupy: Any,
    chosen: Selection,
    entries: Any,
    psi_of: Any,
    direction: Any,
    child: Any,
    shift: Any,
    of_psi: int,
) -> Any:
    """Best state of each image: coarse direction, child, coarse in-plane angle, child, fine shift; (n, 5) int64."""
    at = cupy.minimum(cupy.searchsorted(chosen.found, chosen.position), max(int(chosen.found.size) - 1, 0))
    if not chosen.found.size:
        return cupy.zeros((int(chosen.position.size), 5), np.int64)
    psi = psi_of[entries.view(np.int32)[at, 1]]
    columns = (direction[at], child[at] // of_psi, psi // of_psi, psi % of_psi, shift[at])
    return cupy.stack([c.astype(np.int64) for c in columns], axis=1)


def to_host(cupy: Any, posterior: Posterior) -> Posterior:
    """The posterior in host memory, by one synchronisation."""
    values: list[Any] = [v if isinstance(v, np.ndarray) else cupy.asnumpy(v) for v in posterior]
    return Posterior(*values)


def no_posterior(n: int, n_shell: int, n_class: int, per_class: int) -> Posterior:
    """The posterior of images without any state."""
    zero: NDArray[np.float64] = np.zeros(n)
    return Posterior(
        np.zeros((n, 5), np.int32), np.zeros(n, np.float32), zero, np.zeros(n, np.float32), np.zeros((n, n_shell)),
        np.zeros((n, n_shell)), np.zeros(n_class * per_class), np.zeros((n_class, 2)), zero.copy(), zero.copy(),
    )  # fmt: skip


def joined(parts: list[Posterior]) -> Posterior:
    """Posteriors of runs of images as one."""
    if len(parts) == 1:
        return parts[0]
    whole = Posterior(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    names = ("row_weight", "row_shift")
    return whole._replace(**{name: np.sum([getattr(p, name) for p in parts], axis=0) for name in names})
