"""A noise test is a refinement with two options more."""

from __future__ import annotations

import pytest

from mpiapp.config.noise_test import NoiseTestConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.errors import ConfigError

FLAGS = {"i": "a.star", "o": "out/run", "ref": "map.mrc", "ini_high": 40}


def test_the_refinement_behind_it() -> None:
    config = NoiseTestConfig.from_options({**FLAGS, "randomize_at": 15, "sym": "C2", "preread_images": True})
    refinement = config.validate().refinement(output_root="out/run_noise", random_seed=3)
    assert type(refinement) is RefineConfig
    assert (refinement.sym, refinement.output_root, refinement.random_seed) == ("C2", "out/run_noise", 3)
    assert "randomize_at" not in refinement.to_dict()
    assert refinement.command_line().startswith("mpiapp refine3d ")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="missing --randomize_at"):
        NoiseTestConfig.from_options(FLAGS).validate()
    with pytest.raises(ConfigError, match="a noise test is begun anew"):
        NoiseTestConfig.from_options({"continue": "run_it001_optimiser.star", "randomize_at": 15}).validate()
