"""RELION's model, optimiser and sampling files: real ones are read, ours come back exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import starfile

from mpiapp.errors import InputError
from mpiapp.io.relion_files import (
    ClassRecord,
    ModelRecord,
    OptimiserRecord,
    SamplingRecord,
    locate_beside,
    noise_of_groups,
    noise_of_optics,
    read_model,
    read_optimiser,
    read_sampling,
    write_angular_distribution,
    write_model,
    write_optimiser,
    write_sampling,
)
from mpiapp.io.star import read_star

BOX = 16
N_SHELLS = BOX // 2 + 1


def make_model(rng: np.random.Generator) -> ModelRecord:
    """A record with random numbers everywhere: 3 micrograph groups in 2 optics groups, 2 classes."""

    def spectrum() -> np.ndarray:
        return rng.uniform(1e-7, 1.0, N_SHELLS)

    classes = [
        ClassRecord(
            map_path=Path(f"job/run_it004_half1_class00{number}.mrc"),
            data_vs_prior=spectrum(),
            fsc=spectrum(),
            completeness=spectrum(),
            sigma2=spectrum(),
            tau2=spectrum(),
            orientability=spectrum(),
            orientation_distribution=rng.uniform(0, 1, 48),
            distribution=0.5,
            accuracy_rot_deg=1.25,
            resolution_A=7.5,
        )
        for number in (1, 2)
    ]
    noise = rng.uniform(1e-5, 1e-3, (2, N_SHELLS))
    return ModelRecord(
        box=BOX,
        pixel_size_A=1.25,
        current_size=12,
        current_resolution_A=20 / 3,
        classes=classes,
        sigma2_noise=noise,
        group_names=["001", "mic a.mrc", "mic_b.mrc"],
        group_sizes=np.array([3, 4, 5]),
        group_scales=rng.uniform(0.5, 2, 3),
        group_sigma2_noise=noise_of_groups(noise, np.array([0, 0, 1])),
        sigma_offset_A=3.217,
        prior_mode=1,
        sigma_rot_deg=1.875,
        average_pmax=0.3141592653589793,
        log_likelihood=1.0821421234e7,
    )


def assert_same(found: object, expected: object) -> None:
    """Every field of two dataclasses is equal, arrays to the last bit."""
    assert type(found) is type(expected)
    for item in dataclasses.fields(expected):  # type: ignore[arg-type]
        a, b = getattr(found, item.name), getattr(expected, item.name)
        if item.name == "classes":
            for one, other in zip(a, b, strict=True):
                assert_same(one, other)
        elif isinstance(b, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=item.name)
        else:
            assert a == b, item.name


def test_model_comes_back_exactly(tmp_path: Path, rng: np.random.Generator) -> None:
    model = make_model(rng)
    write_model(tmp_path / "run_it004_half1_model.star", model)
    assert_same(read_model(tmp_path / "run_it004_half1_model.star"), model)


def test_model_has_the_tables_of_relion(tmp_path: Path, rng: np.random.Generator) -> None:
    """Read with an independent program: noise in both sets of tables, the axes of the spectra in A."""
    model = make_model(rng)
    write_model(tmp_path / "model.star", model)
    blocks = starfile.read(tmp_path / "model.star", always_dict=True)
    expected = ["model_general", "model_classes", "model_class_1", "model_class_2", "model_groups"]
    expected += ["model_group_1", "model_group_2", "model_group_3"]
    expected += ["model_optics_group_1", "model_optics_group_2"]
    expected += ["model_pdf_orient_class_1", "model_pdf_orient_class_2"]
    assert list(blocks) == expected
    assert blocks["model_general"]["rlnNrGroups"] == 3
    spectra = blocks["model_class_1"]
    assert spectra["rlnAngstromResolution"].tolist() == pytest.approx(
        [999, 20, 10, 20 / 3, 5, 4, 20 / 6, 20 / 7, 2.5]
    )
    np.testing.assert_allclose(spectra["rlnResolution"], np.arange(9) / 20, atol=1e-6)
    for group, optics in ((1, 1), (2, 1), (3, 2)):
        pair = blocks[f"model_group_{group}"], blocks[f"model_optics_group_{optics}"]
        np.testing.assert_array_equal(pair[0]["rlnSigma2Noise"], pair[1]["rlnSigma2Noise"])


def test_model_without_its_long_tables(tmp_path: Path, rng: np.random.Generator) -> None:
    """They are at the end, and no text of theirs is looked at."""
    model = make_model(rng)
    path = tmp_path / "model.star"
    write_model(path, model)
    text = path.read_text()
    begin = text.index("_rlnOrientationDistribution")
    path.write_text(text[:begin] + "_rlnOrientationDistribution #1\n 0.5 0.5 0.5\n")
    with pytest.raises(InputError, match="3 values for 1 columns"):
        read_model(path)
    found = read_model(path, directions=False)
    assert [record.orientation_distribution.size for record in found.classes] == [0, 0]
    for record, expected in zip(found.classes, model.classes, strict=True):
        record.orientation_distribution = expected.orientation_distribution
    assert_same(found, model)


def test_tables_between_others_are_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text("data_x1\n\n_rlnA 1\n\ndata_y\n\n_rlnB 2\n\ndata_x2\n\n_rlnC 3\n")
    assert list(read_star(tmp_path / "a.star", without=("x",))) == ["x1", "y"]


def test_signal_without_noise_is_written_as_999(tmp_path: Path, rng: np.random.Generator) -> None:
    model = make_model(rng)
    model.classes[0].data_vs_prior[:2] = [np.inf, 1e7]
    write_model(tmp_path / "model.star", model)
    np.testing.assert_array_equal(read_model(tmp_path / "model.star").classes[0].data_vs_prior[:2], 999)


def test_noise_only_of_shells_that_have_some(tmp_path: Path, rng: np.random.Generator) -> None:
    model = make_model(rng)
    model.sigma2_noise[1] = 0
    model.sigma2_noise[0, [0, 3]] = 0
    write_model(tmp_path / "model.star", model)
    np.testing.assert_array_equal(read_model(tmp_path / "model.star").sigma2_noise, model.sigma2_noise)


def test_noise_of_an_old_file_is_averaged_over_particles(rng: np.random.Generator) -> None:
    """RELION 3.1 has noise by micrograph group only: groups of 3 and 4 particles share an optics group."""
    model = make_model(rng)
    model.sigma2_noise = np.zeros((0, N_SHELLS))
    model.group_sigma2_noise = np.array([1.0, 8.0, 5.0])[:, None] * np.ones(N_SHELLS)
    found = noise_of_optics(model, np.array([0, 0, 1]), 3)
    np.testing.assert_allclose(found[:, 0], [(3 * 1 + 4 * 8) / 7, 5, 0])


def test_record_that_does_not_fit_is_not_written(tmp_path: Path, rng: np.random.Generator) -> None:
    model = make_model(rng)
    model.classes[1].tau2 = np.zeros(N_SHELLS + 1)
    with pytest.raises(ValueError, match="tau2 of class 2"):
        write_model(tmp_path / "model.star", model)
    assert list(tmp_path.iterdir()) == []


def test_optimiser_comes_back_exactly(tmp_path: Path) -> None:
    record = OptimiserRecord(
        root="Refine3D/job 1/run",
        model_star="a_half1_model.star",
        model_star_2="a_half2_model.star",
        data_star="a_data.star",
        sampling_star="a_sampling.star",
        iteration=7,
        particle_diameter_A=190.125,
        solvent_mask="mask.mrc",
        has_high_fsc_at_limit=True,
        best_resolution_1_over_A=1 / 7.3,
        auto_local_healpix_order=3,
    )
    write_optimiser(tmp_path / "optimiser.star", record, comment="mpiapp 0.1\n--i particles.star")
    assert_same(read_optimiser(tmp_path / "optimiser.star"), record)
    assert (tmp_path / "optimiser.star").read_text().startswith("# mpiapp 0.1\n# --i particles.star\n")


def test_joined_run_names_no_second_model(tmp_path: Path) -> None:
    """RELION takes the label alone for a second half set."""
    record = OptimiserRecord(
        root="run",
        model_star="run_model.star",
        data_star="d",
        sampling_star="s",
        iteration=9,
        particle_diameter_A=1.0,
    )
    write_optimiser(tmp_path / "optimiser.star", record)
    assert "rlnModelStarFile2" not in (tmp_path / "optimiser.star").read_text()
    assert read_optimiser(tmp_path / "optimiser.star").model_star_2 is None


def test_optimiser_of_relion_is_read(shared: Path) -> None:
    """Values taken from the file by eye."""
    found = read_optimiser(shared / "data/star_files/starfile_run_it025_optimiser_3D.star")
    assert (found.root, found.iteration, found.n_iterations) == ("Class3D/job020/run", 25, 25)
    assert (found.model_star_2, found.solvent_mask, found.split_random_halves) == (None, None, False)
    assert (found.particle_diameter_A, found.random_seed, found.adaptive_fraction) == (
        200.0,
        1601389241,
        0.999,
    )
    assert (found.change_orientations_deg, found.accuracy_trans_A) == (10.079832, 1.84965)
    assert found.zero_mask is True
    assert found.has_converged is False


def test_our_optimiser_has_every_label_of_relions(shared: Path, tmp_path: Path) -> None:
    relion = shared / "data/star_files/starfile_run_it025_optimiser_3D.star"
    write_optimiser(tmp_path / "ours.star", read_optimiser(relion))
    theirs, ours = (starfile.read(path) for path in (relion, tmp_path / "ours.star"))
    theirs["rlnDoFastSubsetOptimisation"] = 0  # that run had it on, we do not have it
    for label, content in theirs.items():
        assert str(ours[label]) == str(content) or float(ours[label]) == float(content), label


@pytest.mark.parametrize("dimension", ["2D", "3D"])
def test_sampling_of_relion_is_read_and_written_back(shared: Path, tmp_path: Path, dimension: str) -> None:
    relion = shared / f"data/star_files/starfile_run_it025_sampling_{dimension}.star"
    found = read_sampling(relion)
    assert found.is_3d == (dimension == "3D")
    write_sampling(tmp_path / "ours.star", found)
    assert_same(read_sampling(tmp_path / "ours.star"), found)
    theirs = starfile.read(relion, always_dict=True)
    ours = starfile.read(tmp_path / "ours.star", always_dict=True)
    general = next(block for name, block in theirs.items() if "directions" not in str(name))
    for label, content in general.items():
        assert ours["sampling_general"][label] == content, label
    if found.is_3d:
        assert len(found.rot_deg) == 192
        np.testing.assert_array_equal(ours["sampling_directions"], theirs["sampling_directions"])


def test_originals_follow_the_present_values_unless_given(tmp_path: Path) -> None:
    record = SamplingRecord(psi_step_deg=7.5, offset_range_A=6.0, offset_step_A=2.0, healpix_order=3)
    record.original_healpix_order = 2
    write_sampling(tmp_path / "sampling.star", record)
    found = read_sampling(tmp_path / "sampling.star")
    assert (found.original_healpix_order, found.original_psi_step_deg, found.symmetry) == (2, 7.5, "C1")


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (("_rlnParticleDiameter", "_rlnOther"), "_rlnParticleDiameter is missing"),
        (("data_optimiser_general", "data_other"), "data_optimiser_general is missing; found data_other"),
        (("_rlnCurrentIteration   ", "_rlnCurrentIteration one"), "_rlnCurrentIteration"),
    ],
)
def test_faults_are_named(tmp_path: Path, broken: tuple[str, str], expected: str) -> None:
    record = OptimiserRecord(
        root="r", model_star="m", data_star="d", sampling_star="s", iteration=9, particle_diameter_A=1.0
    )
    path = tmp_path / "optimiser.star"
    write_optimiser(path, record)
    path.write_text(path.read_text().replace(*broken).replace("one                ", "one #"))
    with pytest.raises(InputError) as caught:
        read_optimiser(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_model_with_a_table_cut_off_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    write_model(tmp_path / "model.star", make_model(rng))
    lines = (tmp_path / "model.star").read_text().splitlines()
    row = next(n for n, line in enumerate(lines) if line.startswith("data_model_class_1")) + 13
    (tmp_path / "model.star").write_text("\n".join(lines[: row + 2]) + "\n\n" + "\n".join(lines[row + 4 :]))
    with pytest.raises(InputError, match=r"data_model_class_1 has \d rows; expected 9 shells"):
        read_model(tmp_path / "model.star")


def test_files_are_found_from_the_project_folder_or_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    star = tmp_path / "moved/run_it001_model.star"
    star.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"job/map\.mrc.*moved/map\.mrc"):
        locate_beside("job/map.mrc", star)
    beside = star.parent / "map.mrc"
    beside.touch()
    assert locate_beside("job/map.mrc", star) == beside
    (tmp_path / "job").mkdir()
    (tmp_path / "job/map.mrc").touch()
    assert locate_beside("job/map.mrc", star) == Path("job/map.mrc")


def test_cylinders_of_the_angular_distribution(tmp_path: Path) -> None:
    """By hand: box 64 at 3.4 A, sphere of radius 108.8; directions along z (largest), x (half), y (none)."""
    path = tmp_path / "angdist.bild"
    rot, tilt = np.array([0.0, 0.0, 90.0]), np.array([0.0, 90.0, 90.0])
    write_angular_distribution(path, rot, tilt, np.array([0.5, 0.25, 0.0]), 64, 3.4, healpix_order=2)
    lines = path.read_text().splitlines()
    assert len(lines) == 4  # none for the direction without particles
    colour, cylinder = ([float(x) for x in line.split()[1:]] for line in lines[:2])
    # 0.5 is sqrt(3/2) standard deviations above the mean of 0.25
    assert colour == pytest.approx([(1 + np.sqrt(1.5)) / 6, 0, 1 - (1 + np.sqrt(1.5)) / 6], abs=1e-5)
    assert cylinder == pytest.approx([108.8, 108.8, 217.6, 108.8, 108.8, 250.24, 7.12094], rel=1e-5)
    half = [float(x) for x in lines[3].split()[1:]]
    assert half == pytest.approx([217.6, 108.8, 108.8, 233.92, 108.8, 108.8, 7.12094], rel=1e-5)


def test_even_distribution_has_one_colour(tmp_path: Path) -> None:
    path = tmp_path / "angdist.bild"
    write_angular_distribution(path, np.arange(7.0), np.arange(7.0), np.full(7, 1 / 7), 32, 1.0, 1)
    assert {line for line in path.read_text().splitlines() if line.startswith(".color")} == {
        ".color 0.166667 0 0.833333"
    }
