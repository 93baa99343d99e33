"""Planned sizes are those of the arrays that the algorithms make, and a planned batch fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpiapp.backend.memory import (
    LARGEST_BATCH,
    WANTED_BATCH,
    Load,
    cache_bytes,
    insertion_items,
    n_pixels,
    plan_step,
    reconstruction_items,
    required,
    row_length,
    step_items,
    total,
)
from mpiapp.model.images import padded_planes
from mpiapp.model.projection import transform_reference

GLOBAL = Load(box=64, padding=2.0, r_max=20, r_coarse=12, n_dir=192, n_psi=24, n_shifts=29)
LOCAL = replace(GLOBAL, n_dir=29, n_psi=7, local=True, table=False)
MIB = 1 << 20


def sizes(load: Load) -> dict[str, int]:
    return {item.name: item.bytes for item in step_items(load)}


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
    if r_max == box // 2:
        final = {item.name: item.bytes for item in reconstruction_items(box, padding)}
        assert final["accumulators"] == found["accumulators"]
        p = round(padding * box)
        assert final["padded transform"] == np.fft.rfftn(np.zeros((p, p, p), np.float32)).size * 8


@pytest.mark.parametrize(("r_max", "padding", "box"), [(9, 2.0, 32), (16, 1.5, 40)])
def test_sums_over_known_poses_by_hand(r_max: int, padding: float, box: int) -> None:
    found = {item.name: item for item in insertion_items(r_max, padding, box)}
    transform = transform_reference(np.zeros((2 * r_max,) * 3, np.float32), r_max, padding)
    assert found["accumulators"].bytes == np.zeros((*transform.shape, 4), np.float32).nbytes
    # the image as it is read, as it lies on the device and without corners; its transform and the work area of that
    arrays = [np.zeros((box, box), np.float32)] * 3 + [np.fft.rfft2(np.zeros((box, box), np.float32))] * 2
    assert found["image while it is prepared"].bytes == sum(
        a.size * (4 if a.dtype.kind == "f" else 8) for a in arrays
    )
    assert [item.per_image for item in found.values()] == [False, True, True, True]


def test_tables_and_scores_by_hand() -> None:
    found = sizes(GLOBAL)
    # pixels of the half plane with |k| <= 12, counted one by one
    n = sum(x * x + y * y <= 144 for x in range(13) for y in range(-12, 13) if x > 0 or y >= 0)
    assert n_pixels(12) == n
    row = -(-n // 8) * 8
    assert row_length(12) == row
    assert found["coarse slices"] == 192 * row * (
        2 * 2 + 4
    )  # real, imaginary part, |P|^2 in single precision
    assert found["fine slices"] == 192 * 4 * row_length(20) * 2 * 2
    assert found["coarse scores"] == 192 * 24 * 29 * 4
    assert found["turned and shifted rows"] == 12 * 29 * row * 2 * 2  # half a turn by symmetry
    single = sizes(replace(GLOBAL, number_bytes=4))
    assert single["fine slices"] == 2 * found["fine slices"]
    assert single["coarse scores"] == found["coarse scores"]


@pytest.mark.parametrize("load", [GLOBAL, LOCAL])
def test_memory_is_linear_in_classes(load: Load) -> None:
    needed = [required(replace(load, classes=k)) for k in range(1, 6)]
    assert np.ptp(np.diff(needed)) == 0
    assert needed[1] > needed[0]
    maps = [total(reconstruction_items(64, 2.0, k)) for k in range(1, 6)]
    assert np.ptp(np.diff(maps)) == 0


def test_memory_rises_with_the_third_power_of_the_box_at_nyquist() -> None:
    needed = [required(replace(LOCAL, box=b, r_max=b // 2, r_coarse=b // 2)) for b in (256, 512)]
    assert np.log2(needed[1] / needed[0]) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("load", [GLOBAL, LOCAL])
@pytest.mark.parametrize("free", [3 * MIB, 12 * MIB, 60 * MIB, 10_000 * MIB])
def test_the_batch_fits_and_is_the_largest_that_does(load: Load, free: int) -> None:
    plan = plan_step(load, free)
    if plan.batch:
        assert plan.total <= free
    if plan.batch < LARGEST_BATCH:
        assert total(plan.items, plan.batch + 1) > free
    assert plan.load.local == load.local


def test_the_table_of_fine_slices_gives_way_to_a_good_batch() -> None:
    fine = replace(GLOBAL, n_dir=12288, n_shifts=1)
    fixed = total(step_items(fine))
    image = total(step_items(fine), 1) - fixed
    assert plan_step(fine, fixed + WANTED_BATCH * image).route == "table"
    tight = plan_step(fine, fixed + image // 2)
    assert tight.route == "batch"
    assert tight.batch >= 1
    assert tight.total <= fixed + image // 2
    assert plan_step(LOCAL, 10_000 * MIB).route == "local"


def test_a_device_that_is_too_small_has_batch_zero() -> None:
    assert plan_step(GLOBAL, 1000).batch == 0
    assert plan_step(GLOBAL, -5).batch == 0
    assert plan_step(GLOBAL, required(GLOBAL)).batch == 1


def test_the_cache_holds_images_as_read() -> None:
    assert cache_bytes(360, 10_000) == np.zeros((1, 360, 360), np.float32).nbytes * 10_000
    assert cache_bytes(360, 10_000, float16=True) == cache_bytes(360, 10_000) // 2
