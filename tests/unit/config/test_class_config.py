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
        {"sym": "X"},
    ],
)
def test_contradictions(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Class3dConfig.from_options({**FILES, "ref": "m.mrc", **options}).validate()


def test_numbers_of_classes() -> None:
    config = SelectConfig.from_options({"i": "a_it001_data.star", "o": "b.star", "classes": "1,3,5-7"})
    assert config.validate().numbers() == {1, 3, 5, 6, 7}


@pytest.mark.parametrize("text", ["0", "a", "3-1", "1,-2"])
def test_bad_numbers_of_classes(text: str) -> None:
    config = SelectConfig.from_options({"i": "a_it001_data.star", "o": "b.star", "classes": text})
    with pytest.raises(ConfigError, match="--classes"):
        config.validate()


def test_a_selection_needs_a_condition() -> None:
    with pytest.raises(ConfigError, match="min_fraction"):
        SelectConfig.from_options({"i": "a_it001_data.star", "o": "b.star"}).validate()
