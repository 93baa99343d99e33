"""Names of output files: RELION's, as a finished run of RELION 3.1.3 leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpiapp.errors import ConfigError, InputError
from mpiapp.io.outputs import OutputNames

ROOT = "Refine3D/job001/run"


def test_names_are_those_of_relion() -> None:
    """The list was taken from the folder of a run of relion_refine_mpi --auto_refine."""
    names = OutputNames(ROOT)
    made = [
        names.data(3),
        names.data(None),
        names.model(3, 1),
        names.model(3, 2),
        names.model(None),
        names.optimiser(11),
        names.sampling(3),
        names.sampling(None),
        names.half_map(3, 1),
        names.half_map(3, 2),
        names.angular_distribution(3, 1),
        names.angular_distribution(None, None),
        names.unfil(1),
        names.unfil(2),
        names.final_map(),
        names.class_map(25, 4),
        names.model(25),
        names.unfil(1, iteration=7),
        names.classes_stack(0),
    ]
    relion = """
        run_it003_data.star run_data.star run_it003_half1_model.star run_it003_half2_model.star run_model.star
        run_it011_optimiser.star run_it003_sampling.star run_sampling.star run_it003_half1_class001.mrc
        run_it003_half2_class001.mrc run_it003_half1_class001_angdist.bild run_class001_angdist.bild
        run_half1_class001_unfil.mrc run_half2_class001_unfil.mrc run_class001.mrc run_it025_class004.mrc
        run_it025_model.star run_it007_half1_class001_unfil.mrc run_it000_classes.mrcs
    """
    assert [str(path) for path in made] == [f"Refine3D/job001/{name}" for name in relion.split()]


def test_every_name_lies_in_the_folder_and_is_different() -> None:
    names = OutputNames(ROOT)
    made = [
        *(getattr(names, name) for name in ("log", "progress_plot")),
        names.rank_log(3),
        names.checkpoint(3),
        names.partial_checkpoint(3),
        *(
            plot(iteration)
            for plot in (names.fsc_plot, names.slices_plot, names.angular_plot)
            for iteration in (None, 3)
        ),
    ]
    assert len(set(made)) == len(made)
    assert {path.parent for path in made} == {names.folder} == {Path("Refine3D/job001")}


def test_folder_as_root_gets_prefix_run() -> None:
    assert OutputNames("Refine3D/job001/").data(0) == Path("Refine3D/job001/run_it000_data.star")


@pytest.mark.parametrize(
    ("path", "root", "iteration"),
    [
        ("Refine3D/job001/run_it012_optimiser.star", ROOT, 12),
        ("run_it1234_half1_model.star", "run", 1234),
        ("a/run_ct5_it006_optimiser.star", "a/run_ct5", 6),
        ("a/run_optimiser.star", "a/run", None),
        ("a_it003_b/run_it004_data.star", "a_it003_b/run", 4),
    ],
)
def test_root_and_iteration_from_a_name(path: str, root: str, iteration: int | None) -> None:
    assert OutputNames.from_file(path) == (OutputNames(root), iteration)


@pytest.mark.parametrize("path", ["particles.star", "job_it003_dir/particles.star", "run_it12_data.star.txt"])
def test_other_names_are_refused(path: str) -> None:
    with pytest.raises(InputError, match="optimiser.star"):
        OutputNames.from_file(path)


def test_continued_root_is_relions() -> None:
    assert OutputNames(ROOT).continued(7).data(8) == Path("Refine3D/job001/run_ct7_it008_data.star")


def test_checkpoints_are_found_in_order_of_the_iteration(tmp_path: Path) -> None:
    names = OutputNames(str(tmp_path / "run.x"))
    assert OutputNames(str(tmp_path / "absent/run")).checkpoints() == []
    for iteration in (10, 9, 1000):
        names.checkpoint(iteration).touch()
    names.partial_checkpoint(11).touch()
    (tmp_path / "runzx_it011_checkpoint.h5").touch()  # the dot of run.x is a dot
    assert names.checkpoints() == [(i, names.checkpoint(i)) for i in (9, 10, 1000)]


def test_nonsense_is_refused() -> None:
    names = OutputNames(ROOT)
    with pytest.raises(ConfigError, match="--o"):
        OutputNames(" ")
    with pytest.raises(ValueError, match="half"):
        names.half_map(1, 3)
    with pytest.raises(ValueError, match="class"):
        names.final_map(0)
    with pytest.raises(ValueError, match="negative"):
        names.data(-1)
