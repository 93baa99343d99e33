"""Options of refine3d: defaults, conversion, ranges, contradictions, listing, continuing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mpiapp.config.option import options_of
from mpiapp.config.refine import RefineConfig
from mpiapp.errors import ConfigError

NEEDED = {"i": "particles.star", "o": "out/run", "ref": "map.mrc"}

# defaults that differ from the program's on purpose: RELION's GUI switches these on, or "automatic" is 0 here
GUI_DEFAULTS = {"ctf", "norm", "scale", "zero_mask", "flatten_solvent", "low_resol_join_halves"}
OWN_DEFAULTS = {"j", "pool", "sym", "gpu", "solvent_mask", "ref"}


def make(**options: Any) -> RefineConfig:
    return RefineConfig.from_options({**NEEDED, **options})


def relion_help(folder: Path) -> dict[str, str]:
    """Flag -> default, as relion_refine prints them."""
    text = subprocess.run([folder / "relion_refine", "--help"], capture_output=True, text=True).stdout
    return dict(re.findall(r"^ +--(\w+) \((.*?)\) :", text, flags=re.MULTILINE))


def test_a_minimal_run_is_valid() -> None:
    config = make().validate()
    assert (config.input_star, config.output_root, config.reference) == tuple(NEEDED.values())


def test_gui_defaults_are_on() -> None:
    config = make()
    assert config.ctf
    assert config.norm
    assert config.scale
    assert config.zero_mask
    assert config.flatten_solvent
    assert config.low_resol_join_halves == 40.0
    assert not config.firstiter_cc
    assert not config.relion_convergence


@pytest.mark.relion
def test_other_defaults_are_relions(relion: Path) -> None:
    """Every option that RELION has too, and that is not changed on purpose, has RELION's default."""
    theirs = relion_help(relion)
    compared = 0
    for spec in options_of(RefineConfig):
        if spec.flag not in theirs or spec.flag in GUI_DEFAULTS | OWN_DEFAULTS:
            continue
        text = theirs[spec.flag]
        if spec.kind is bool:
            assert (text == "true") == spec.default, spec.flag
        elif spec.kind is str:
            assert text in (spec.default, "None"), spec.flag
        else:
            assert float(text) == spec.default, spec.flag
        compared += 1
    assert compared > 25


def test_dashes_text_and_off_switches() -> None:
    config = make(**{"healpix-order": "3", "pad": "1", "no_ctf": True, "no-norm": True, "scale": False})
    assert config.healpix_order == 3
    assert config.pad == 1.0
    assert not config.ctf
    assert not config.norm
    assert not config.scale
    assert config.zero_mask


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pad": 7}, ["--pad 7", "from 1 to 4"]),
        ({"pad": "two"}, ["--pad two", "a number"]),
        ({"healpix_order": 2.5}, ["--healpix_order 2.5", "whole number"]),
        ({"healpix_order": 99}, ["--healpix_order 99", "from 0 to 8"]),
        ({"oversampling": -1}, ["--oversampling -1"]),
        ({"ini_high": 0}, ["--ini_high 0", "above 0 A, or -1"]),
        ({"particle_diameter": -5}, ["--particle_diameter -5"]),
        ({"adaptive_fraction": 1.5}, ["--adaptive_fraction 1.5", "up to 1"]),
        ({"offset_step": 0}, ["--offset_step 0"]),
        ({"tau2_fudge": float("nan")}, ["--tau2_fudge nan"]),
        ({"j": -2}, ["--j -2"]),
        ({"j": True}, ["--j True", "whole number"]),
        ({"max_hours": 0}, ["--max_hours 0", "hours"]),
        ({"random_seed": -3}, ["--random_seed -3"]),
        ({"random_seed": 1e300}, ["--random_seed 1e+300"]),
        ({"precision": "singel"}, ["--precision singel", "single"]),
        ({"sym": "Q5"}, ["--sym Q5", "Cn, Dn"]),
        ({"sym": "C0"}, ["--sym C0"]),
        ({"sym": "I7"}, ["--sym I7"]),
        ({"ctf": "maybe"}, ["--ctf maybe", "on or off"]),
        ({"ref": 3.5}, ["--ref 3.5"]),
        ({"offset_step": 8}, ["--offset_step 8", "--offset_range 6"]),
        ({"solvent_correct_fsc": True}, ["--solvent_correct_fsc", "--solvent_mask"]),
        ({"no_ctf": True, "only_flip_phases": True}, ["--only_flip_phases", "--no_ctf"]),
        ({"strict_highres_exp": 20, "strict_lowres_exp": 10}, ["--strict_lowres_exp 10", "20"]),
        ({"force_converge": True}, ["--force_converge", "--continue"]),
        ({"continue": "run_it003_data.star"}, ["run_it003_data.star", "_optimiser.star"]),
        ({"i": ""}, ["--i", "particles"]),
    ],
)
def test_wrong_values_are_refused_with_option_and_remedy(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**options).validate()
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("sym", ["C1", "c7", "D2", "T", "O", "I", "I1", "i3"])
def test_point_groups_are_accepted(sym: str) -> None:
    assert make(sym=sym).validate().sym == sym


@pytest.mark.parametrize(
    "flag", ["ini_high", "particle_diameter", "low_resol_join_halves", "tau2_fudge", "maxsig", "random_seed"]
)
def test_minus_one_keeps_relions_meaning(flag: str) -> None:
    assert getattr(make(**{flag: "-1"}).validate(), flag) == -1


def test_missing_files_are_named_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"--i .*--o .*--ref"):
        RefineConfig().validate()


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean healpix_order"):
        make(healpix_ordr=3)
    with pytest.raises(ConfigError, match="did you mean --no_norm"):
        make(**{"--no_nrom": True})
    with pytest.raises(ConfigError, match="refine3d --help"):
        make(xyzzy=1)


def test_none_of_relion_means_no_file() -> None:
    assert make(solvent_mask="None").solvent_mask == ""


def test_describe_lists_every_option_and_its_origin() -> None:
    config = make(pad=2, sym="C4")
    shown = {flag: (value, origin) for flag, value, origin in config.describe()}
    assert len(shown) == len(options_of(RefineConfig))
    assert shown["--pad"] == ("2", "given")
    assert shown["--sym"] == ("C4", "given")
    assert shown["--ctf"] == ("on", "default")
    assert shown["--low_resol_join_halves"] == ("40", "default")
    assert shown["--j"] == ("0", "default")


def test_direct_construction_counts_as_given_where_it_differs() -> None:
    config = RefineConfig(healpix_order=3)
    assert config.is_given("healpix_order")
    assert not config.is_given("pad")


def test_advice_warns_of_a_start_map_at_full_resolution() -> None:
    assert any("--ini_high" in line for line in make().advice())
    assert not make(ini_high=40, particle_diameter=180).advice()
    assert any("tau2_fudge" in line for line in make(ini_high=40, tau2_fudge=4).advice())


def test_stored_options_survive_json_and_are_overridden_by_those_given() -> None:
    first = make(pad=1, healpix_order=3, random_seed=7, max_hours=2, gpu="0:1")
    stored = json.loads(json.dumps(first.to_dict()))
    again = RefineConfig.from_options({"continue": "out/run_it004_optimiser.star", "maskedge": 3, "pad": 2})
    merged = again.validate().continued_from(stored)
    assert merged.pad == 2  # given, though it is the default
    assert merged.maskedge == 3
    assert merged.healpix_order == 3
    assert merged.random_seed == 7
    assert merged.gpu == "0:1"
    assert merged.output_root == "out/run"
    assert merged.continue_from == "out/run_it004_optimiser.star"
    assert merged.max_hours == -1  # belongs to one call


def test_a_continued_run_can_not_change_what_its_state_rests_on() -> None:
    stored = make(sym="C4", random_seed=7).to_dict()
    resume = {"continue": "out/run_it004_optimiser.star"}
    with pytest.raises(ConfigError, match=r"--sym D2.*C4"):
        RefineConfig.from_options({**resume, "sym": "D2"}).continued_from(stored)
    same = RefineConfig.from_options({**resume, "sym": "C4", "random_seed": -1}).continued_from(stored)
    assert (same.sym, same.random_seed) == ("C4", 7)
