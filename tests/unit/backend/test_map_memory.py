"""Planned memory of sums and maps is that of the arrays which are made, at their largest."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from mpiapp.backend.map_memory import LEAST, insertion_items, reconstruction_items
from mpiapp.backend.memory import BESIDE_SHARE, total
from mpiapp.engine.iteration import add_to
from mpiapp.model.projection import reference_spectrum, shell_index, squared_radius, transform_reference
from mpiapp.model.reconstruct import downsampled_average, real_space_map, spectra_from_fsc, wiener


def peak(work: Callable[[], object]) -> int:
    """Most bytes of arrays that are alive at the same time beyond those of before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True, scope="module")
def transforms_loaded() -> None:
    """What makes transforms takes memory too."""
    transform_reference(np.zeros((8, 8, 8), np.float32), 4, 2.0)


@pytest.mark.parametrize(("box", "padding"), [(160, 2.0), (128, 1.5), (128, 1.0)])
def test_a_map_takes_no_more_than_planned_and_not_much_less(box: int, padding: float) -> None:
    half = transform_reference(np.zeros((box, box, box), np.float32), box // 2, padding)
    sums = np.ones((*half.shape, 4), np.float32)  # as on a device
    squared_radius(sums.shape[2] - 1), shell_index(sums.shape[2] - 1, padding)  # kept in host memory only
    fsc, tau2 = np.linspace(1, 0, box // 2 + 1), np.ones(box // 2 + 1)

    def reconstruct() -> None:
        real_space_map(wiener(sums, tau2, padding), box, padding)

    planned = total(reconstruction_items(box, padding, symmetric=False, memory=LEAST)) - sums.nbytes
    measured = max(
        peak(reconstruct),
        peak(lambda: spectra_from_fsc(sums, fsc, padding)),
        peak(lambda: downsampled_average(sums, box // 2, padding)),
        half.nbytes + peak(lambda: reference_spectrum(half, padding, box // 2 + 1)),
    )
    assert measured <= planned <= 1.2 * measured


def test_the_final_map_of_both_halves_fits_as_planned() -> None:
    """One process holds the sums of both halves, adds them, and makes the map."""
    box, padding = 160, 2.0
    shape = transform_reference(np.zeros((box, box, box), np.float32), box // 2, padding).shape
    halves = [np.ones((*shape, 4), np.float32) for _ in range(2)]

    def join() -> None:
        add_to(halves[0], halves[1])
        real_space_map(wiener(halves[0], np.ones(box // 2 + 1), padding), box, padding)

    planned = halves[1].nbytes + total(reconstruction_items(box, padding, symmetric=False, memory=LEAST))
    measured = sum(half.nbytes for half in halves) + peak(join)
    assert measured <= planned <= 1.2 * measured


def test_halves_take_turns_where_a_device_is_small() -> None:
    sums = 16 * (2 * 65 + 1) ** 2 * 66  # R = 65 of a box of 64
    small, large = (int(f * sums / BESIDE_SHARE) for f in (0.99, 1.01))

    def accumulators(memory: int) -> int:
        return reconstruction_items(64, 2.0, halves=2, symmetric=False, memory=memory)[0].bytes

    assert accumulators(small) == sums
    assert accumulators(large) == accumulators(0) == 2 * sums


def test_what_stays_beside_the_map_by_hand() -> None:
    grid = 2 * 32 + 1  # R of a box of 64
    voxels = (2 * grid + 1) ** 2 * (grid + 1)

    def sizes(**options: bool | int) -> dict[str, int]:
        return {item.name: item.bytes for item in reconstruction_items(64, 2.0, **options)}

    one = sizes(symmetric=False)
    assert one["accumulators"] == 16 * voxels
    assert "symmetrised sums" not in one
    # a process alone holds both halves, and one of them while mates are added in a copy
    both = sizes(halves=2, symmetric=True)
    assert both["accumulators"] == 2 * both["symmetrised sums"] == 2 * 16 * voxels


def test_maps_are_linear_in_classes_and_cubic_in_the_box() -> None:
    maps = [total(reconstruction_items(64, 2.0, k)) for k in range(1, 6)]
    assert np.ptp(np.diff(maps)) == 0
    assert maps[1] > maps[0]
    boxes = [total(reconstruction_items(box, 2.0)) for box in (256, 512)]
    assert np.log2(boxes[1] / boxes[0]) == pytest.approx(3, abs=0.05)


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
