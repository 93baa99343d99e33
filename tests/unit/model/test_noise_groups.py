"""Which images share a noise spectrum."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mpiapp.model.noise_groups import LEAST_IMAGES, MOST_GROUPS, mean_spectra, noise_groups


def test_parts_are_ranges_of_defocus_within_an_optics_group() -> None:
    rng = np.random.default_rng(1)
    optics = (np.arange(900) % 2).astype(np.int32)
    defocus = rng.uniform(8000, 25000, 900)
    group, of = noise_groups(optics, defocus, 2)
    assert of.tolist() == [0] * 9 + [1] * 9
    assert (of[group] == optics).all()
    assert np.bincount(group).tolist() == [LEAST_IMAGES] * 18
    for g in range(2):
        edges = [(defocus[group == k].min(), defocus[group == k].max()) for k in np.flatnonzero(of == g)]
        assert all(a[1] < b[0] for a, b in pairwise(edges))


def test_few_images_share_one_and_many_groups_are_limited() -> None:
    group, of = noise_groups(np.zeros(60, np.int32), np.arange(60.0), 1)
    assert of.tolist() == [0]
    assert not group.any()
    many = np.zeros(100_000, np.int32)
    assert noise_groups(many, np.arange(many.size, dtype=float), 1)[1].size == MOST_GROUPS
    each = np.repeat(np.arange(100, dtype=np.int32), 200)
    assert noise_groups(each, np.arange(each.size, dtype=float), 100)[1].tolist() == list(range(100))


def test_an_optics_group_without_images_keeps_its_place() -> None:
    group, of = noise_groups(np.full(5, 1, np.int32), np.arange(5.0), 3)
    assert of.tolist() == [0, 1, 2]
    assert group.tolist() == [1] * 5


def test_mean_spectra_count_images() -> None:
    sigma2 = np.array([[1.0, 2.0], [4.0, 8.0]])
    out = mean_spectra(sigma2, np.array([0, 0, 1, 1], np.int32), np.array([0, 0, 0, 2]), 3)
    np.testing.assert_allclose(out, [[2.0, 4.0], [0.0, 0.0], [4.0, 8.0]])
