"""References of a classification: one map, a list of maps, a stack of averages; bad ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpiapp.engine.references import one_for_each, read_averages, read_maps
from mpiapp.errors import InputError
from mpiapp.io.mrc import write_map, write_stack


def write(path: Path, seed: int, box: int = 8, pixel_A: float = 3.0) -> np.ndarray:
    volume = np.random.default_rng(seed).normal(size=(box,) * 3).astype(np.float32)
    write_map(path, volume, pixel_A)
    return volume


def write_list(path: Path, *names: Path) -> str:
    rows = "\n".join(str(name) for name in names)
    path.write_text(f"data_model_classes\n\nloop_\n_rlnReferenceImage #1\n{rows}\n")
    return str(path)


def test_one_map(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.mrc", 1)
    volumes, pixel, _ = read_maps(str(tmp_path / "a.mrc"))
    np.testing.assert_array_equal(volumes, expected[None])
    assert pixel == pytest.approx(3.0)


def test_a_list_of_maps(tmp_path: Path) -> None:
    expected = [write(tmp_path / f"{k}.mrc", k) for k in range(3)]
    star = write_list(tmp_path / "refs.star", *(tmp_path / f"{k}.mrc" for k in range(3)))
    np.testing.assert_array_equal(read_maps(star)[0], expected)


@pytest.mark.parametrize(("box", "pixel_A"), [(10, 3.0), (8, 2.0)])
def test_maps_on_different_scales_are_refused(tmp_path: Path, box: int, pixel_A: float) -> None:
    write(tmp_path / "a.mrc", 1)
    write(tmp_path / "b.mrc", 2, box, pixel_A)
    star = write_list(tmp_path / "refs.star", tmp_path / "a.mrc", tmp_path / "b.mrc")
    with pytest.raises(InputError, match=r"b\.mrc: box .* but .*a\.mrc"):
        read_maps(star)


def test_a_list_without_maps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.star").write_text("data_\n\nloop_\n_rlnAngleRot #1\n1.0\n")
    with pytest.raises(InputError, match="rlnReferenceImage"):
        read_maps(str(tmp_path / "no.star"))


def test_averages(tmp_path: Path) -> None:
    images = np.random.default_rng(1).normal(size=(4, 8, 8)).astype(np.float32)
    write_stack(tmp_path / "a.mrcs", images, 3.0)
    np.testing.assert_array_equal(read_averages(str(tmp_path / "a.mrcs"))[0], images)
    images[2, 1, 1] = np.nan
    write_stack(tmp_path / "bad.mrcs", images, 3.0)
    with pytest.raises(InputError, match="image 3 of 4"):
        read_averages(str(tmp_path / "bad.mrcs"))
    write_stack(tmp_path / "odd.mrcs", np.zeros((2, 7, 7), np.float32), 3.0)
    with pytest.raises(InputError, match="even"):
        read_averages(str(tmp_path / "odd.mrcs"))


def test_numbers_of_references_and_classes() -> None:
    three = np.arange(3.0, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 4), np.float32)
    copies, n = one_for_each(three[:1], "a.mrc", 5, given=True)
    assert (len(copies), n) == (5, 5)
    assert one_for_each(three, "refs.star", 1, given=False)[1] == 3
    with pytest.raises(InputError, match=r"3 references for --K 2"):
        one_for_each(three, "refs.star", 2, given=True)


def test_what_is_no_stack_of_averages(tmp_path: Path) -> None:
    write(tmp_path / "map.mrc", 1)
    with pytest.raises(InputError, match="looks like a map of 8 voxels"):
        read_averages(str(tmp_path / "map.mrc"))
    with pytest.raises(InputError, match="read from an MRC stack"):
        read_averages(str(tmp_path / "list.star"))
    images = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)
    images[1] = 0
    write_stack(tmp_path / "flat.mrcs", images, 3.0)
    with pytest.raises(InputError, match="all pixels of image 2 of 3 are the same"):
        read_averages(str(tmp_path / "flat.mrcs"))
