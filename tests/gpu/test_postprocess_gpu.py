"""Post-processing and local resolution on a device against float64 on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpiapp.backend.gpu_device import start_arrays
from mpiapp.cli.main import main
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.postprocess_star import read_postprocess
from mpiapp.model.arrays import to_host
from mpiapp.model.fsc import solvent_corrected_fsc
from mpiapp.model.masks import soft_sphere
from mpiapp.model.orientation_quality import conical_fsc
from mpiapp.model.radial import amplitude_sums, filter_radially, radii
from mpiapp.model.random_phases import randomise_transform
from mpiapp.parallel.serial import SerialTeam

pytestmark = pytest.mark.gpu
BOX, PIXEL = 96, 2.0


@pytest.fixture(scope="module")
def maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half maps of a ball of random density in noise, and a mask."""
    rng = np.random.default_rng(2)
    signal = soft_sphere(BOX, 22, 6) * (1 + rng.normal(size=(BOX,) * 3))
    halves = [(signal + rng.normal(size=signal.shape)).astype(np.float32) for _ in range(2)]
    return halves[0], halves[1], soft_sphere(BOX, 26, 6)


def test_curves(maps: tuple[np.ndarray, ...]) -> None:
    here = start_arrays(SerialTeam(1), "")
    found = solvent_corrected_fsc(*map(here, maps), 3, randomise_from=12)
    expected = solvent_corrected_fsc(*(m.astype(float) for m in maps), 3, randomise_from=12)
    for name in ("unmasked", "masked", "randomised"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-5)
    cones = [conical_fsc(*result.masked_transforms, PIXEL) for result in (found, expected)]
    np.testing.assert_allclose(cones[0].curves, cones[1].curves, atol=1e-3)


def test_transforms(maps: tuple[np.ndarray, ...]) -> None:
    here = start_arrays(SerialTeam(1), "")
    transform = np.fft.rfftn(maps[0].astype(float))
    single = transform.astype(np.complex64)
    expected = randomise_transform(transform, 7, np.random.default_rng(1))
    found = to_host(randomise_transform(here(single), 7, np.random.default_rng(1)))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    sums, counts = amplitude_sums(here(single))
    expected_sums, expected_counts = amplitude_sums(transform)
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)
    np.testing.assert_array_equal(counts, expected_counts)
    there = here(single)
    filter_radially(there, np.cos(radii(BOX)))
    filter_radially(transform, np.cos(radii(BOX)))
    np.testing.assert_allclose(to_host(there), transform, atol=1e-6 * np.abs(transform).max())


@pytest.mark.parametrize("words", [["--auto_bfac"], ["--locres", "--adhoc_bfac", "-100"]])
def test_jobs(maps: tuple[np.ndarray, ...], tmp_path: Path, words: list[str]) -> None:
    for name, density in zip(("half1", "half2", "mask"), maps, strict=True):
        write_map(tmp_path / f"{name}.mrc", density, PIXEL)
    files = ["--i", f"{tmp_path}/half1.mrc", "--mask", f"{tmp_path}/mask.mrc"]
    for o, more in (("cpu", []), ("gpu", ["--gpu"])):
        assert main(["postprocess", *files, *words, *more, "--o", f"{tmp_path}/{o}/"]) == 0
    names = ("_locres", "_locres_filtered") if "--locres" in words else ("", "_masked")
    for name in names:
        one, two = (read_map(tmp_path / o / f"postprocess{name}.mrc")[0] for o in ("cpu", "gpu"))
        np.testing.assert_allclose(two, one, atol=1e-4 * np.abs(one).max())
    if "--locres" not in words:
        stars = [read_postprocess(tmp_path / o / "postprocess.star") for o in ("cpu", "gpu")]
        bfactors = [float(star.general["rlnBfactorUsedForSharpening"]) for star in stars]
        assert bfactors[1] == pytest.approx(bfactors[0], rel=1e-4)
