"""Malformed maps and masks, and outputs that can not be written: refused with place and remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from io_builders import mrc_bytes

from mpiapp.errors import InputError
from mpiapp.io.checks import check_mask, check_reference
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.star import write_star


def some_map(n: int = 16) -> np.ndarray:
    rng = np.random.default_rng(1)
    array = rng.random((n, n, n)).astype(np.float32)
    array[n // 4 : -n // 4, n // 4 : -n // 4, n // 4 : -n // 4] += 1
    return array


def with_nan() -> np.ndarray:
    array = some_map()
    array[1, 2, 3] = np.nan
    array[5, 5, 5] = np.inf
    return array


REFERENCES: dict[str, tuple[np.ndarray, list[str]]] = {
    "not cubic": (some_map()[:, :, :12], ["12 x 16 x 16", "not cubic", "--new_box"]),
    "odd": (some_map(15), ["15 voxels is odd", "--new_box 16"]),
    "an image": (some_map()[:1], ["16 x 16 x 1", "three-dimensional"]),
    "NaN": (with_nan(), ["2 voxels", "x=3, y=2, z=1", "--remove_nan"]),
    "flat": (np.full((16, 16, 16), 2.0), ["all voxels are 2", "shows a particle"]),
}


@pytest.mark.parametrize("case", list(REFERENCES))
def test_references(case: str) -> None:
    array, parts = REFERENCES[case]
    with pytest.raises(InputError) as caught:
        check_reference(array, 3.0, "ref.mrc")
    for part in ["ref.mrc", *parts]:
        assert part in str(caught.value)


MASKS: dict[str, tuple[np.ndarray, list[str]]] = {
    "other size": (np.ones((8, 8, 8)), ["8 x 8 x 8", "16 x 16 x 16", "make the mask from it"]),
    "a map": (some_map() * 5, ["expected 0 to 1", "relion_mask_create"]),
    "empty": (np.zeros((16, 16, 16)), ["empty", "threshold"]),
    "NaN": (with_nan(), ["NaN", "make it again"]),
}


@pytest.mark.parametrize("case", list(MASKS))
def test_masks(case: str) -> None:
    array, parts = MASKS[case]
    with pytest.raises(InputError) as caught:
        check_mask(array, 3.0, "mask.mrc", (16, 16, 16), 3.0)
    for part in ["mask.mrc", *parts]:
        assert part in str(caught.value)


MAP_FILES: dict[str, tuple[bytes | None, list[str]]] = {
    "absent": (None, ["no such file", "working directory"]),
    "cut off": (mrc_bytes(some_map())[:-100], ["16 sections", "holds 15", "cut off"]),
    "not MRC": (b"<html>" + bytes(2000), ["no MRC file", "check the name"]),
    "header cut off": (mrc_bytes(some_map())[:500], ["500 bytes", "1024"]),
    "packed and cut off": (gzip.compress(mrc_bytes(some_map()))[:-2000], ["map.mrc", "copy it again"]),
}


@pytest.mark.parametrize("case", list(MAP_FILES))
def test_map_files(tmp_path: Path, case: str) -> None:
    content, parts = MAP_FILES[case]
    path = tmp_path / "map.mrc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_map(path)
    for part in ["map.mrc", *parts]:
        assert part in str(caught.value)


def test_output_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda path: write_map(path, some_map(), 3.0),
        lambda path: write_star(path, {"a": {"rlnX": 1}}),
    ):
        with pytest.raises(InputError, match=r"file/out.*written"):
            write(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="pixel size of 0"):
        write_map(tmp_path / "m.mrc", some_map(), 0.0)
