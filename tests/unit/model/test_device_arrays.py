"""Post-processing on arrays that refuse what device arrays refuse gives what it gives on host arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strict_arrays import StrictArray, strict_module

from mpiapp.cli.main import main
from mpiapp.engine import locres, postprocess
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.postprocess_star import read_postprocess
from mpiapp.model.arrays import in_slabs
from mpiapp.model.masks import soft_sphere
from mpiapp.model.orientation_quality import ENOUGH, conical_fsc

BOX, PIXEL = 40, 3.0


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Half maps of a ball of random density in noise, and a mask. Returns their folder."""
    rng = np.random.default_rng(2)
    signal = soft_sphere(BOX, 9, 3) * (1 + rng.normal(size=(BOX,) * 3))
    for h in (1, 2):
        write_map(tmp_path / f"run_half{h}_unfil.mrc", signal + 0.5 * rng.normal(size=signal.shape), PIXEL)
    write_map(tmp_path / "mask.mrc", soft_sphere(BOX, 12, 5), PIXEL)
    return tmp_path


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> list[StrictArray]:
    """Makes jobs take strict arrays for --gpu; the arrays that were put there."""
    xp, put = strict_module().xp, []

    def start(team: object, gpu: str | None) -> object:
        def here(array: np.ndarray) -> object:
            if gpu is None:
                return array
            put.append(xp.asarray(array))
            return put[-1]

        return here

    for module in (postprocess, locres):
        monkeypatch.setattr(module, "start_arrays", start)
    return put


def test_strict_arrays_refuse(on_device: list[StrictArray]) -> None:
    there = strict_module().xp.asarray(np.arange(6.0))
    for mixed in (lambda: there + np.ones(6), lambda: np.ones(6) + there, lambda: np.sqrt(there)):
        with pytest.raises(TypeError):
            mixed()
    assert (np.float32(2) * there).get().tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("mask", [True, False])
def test_postprocess(halves: Path, on_device: list[StrictArray], mask: bool) -> None:
    words = ["postprocess", "--i", f"{halves}/run_half1_unfil.mrc", "--half_maps", "--adhoc_bfac", "-50"]
    words += ["--mask", f"{halves}/mask.mrc"] if mask else []
    for o, more in (("cpu", []), ("gpu", ["--gpu"])):
        assert main([*words, "--o", f"{halves}/{o}/", *more]) == 0
    assert len(on_device) == 2 + mask
    expected, found = (read_postprocess(halves / o / "postprocess.star") for o in ("cpu", "gpu"))
    assert set(found.fsc) == set(expected.fsc)
    for name, curve in expected.fsc.items():
        np.testing.assert_allclose(found.fsc[name], curve, atol=1e-5)
    for name in ("", "_half1", "_half2", *(["_masked"] if mask else [])):
        one, two = (read_map(halves / o / f"postprocess{name}.mrc")[0] for o in ("cpu", "gpu"))
        np.testing.assert_allclose(one, two, atol=1e-5 * np.abs(one).max())
    cones = [
        np.loadtxt(halves / o / "postprocess_cones.csv", delimiter=",", skiprows=1) for o in ("cpu", "gpu")
    ]
    np.testing.assert_allclose(cones[1], cones[0], atol=1e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_local_resolution(halves: Path, on_device: list[StrictArray], exact: bool) -> None:
    words = ["postprocess", "--locres", "--i", f"{halves}/run_half1_unfil.mrc", "--adhoc_bfac", "-50"]
    words += ["--locres_sampling", "24", "--locres_maskrad", "12", "--locres_edgwidth", "12"]
    words += ["--locres_exact", "--locres_sampling", "48"] if exact else []
    for o, more in (("cpu", []), ("gpu", ["--gpu"])):
        assert main([*words, "--o", f"{halves}/{o}/", *more]) == 0
    assert len(on_device) == 2
    for name in ("locres", "locres_filtered"):
        one, two = (read_map(halves / o / f"postprocess_{name}.mrc")[0] for o in ("cpu", "gpu"))
        np.testing.assert_allclose(one, two, atol=1e-4 * np.abs(one).max())


def test_cones_of_a_box_of_which_a_part_is_taken(on_device: list[StrictArray]) -> None:
    box = 2 * ENOUGH
    rng = np.random.default_rng(4)
    k = np.minimum(np.arange(box), box - np.arange(box))
    fading = (k[:4, None, None] + k[:, None] + k[: box // 2 + 1] < 150).astype(np.complex64)
    first = np.zeros((box, box, box // 2 + 1), np.complex64)
    first[:4] = fading * rng.normal(size=fading.shape)
    second = first + rng.normal(size=first.shape, scale=0.2).astype(np.float32)
    xp = strict_module().xp
    expected = conical_fsc(first, second, 1.0)
    found = conical_fsc(xp.asarray(first), xp.asarray(second), 1.0)
    np.testing.assert_allclose(found.curves, expected.curves, atol=1e-5)


def test_slabs_on_a_device_come_one_after_the_other() -> None:
    from threading import get_ident

    there = strict_module().xp.asarray(np.zeros(40))
    assert set(in_slabs(lambda part: get_ident(), there, workers=4)) == {get_ident()}
