"""Options of the classifications and of the selection of classes."""

from __future__ import annotations

import pytest

from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.config.select import SelectConfig
from mpiapp.errors import ConfigError

FILES = {"i": "p.star", "o": "out/run"}


def test_a_class3d_command_of_relion_is_taken() -> None:
    given = {
        **FILES,
        "ref": "m.mrc",
        "K": 4,
        "iter": 25,
        "tau2_fudge": 4,
        "healpix_order": 3,
        "sigma_ang": 3.33,
        "allow_coarser_sampling": True,
        "pool": 3,
        "preread_images": True,
        "dont_combine_weights_via_disc": True,
    }
    config = Class3dConfig.from_options(given).validate()
    assert (config.n_classes, config.n_iter, config.sigma_ang) == (4, 25, 3.33)
    assert len(config.notes) == 2


def test_class2d_needs_no_reference_but_class3d_does() -> None:
    assert Class2dConfig.from_options({**FILES, "K": 50}).validate().tau2_fudge == 2.0
    with pytest.raises(ConfigError, match="--ref"):
        Class3dConfig.from_options({**FILES, "K": 3}).validate()


@pytest.mark.parametrize("flag", ["auto_refine", "split_random_halves"])
def test_halves_are_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="refine3d"):
        Class3dConfig.from_options({**FILES, "ref": "m.mrc", flag: True})
    assert RefineConfig.from_options({**FILES, "ref": "m.mrc", flag: True}).notes


@pytest.mark.parametrize(
    "options",
    [
        {"skip_align": True, "sigma_ang": 5},
        {"skip_rotate": True, "allow_coarser_sampling": True},
        {"skip_align": True, "center_classes": True},
        {"sym": "X"},
    ],
)
def test_contradictions(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Class3dConfig.from_options({**FILES, "ref": "m.mrc", **options}).validate()


def test_gradient_flags_of_relion_are_taken() -> None:
    given = {
        **FILES,
        "grad": True,
        "K": 50,
        "iter": 200,
        "class_inactivity_threshold": 0.1,
        "grad_write_iter": 10,
        "grad_min_resol": 20,
        "tau2_fudge": 2,
        "no_init_blobs": True,
    }
    config = Class2dConfig.from_options(given).validate()
    assert (config.grad, config.starts_from_blobs, config.last_iteration) == (True, False, 200)
    assert Class2dConfig.from_options({**FILES, "grad": True}).starts_from_blobs
    assert not Class2dConfig.from_options(FILES).starts_from_blobs
    assert Class2dConfig.from_options({**FILES, "init_blobs": True}).starts_from_blobs
    assert len(config.notes) == 1  # RELION makes no use of grad_min_resol
    assert "no_init_blobs" not in Class2dConfig.foreign_flags()


def test_number_of_iterations_follows_from_the_algorithm() -> None:
    assert Class2dConfig.from_options(FILES).last_iteration == 25
    assert Class2dConfig.from_options({**FILES, "grad": True}).last_iteration == 200
    assert Class2dConfig.from_options({**FILES, "grad": True, "iter": 60}).last_iteration == 60
    assert RefineConfig.from_options({**FILES, "ref": "m.mrc", "iter": 60}).notes


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"grad_stepsize_scheme": "3step"}, "grad_stepsize_scheme"),
        ({"tau2_fudge_scheme": "0-step"}, "tau2_fudge_scheme"),
        ({"grad_em_iters": 30, "iter": 20}, "grad_em_iters"),
        ({"grad_ini_frac": 1.2}, "grad_ini_frac"),
        ({"mu": 1}, "mu"),
    ],
)
def test_bad_gradient_options(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Class2dConfig.from_options({**FILES, "grad": True, **options}).validate()


def test_gradient_options_without_the_algorithm_are_told() -> None:
    lines = Class2dConfig.from_options({**FILES, "mu": 0.8, "grad_em_iters": 2}).advice()
    assert any("--grad_em_iters, --mu" in line and "--grad" in line for line in lines)
    assert not any(
        "--mu" in line for line in Class2dConfig.from_options({**FILES, "grad": True, "mu": 0.8}).advice()
    )


def test_refinement_refuses_the_gradient_algorithm() -> None:
    with pytest.raises(ConfigError, match="class2d"):
        RefineConfig.from_options({**FILES, "ref": "m.mrc", "grad": True})


def test_numbers_of_classes() -> None:
    config = SelectConfig.from_options({"i": "a_it001_data.star", "o": "b.star", "classes": "1,3,5-7"})
    assert config.validate().ranges() == [(1, 1), (3, 3), (5, 7)]


@pytest.mark.parametrize("text", ["0", "a", "3-1", "1,-2"])
def test_bad_numbers_of_classes(text: str) -> None:
    config = SelectConfig.from_options({"i": "a_it001_data.star", "o": "b.star", "classes": text})
    with pytest.raises(ConfigError, match="--classes"):
        config.validate()


def test_a_selection_needs_a_condition() -> None:
    with pytest.raises(ConfigError, match="min_fraction"):
        SelectConfig.from_options({"i": "a_it001_data.star", "o": "b.star"}).validate()
