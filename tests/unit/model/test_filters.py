"""Filters against their formulas on single waves, and against RELION's image handler."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mpiapp.model import filters


def test_lowpass_edge() -> None:
    radius = np.array([0.0, 8.9, 9.0, 9.25, 10.0, 10.75, 11.0, 30.0])
    found = filters.lowpass_weight(radius, 10.0)
    expected = [0.5 - 0.5 * math.cos(math.pi * min(max(11.0 - r, 0.0), 2.0) / 2.0) for r in radius]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert filters.lowpass_weight(np.array([3.0, 3.1]), 3.0, edge=0.0).tolist() == [1.0, 0.0]


def wave(box: int, k: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.mgrid[:box, :box, :box]
    return np.cos(2 * np.pi * (k[0] * z + k[1] * y + k[2] * x) / box + 0.3).astype(np.float32)


@pytest.mark.parametrize("k", [(0, 0, 3), (2, -4, 1), (-3, 5, 0), (6, 4, 5)])
def test_filters_scale_single_waves(k: tuple[int, int, int]) -> None:
    box, pixel = 24, 2.0
    volume = wave(box, k)
    r = math.sqrt(sum(i * i for i in k))
    low = 1.0 if r < 5 else 0.0 if r > 7 else 0.5 - 0.5 * math.cos(math.pi * (7 - r) / 2)
    np.testing.assert_allclose(filters.lowpass_map(volume, pixel, box * pixel / 6.0), low * volume, atol=1e-5)
    damping = math.exp(-50.0 / 4 * (r / (box * pixel)) ** 2)
    np.testing.assert_allclose(filters.apply_bfactor(volume, pixel, 50.0), damping * volume, atol=1e-5)


def test_bfactor_leaves_nothing_in_the_corners() -> None:
    weights = filters.bfactor_weight(np.array([0.0, 12.0, 12.1]), 24, 2.0, -100.0)
    np.testing.assert_allclose(weights, [1.0, math.exp(25 * 0.0625), 0.0], rtol=1e-6)


def test_gridding_correction() -> None:
    correction = filters.gridding_correction(16, 32)
    assert correction.dtype == np.float32
    assert correction[8, 8, 8] == 1.0
    for z, y, x in ((0, 8, 8), (3, 5, 12), (0, 0, 0)):
        u = math.sqrt((z - 8) ** 2 + (y - 8) ** 2 + (x - 8) ** 2) / 32
        assert correction[z, y, x] == pytest.approx((math.sin(math.pi * u) / (math.pi * u)) ** 2, rel=1e-5)
    np.testing.assert_allclose(filters.gridding_correction(16, 32, ndim=2), correction[8], rtol=1e-6)


def test_linear_interpolation_in_a_padded_transform_is_undone_by_the_correction() -> None:
    """Reading a transform half-way between samples damps a point at r by sinc^2 on average over offsets."""
    padded, x = 32, 5
    k = np.arange(padded)
    values = np.exp(-2j * np.pi * k * x / padded)
    offsets = (np.arange(1000) + 0.5) / 1000
    damped = [
        np.mean(((1 - f) * values + f * np.roll(values, -1)) * np.exp(2j * np.pi * (k + f) * x / padded))
        for f in offsets
    ]
    assert filters.gridding_correction(16, padded, ndim=2)[8, 8 + x] == pytest.approx(
        np.mean(damped).real, rel=1e-5
    )


def test_shell_weights_round() -> None:
    radius = np.array([[0.0, 0.49, 0.5], [1.4, 2.6, 3.5]])
    found = filters.shell_weights(radius, np.array([1.0, 2.0, 3.0, 4.0], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == [[1.0, 1.0, 2.0], [2.0, 4.0, 0.0]]


@pytest.mark.relion
def test_against_relion(relion: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    volume = rng.normal(size=(32, 32, 32)).astype(np.float32)
    mrcfile.write(tmp_path / "in.mrc", volume, voxel_size=3.0)
    # 12 angstrom is shell 8 exactly; at other resolutions the image handler rounds to a shell
    for flag, value, found in (
        ("--lowpass", "12", filters.lowpass_map(volume, 3.0, 12.0)),
        ("--bfactor", "300", filters.apply_bfactor(volume, 3.0, 300.0)),
    ):
        flags = ["--i", "in.mrc", "--o", "out.mrc", "--angpix", "3", flag, value]
        program = relion / "relion_image_handler"
        subprocess.run([program, *flags], cwd=tmp_path, check=True, capture_output=True)
        np.testing.assert_allclose(found, mrcfile.read(tmp_path / "out.mrc"), atol=2e-6)
