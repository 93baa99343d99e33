"""postprocess.star, FSC for the EMDB, detector tables."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from mpiapp.errors import InputError
from mpiapp.io.maps_in import load_alike, load_like, load_map
from mpiapp.io.mrc import write_map
from mpiapp.io.mtf import read_mtf
from mpiapp.io.postprocess_star import (
    PostprocessRecord,
    read_postprocess,
    write_emdb_fsc,
    write_fsc_text,
    write_postprocess,
)


def test_postprocess_star_reads_back(tmp_path: Path) -> None:
    frequency = np.arange(5) / 40
    curve = np.array([1.0, 0.9, 0.5, 0.1, -0.02])
    record = PostprocessRecord(
        {"rlnFinalResolution": 20.0, "rlnMaskName": "a mask.mrc"},
        frequency,
        {"corrected": curve, "unmasked": curve / 2},
        {"original": -curve},
    )
    write_postprocess(tmp_path / "post.star", record, "made by a test")
    assert (tmp_path / "post.star").read_text().startswith("# made by a test")
    found = read_postprocess(tmp_path / "post.star")
    assert found.general["rlnMaskName"] == "a mask.mrc"
    np.testing.assert_allclose(found.frequency_invA, frequency, atol=1e-6)
    assert list(found.fsc) == ["corrected", "unmasked"]
    np.testing.assert_allclose(found.fsc["corrected"], curve, atol=1e-6)
    np.testing.assert_allclose(found.guinier["original"], -curve, atol=1e-6)


def test_fsc_for_the_emdb(tmp_path: Path) -> None:
    frequency = np.arange(3) / 30
    write_emdb_fsc(tmp_path / "fsc.xml", frequency, np.array([1.0, 0.5, 0.25]), 'a "title" & more')
    root = ElementTree.parse(tmp_path / "fsc.xml").getroot()
    assert (root.tag, root.attrib["title"]) == ("fsc", 'a "title" & more')
    points = [(float(c[0].text or ""), float(c[1].text or "")) for c in root]
    assert points == [(pytest.approx(1 / 999, abs=1e-6), 1.0), (pytest.approx(1 / 30, abs=1e-6), 0.5),
                      (pytest.approx(2 / 30, abs=1e-6), 0.25)]  # fmt: skip
    write_fsc_text(tmp_path / "fsc.dat", frequency, np.array([1.0, 0.5, 0.25]))
    assert np.loadtxt(tmp_path / "fsc.dat")[1].tolist() == [pytest.approx(1 / 30, abs=1e-6), 0.5]


def mtf_file(path: Path, rows: str) -> Path:
    head = "data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n"
    path.write_text(head + rows)
    return path


def test_detector_table(tmp_path: Path) -> None:
    mtf = read_mtf(mtf_file(tmp_path / "mtf.star", "0 1\n0.25 0.6\n0.5 0.2\n"), 2.0)
    np.testing.assert_allclose(mtf.frequency_invA, [0, 0.125, 0.25])
    with pytest.raises(InputError, match=r"row 2 is 0; expected a value above 0"):
        read_mtf(mtf_file(tmp_path / "zero.star", "0 1\n0.25 0\n"), 2.0)
    with pytest.raises(InputError, match=r"must rise, but row 3 has 0.2 after 0.25"):
        read_mtf(mtf_file(tmp_path / "back.star", "0 1\n0.25 0.5\n0.2 0.6\n"), 2.0)


def test_maps_are_checked(tmp_path: Path) -> None:
    write_map(tmp_path / "a.mrc", np.zeros((8, 8, 8)), 2.0)
    write_map(tmp_path / "b.mrc", np.zeros((10, 10, 10)), 2.0)
    write_map(tmp_path / "flat.mrc", np.zeros((8, 10, 10)), 2.0)
    write_map(tmp_path / "nan.mrc", np.full((8, 8, 8), np.nan), 2.0)
    source = load_map(tmp_path / "a.mrc")
    assert source.pixel_size_A == 2.0
    assert load_map(tmp_path / "a.mrc", 3.0).pixel_size_A == 3.0
    with pytest.raises(InputError, match=r"b.mrc: a map of 10 x 10 x 10 voxels, but .*a.mrc has 8 x 8 x 8"):
        load_like(tmp_path / "b.mrc", source, tmp_path / "a.mrc")
    with pytest.raises(InputError, match="10 x 10 x 8 voxels; expected a cube"):
        load_map(tmp_path / "flat.mrc")
    with pytest.raises(InputError, match="512 voxels are NaN"):
        load_map(tmp_path / "nan.mrc")


def test_maps_are_read_side_by_side(tmp_path: Path) -> None:
    """In the order given; of several faults the first file's is told."""
    for k, box in enumerate((8, 8, 10)):
        write_map(tmp_path / f"{k}.mrc", np.full((box, box, box), float(k)), 2.0)
    write_map(tmp_path / "nan.mrc", np.full((8, 8, 8), np.nan), 2.0)
    first, (second, again) = load_alike([tmp_path / f"{k}.mrc" for k in (1, 0, 1)], 3.0)
    assert first.pixel_size_A == 3.0
    assert [m[0, 0, 0] for m in (first.density, second, again)] == [1, 0, 1]
    with pytest.raises(InputError, match=r"2.mrc: a map of 10 x 10 x 10 voxels, but .*0.mrc has 8 x 8 x 8"):
        load_alike([tmp_path / "0.mrc", tmp_path / "2.mrc", tmp_path / "nan.mrc"])
    with pytest.raises(InputError, match=r"nan.mrc: 512 voxels"):
        load_alike([tmp_path / "nan.mrc", tmp_path / "2.mrc"])
