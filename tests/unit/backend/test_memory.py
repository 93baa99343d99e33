"""Planned sizes are those of the arrays that the algorithms make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpiapp.backend.memory import (
    CACHE_SHARE,
    Item,
    Load,
    Tables,
    cache_bytes,
    images_held,
    n_pixels,
    orientation_bytes,
    required,
    row_length,
    step_items,
)
from mpiapp.model.images import padded_planes
from mpiapp.model.projection import transform_reference

GLOBAL = Load(box=64, padding=2.0, r_max=20, r_coarse=12, n_dir=192, n_psi=24, n_shifts=29)
LOCAL = replace(GLOBAL, near=(29, 7))
ALL, NONE = Tables(True, True, True), Tables(False, False, False)
GIB = 1 << 30


def sizes(load: Load, tables: Tables = ALL) -> dict[str, int]:
    return {item.name: item.bytes for item in step_items(load, tables)}


@pytest.mark.parametrize(("box", "padding", "r_max"), [(32, 2.0, 9), (32, 1.0, 16), (48, 1.5, 24)])
def test_sizes_are_those_of_the_arrays(box: int, padding: float, r_max: int) -> None:
    load = replace(GLOBAL, box=box, padding=padding, r_max=r_max, r_coarse=r_max)
    transform = transform_reference(np.zeros((box, box, box), np.float32), r_max, padding)
    plane = padded_planes(np.zeros((1, box, box), np.float32), r_max)
    found = sizes(load)
    assert found["reference, padded transform"] == transform.nbytes
    assert found["accumulators"] == np.zeros((*transform.shape, 4), np.float32).nbytes
    assert found["prepared plane"] == plane.nbytes
    assert found["unmasked transform"] == 8 * n_pixels(r_max)


def test_tables_and_scores_by_hand() -> None:
    found = sizes(GLOBAL)
    # pixels of the half plane with |k| <= 12, counted one by one
    n = sum(x * x + y * y <= 144 for x in range(13) for y in range(-12, 13) if x > 0 or y >= 0)
    assert n_pixels(12) == n
    row = -(-n // 64) * 64
    assert row_length(12) == row
    # real and imaginary part in half precision, |P|^2 in single precision
    assert found["coarse slices"] == 192 * row * (2 * 2 + 4)
    assert found["fine slices"] == 192 * 4 * row_length(20) * 2 * 2
    assert found["sums by orientation"] == orientation_bytes(GLOBAL) == 192 * 4 * 48 * n_pixels(20) * 16
    assert found["coarse scores"] == 192 * 24 * 29 * 4
    assert found["turned and shifted rows"] == 12 * 29 * row * 2 * 2  # half a turn by symmetry
    single = sizes(replace(GLOBAL, number_bytes=4))
    assert single["fine slices"] == 2 * found["fine slices"]
    assert single["coarse scores"] == found["coarse scores"]


def test_slices_are_held_once_or_for_each_image() -> None:
    kept = {item.name: item.per_image for item in step_items(LOCAL, ALL)}
    assert not kept["coarse slices"]
    assert not kept["fine slices"]
    made = {item.name: item.per_image for item in step_items(LOCAL, NONE)}
    assert made["coarse slices"]
    assert made["fine slices"]
    assert "sums by orientation" not in made


def test_sums_of_very_many_particles_are_compensated() -> None:
    few, many = (sizes(replace(GLOBAL, particles=n))["accumulators"] for n in (50_000, 50_001))
    assert many == 2 * few


def test_scores_take_a_share_of_the_memory_at_most() -> None:
    scores = next(item for item in step_items(GLOBAL, ALL, GIB) if item.name == "coarse scores")
    assert scores.held(10) == 10 * scores.bytes
    assert scores.held(10_000) == int(0.08 * GIB) < 10_000 * scores.bytes
    assert Item("one", 100, True, 10).held(7) == 100  # one image is the least


@pytest.mark.parametrize("load", [GLOBAL, LOCAL])
def test_memory_is_linear_in_classes(load: Load) -> None:
    needed = [required(replace(load, classes=k)) for k in range(1, 6)]
    assert np.ptp(np.diff(needed)) == 0
    assert needed[1] > needed[0]


def test_memory_rises_with_the_third_power_of_the_box_at_nyquist() -> None:
    needed = [required(replace(LOCAL, box=b, r_max=b // 2, r_coarse=b // 2)) for b in (256, 512)]
    assert np.log2(needed[1] / needed[0]) == pytest.approx(3, abs=0.1)


def test_images_are_kept_in_single_precision_as_far_as_their_share_goes() -> None:
    one = np.zeros((360, 360), np.float32).nbytes
    assert cache_bytes({360: 100}, 80 * GIB) == 100 * one
    assert images_held(10_000, 360, 7 * one + 3) == 7
    assert images_held(10_000, 360, -5) == 0
    memory = 2 * GIB
    assert cache_bytes({360: 10**6}, memory) == int(CACHE_SHARE * memory) // one * one
    assert cache_bytes({64: 10, 360: 10**6}, memory) <= CACHE_SHARE * memory
