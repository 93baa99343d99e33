"""Particle tables: old and new RELION versions into arrays, and back without loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from io_builders import Project, star_text

from mpiapp.errors import InputError
from mpiapp.io.particles import read_particles, write_particles
from mpiapp.io.stacks import ImageReader
from mpiapp.io.star import read_star


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def test_arrays_of_a_plain_table(project: Project) -> None:
    table = read_particles(project.write())
    n = len(table)
    assert n == 16
    group = table.optics[0]
    assert (group.name, group.number, group.voltage_kV, group.cs_mm) == ("og1", 1, 300.0, 2.7)
    assert (group.amplitude_contrast, group.pixel_size_A, group.box) == (0.1, 3.0, 16)
    assert table.stack_paths == [project.stack(0), project.stack(1)]
    assert table.stack_index.tolist() == [0] * 8 + [1] * 8
    assert table.image_index.tolist() == [*range(8), *range(8)]
    assert np.array_equal(table.defocus_u_A, 15000 + 100.0 * np.arange(n))
    assert np.array_equal(table.rot_deg, 10.5 * np.arange(n))
    assert table.group_names == ["Movies/m0.mrc", "Movies/m1.mrc"]
    assert table.group_index.tolist() == [0] * 8 + [1] * 8
    # What the file does not have is filled as RELION does.
    for zeros in (table.tilt_deg, table.psi_deg, table.phase_shift_deg, table.ctf_bfactor_A2, table.half):
        assert not zeros.any()
    assert table.origin_A.shape == (n, 2)
    assert not table.origin_A.any()
    assert not table.class_number.any()
    assert (table.norm_correction == 1).all()
    assert (table.ctf_scale == 1).all()
    assert table.notices == []
    types = {
        table.stack_index.dtype,
        table.optics_index.dtype,
        table.group_index.dtype,
        table.class_number.dtype,
    }
    assert types == {np.dtype(np.int32)}
    assert (table.image_index.dtype, table.half.dtype) == (np.int64, np.int8)


def test_images_found_through_the_table(project: Project) -> None:
    table = read_particles(project.write())
    rows = np.array([11, 2, 15])
    found = ImageReader(table.stack_paths).read(table.stack_index[rows], table.image_index[rows])
    assert np.array_equal(found, project.images.reshape(16, 16, 16)[rows])


def test_row_and_line_of_a_particle(project: Project) -> None:
    path = project.write()
    place = read_particles(path).where(3)
    line = int(place.split("(line ")[1].rstrip(")"))
    assert path.read_text().splitlines()[line - 1].split()[0] == project.particles["rlnImageName"][3]
    assert "row 4 " in place


def test_base_folder(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "Select" / "job003"
    inside.mkdir(parents=True)
    path = project.write().rename(inside / "particles.star")
    assert read_particles(path).notices == []  # names start in the working directory
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    table = read_particles(path)
    assert table.stack_paths[0] == project.stack(0)
    assert str(tmp_path) in table.notices[0]
    assert read_particles(path, root=inside).stack_paths[0] == inside / "Extract/s0.mrcs"
    assert read_particles(path, root="..").stack_paths[0] == project.stack(0)


def test_optics_groups_are_renumbered(project: Project) -> None:
    project.optics = {label: cells * 3 for label, cells in project.optics.items()}
    project.optics["rlnOpticsGroup"] = [7, 0, 3]
    project.optics["rlnOpticsGroupName"] = ["seven", "nought", "three"]
    project.particles["rlnOpticsGroup"] = [(0, 3, 7, 7)[i % 4] for i in range(16)]
    table = read_particles(project.write())
    assert table.optics_index.tolist() == [1, 2, 0, 0] * 4
    assert [(g.name, g.number) for g in table.optics] == [("seven", 1), ("nought", 2), ("three", 3)]
    assert table.optics_frame["rlnOpticsGroup"].tolist() == [1, 2, 3]
    assert table.frame["rlnOpticsGroup"].tolist() == [2, 3, 1, 1] * 4
    assert any("renumbered" in notice for notice in table.notices)


def test_aberrations_and_magnification(shared: Path) -> None:
    table = read_particles(shared / "data/star_files/cryodrgn_relion5.star")
    group = table.optics[0]
    assert group.beam_tilt_mrad == (0.043489, 0.014097)
    assert group.odd_zernike == (0.0680480107376, 0.0982451014894, -1.79877045848, 0, 0, -1.36333410593)
    assert len(group.even_zernike) == 9
    assert group.even_zernike[-1] == -5.07283733403
    assert group.mag_matrix == (1.001833, -7.04404e-04, -8.23335e-04, 1.000381)
    assert not group.ctf_premultiplied
    assert (
        read_particles(shared / "data/star_files/empiar10204_betagal_relion31_particles.star")
        .optics[0]
        .mtf_file
        == "mtf_k2_200kV.star"
    )


def test_group_name_goes_before_micrograph(project: Project) -> None:
    project.particles["rlnGroupName"] = ["b", "a"] * 8
    table = read_particles(project.write())
    assert table.group_names == ["b", "a"]
    assert table.group_index.tolist() == [0, 1] * 8
    del project.particles["rlnGroupName"], project.particles["rlnMicrographName"]
    assert read_particles(project.write()).group_names == ["Extract/s0.mrcs", "Extract/s1.mrcs"]


def test_one_micrograph_of_two_jobs_is_one_group(project: Project) -> None:
    project.particles["rlnMicrographName"] = [
        "Polish/job012/m0.mrc",
        "MotionCorr/job002/m0.mrc",
        "m1.mrc",
        "x",
    ] * 4
    table = read_particles(project.write())
    assert table.group_names == ["m0.mrc", "m1.mrc", "x"]
    assert table.group_index.tolist() == [0, 0, 1, 2] * 4


def test_priors_stand_in_for_angles(project: Project) -> None:
    project.particles["rlnAngleTiltPrior"] = [f"{80 + i}.5" for i in range(16)]
    project.particles["rlnAnglePsiPrior"] = list(range(16))
    project.particles["rlnAnglePsi"] = [1] * 16
    del project.particles["rlnDefocusV"]
    table = read_particles(project.write())
    assert np.array_equal(table.tilt_deg, 80.5 + np.arange(16))
    assert (table.psi_deg == 1).all()
    assert np.array_equal(table.defocus_v_A, table.defocus_u_A)


def test_image_size_from_the_stack(project: Project) -> None:
    del project.optics["rlnImageSize"], project.optics["rlnAmplitudeContrast"]
    table = read_particles(project.write())
    assert table.optics[0].box == 16
    assert table.optics[0].amplitude_contrast == 0.1
    assert "rlnAmplitudeContrast" in table.notices[0]


def test_cryosparc_paths_and_single_images(project: Project) -> None:
    project.particles["rlnImageName"] = [f"{i + 1}@>Extract/s0.mrcs" for i in range(8)] + [
        "Extract/s1.mrcs"
    ] * 8
    table = read_particles(project.write())
    assert table.stack_paths == [project.stack(0), project.stack(1)]
    assert table.image_index.tolist() == [*range(8)] + [0] * 8


def legacy_text(n_groups: int = 3) -> str:
    rng = np.random.default_rng(2)
    n = 30
    group = rng.integers(0, n_groups, n)
    return star_text(
        {
            "images": {
                "rlnImageName": [f"{i + 1:06d}@Extract/s0.mrcs" for i in range(n)],
                "rlnMicrographName": ["m.mrc"] * n,
                "rlnVoltage": [(300.0, 300.0, 200.0)[g] for g in group],
                "rlnSphericalAberration": ["2.700000"] * n,
                "rlnAmplitudeContrast": ["0.100000"] * n,
                "rlnDefocusU": np.round(rng.uniform(1e4, 2e4, n), 3).tolist(),
                "rlnDefocusV": np.round(rng.uniform(1e4, 2e4, n), 3).tolist(),
                "rlnDefocusAngle": np.round(rng.uniform(0, 90, n), 3).tolist(),
                "rlnMagnification": [(10000.0, 50000.0, 50000.0)[g] for g in group],
                "rlnDetectorPixelSize": [(1.345, 6.0, 7.0)[g] for g in group],
                "rlnOriginX": np.round(rng.normal(0, 3, n), 4).tolist(),
                "rlnOriginY": np.round(rng.normal(0, 3, n), 4).tolist(),
                "rlnBeamTiltX": [(0.0, 0.0, 0.25)[g] for g in group],
                "rlnBeamTiltY": [0.0] * n,
            }
        }
    )


def test_legacy_conversion_is_relions(relion: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.star", tmp_path / "new.star"
    old.write_text(legacy_text())
    run = [str(relion / "relion_convert_star"), "--i", str(old), "--o", str(new)]
    subprocess.run(run, check=True, capture_output=True, timeout=60, cwd=tmp_path)
    truth = read_star(new)
    table = read_particles(old)
    for mine, other in ((table.optics_frame, truth["optics"]), (table.frame, truth["particles"])):
        assert set(other.columns) - set(mine.columns) == set()
        for label in other.columns:
            if other[label].dtype.kind in "if":
                np.testing.assert_allclose(mine[label], other[label], rtol=1e-5, atol=2e-5, err_msg=label)
            else:
                assert list(mine[label]) == other[label].tolist()
    extra = set(table.optics_frame.columns) - set(truth["optics"].columns)
    assert extra <= {"rlnImageSize", "rlnImageDimensionality"}
    assert set(table.frame.columns) == set(truth["particles"].columns)
    assert np.allclose(table.origin_A[:, 0], truth["particles"]["rlnOriginXAngst"], atol=2e-5)


def test_legacy_numbers(tmp_path: Path) -> None:
    path = tmp_path / "old.star"
    path.write_text(legacy_text())
    raw = read_star(path)["images"]
    table = read_particles(path)
    pixel = np.array([g.pixel_size_A for g in table.optics])[table.optics_index]
    np.testing.assert_allclose(pixel, 1e4 * raw["rlnDetectorPixelSize"] / raw["rlnMagnification"])
    assert sorted({round(g.pixel_size_A, 6) for g in table.optics}) == [1.2, 1.345, 1.4]
    np.testing.assert_allclose(table.origin_A[:, 1], raw["rlnOriginY"] * pixel)
    assert {g.beam_tilt_mrad for g in table.optics} == {(0.0, 0.0), (0.25, 0.0)}
    assert table.optics_index[0] == 0


def test_legacy_and_back(tmp_path: Path) -> None:
    old = tmp_path / "old.star"
    old.write_text(legacy_text())
    table = read_particles(old)
    write_particles(tmp_path / "again.star", table, legacy=True)
    again = read_particles(tmp_path / "again.star")
    np.testing.assert_allclose(again.origin_A, table.origin_A, atol=2e-6)
    assert again.optics_index.tolist() == table.optics_index.tolist()
    for mine, other in zip(again.optics, table.optics, strict=True):
        assert mine.pixel_size_A == pytest.approx(other.pixel_size_A, rel=1e-12)
        assert (mine.voltage_kV, mine.beam_tilt_mrad) == (other.voltage_kV, other.beam_tilt_mrad)


def test_written_table_keeps_every_column(project: Project, tmp_path: Path) -> None:
    project.particles["myLabel"] = [f"text{i}" for i in range(16)]
    project.particles["rlnLogLikeliContribution"] = [f"{2.5e5 + i * 1.123456789:.9f}" for i in range(16)]
    project.optics["myOptics"] = ["0.123456789012"]
    table = read_particles(project.write())
    angles = np.linspace(-179, 179, 16) + 1 / 3
    out = tmp_path / "out.star"
    write_particles(
        out, table, {"rlnAngleRot": angles, "rlnAnglePsi": -angles, "rlnRandomSubset": np.arange(16) % 2 + 1}
    )
    blocks = read_star(out)
    assert list(blocks["particles"].columns) == [*project.particles, "rlnAnglePsi", "rlnRandomSubset"]
    for label, cells in project.particles.items():
        if label == "rlnAngleRot":
            continue
        for mine, cell in zip(blocks["particles"][label].tolist(), cells, strict=True):
            assert mine == (cell if isinstance(mine, str) else float(cell)), label
    assert blocks["optics"]["myOptics"].tolist() == [0.123456789012]
    assert blocks["particles"]["rlnAnglePsi"].tolist() == [round(-a, 6) for a in angles]
    assert "rlnAnglePsi" not in table.frame.columns  # the table itself is untouched
    with pytest.raises(ValueError, match="rlnAngleRot"):
        write_particles(out, table, {"rlnAngleRot": angles[:3]})


def test_relion_reads_what_we_write(relion: Path, project: Project, tmp_path: Path) -> None:
    """relion_reconstruct opens table, optics and stacks; a misread pose or name would stop it."""
    project.particles["rlnMicrographName"] = ['"a name.mrc"'] * 16
    table = read_particles(project.write())
    zeros = np.zeros(16)
    updates = {
        "rlnAngleTilt": zeros + 12.5,
        "rlnAnglePsi": zeros,
        "rlnOriginXAngst": zeros,
        "rlnOriginYAngst": zeros,
    }
    write_particles(tmp_path / "out.star", table, updates)
    run = [str(relion / "relion_reconstruct"), "--i", "out.star", "--o", "map.mrc", "--ctf", "--pad", "1"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.mrc").stat().st_size == 1024 + 4 * 16**3


def test_real_particles(shared: Path) -> None:
    table = read_particles(shared / "data/empiar10146_apoferritin/particles.star")
    assert len(table) == 1551
    assert len(table.stack_paths) == 11
    assert all(path.is_file() for path in table.stack_paths)
    assert len(table.group_names) == 11
    images = ImageReader(table.stack_paths, max_open=3).read(table.stack_index[::50], table.image_index[::50])
    assert images.shape == (32, 64, 64)
    assert np.abs(images.mean()) < 0.5


def test_optics_as_a_list_block(project: Project) -> None:
    text = star_text({"particles": project.particles})
    head = "data_optics\n\n" + "".join(f"_{label} {cells[0]}\n" for label, cells in project.optics.items())
    project.star.write_text(head + "\n" + text)
    assert read_particles(project.star).optics[0].pixel_size_A == 3.0


def test_missing_root_is_refused(project: Project) -> None:
    with pytest.raises(
        InputError, match=r"nowhere: the folder of the images \(--root; reconstruct: --img\) does not exist"
    ):
        read_particles(project.write(), root="nowhere")


def test_particles_are_read_and_written_without_pandas(project: Project, tmp_path: Path) -> None:
    """It takes longer to load than a small job needs for an iteration."""
    code = (
        "import sys; from mpiapp.io.particles import read_particles, write_particles; "
        f"table = read_particles({str(project.write())!r}); "
        f"write_particles({str(tmp_path / 'out.star')!r}, table, {{'rlnAnglePsi': table.psi_deg}}); "
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
