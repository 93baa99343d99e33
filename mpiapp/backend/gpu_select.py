"""Selecting the significant scores of every image on the device (engine.md 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpiapp.backend.gpu_kernels import Kernels

BINS = 1024


@dataclass
class Selection:
    """Accepted scores of all images: device arrays."""

    found: Any  # (n,) int64 positions in the scores, ascending: images one after the other
    count: Any  # (n_img,) int64 accepted of each image
    total: Any  # (n_img,) float64 sum of exp(score - best)
    best: Any  # (n_img,) float32 best score
    position: Any  # (n_img,) int64 where the best one is, -1 for an image without scores


def select(
    kernels: Kernels, scores: Any, start: Any, fraction: float, maximum: int, only_best: bool
) -> Selection:
    """Accept scores in descending order until their weights exceed a fraction of the whole.

    Parameters
    ----------
    scores : flat float32;  start : (n_img + 1,) int64 first score of each image.
    fraction, maximum : as `model.posterior.significance_threshold`; a histogram bin more may pass.
    only_best : just the best score of each image (cross-correlation).
    """
    cupy, n = kernels.cupy, int(start.size) - 1
    chunks = int(min(max(scores.size // max(n, 1) // 2048, 1), 128))
    best = cupy.zeros(n, np.uint64)
    kernels.launch("select.cu", "segment_best", (chunks, n), (scores, start, best))
    weight_of, number_of = cupy.zeros((n, BINS), np.float32), cupy.zeros((n, BINS), np.int32)
    if not only_best:
        histogram = (scores, start, best, weight_of, number_of)
        kernels.launch("select.cu", "segment_histogram", (chunks, n), histogram)
    last_bin, count = cupy.empty(n, np.int32), cupy.empty(n, np.int64)
    total, top, position = cupy.empty(n, np.float64), cupy.empty(n, np.float32), cupy.empty(n, np.int64)
    arguments = (
        weight_of,
        number_of,
        best,
        fraction,
        max(maximum, 0),
        only_best,
        last_bin,
        count,
        total,
        top,
        position,
    )
    kernels.launch("select.cu", "segment_threshold", (n,), arguments)
    position = cupy.where(position < 0, -1, position + start[:-1])
    if only_best:
        found = position[position >= 0]
    else:
        cursor = (cupy.cumsum(count) - count).astype(np.uint64)
        found = cupy.empty(int(count.sum()), np.int64)
        kernels.launch(
            "select.cu", "segment_fill", (chunks, n), (scores, start, top, last_bin, cursor, found)
        )
        found.sort()
    return Selection(found, count, total, top, position)
