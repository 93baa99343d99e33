"""How far rounding moves the scores: a sample of them once more in double precision (engine.md 2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpiapp.backend.gpu_fine import Scored
from mpiapp.backend.gpu_images import DeviceImages
from mpiapp.backend.gpu_pass import Pass
from mpiapp.backend.gpu_references import References

SAMPLE = 512


def score_errors(
    p: Pass,
    scored: Scored,
    images: DeviceImages,
    references: References,
    family: tuple[int, int, int],
) -> Any:
    """Differences between scores of accepted states and their values in double precision: (n,) float64, host memory."""
    cupy, groups = p.kernels.cupy, scored.groups
    found = scored.found[:: max(1, int(scored.found.size) // SAMPLE)][:SAMPLE]
    group = cupy.searchsorted(scored.out_start[1:], found, side="right")
    parent = group // family[0]
    count = groups.n_t[parent].astype(np.int64) * family[2]
    direction, shift = cupy.divmod(found - scored.out_start[group], count)
    row = scored.rows[groups.d_start[parent] + direction // family[1]] + direction % family[1]
    parent_shift = shift // family[2]
    number = groups.shifts[groups.t_start[parent] + parent_shift] * family[2] + shift % family[2]
    place = groups.prior_start[parent] + (direction // family[1]) * groups.n_t[parent] + parent_shift
    rows, frame, stack = scored.slices, references.model.frame, references.stack
    framed = (rows.matrices[row].reshape(-1, 3, 3) @ cupy.asarray(frame, np.float32)).reshape(-1, 9)
    image, psi = scored.image_of[group], scored.psi_of[group]
    exact = cupy.empty(int(found.size), np.float64)
    arguments = (image, psi, cupy.ascontiguousarray(p.shift_A[number]), cupy.ascontiguousarray(framed),
                 rows.of_class[row], stack, np.int64(stack[0].size), references.planar, references.radius,
                 references.padding, images.planes, np.int64(images.planes[0].size), images.plane_radius,
                 images.ctf, images.scale, images.group, p.optics, p.score_weight, p.n_pix, p.gamma_even, p.n_psi,
                 p.cosine, p.sine, p.qx, p.qy, p.unit, p.window, p.n_score, exact)  # fmt: skip
    p.kernels.launch("check.cu", "exact_scores", (int(found.size),), arguments)
    return (scored.scores[found].astype(np.float64) - groups.prior[place] - exact).get()
