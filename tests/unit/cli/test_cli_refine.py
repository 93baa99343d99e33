"""Command lines of refine3d, as users and RELION's GUI write them."""

from __future__ import annotations

import shlex

import pytest

from mpiapp.cli import refine
from mpiapp.cli.options import help_text, normalise, parse
from mpiapp.config.option import options_of
from mpiapp.config.refine import RefineConfig
from mpiapp.errors import ConfigError

# what RELION 3.1's GUI writes for a Refine3D job
GUI = """--o Refine3D/job019/run --auto_refine --split_random_halves --i Select/job014/particles.star
 --ref Class3D/job016/run_it025_class001.mrc --firstiter_cc --ini_high 50
 --dont_combine_weights_via_disc --preread_images --pool 30 --pad 2 --skip_gridding --ctf
 --ctf_corrected_ref --particle_diameter 200 --flatten_solvent --zero_mask --solvent_mask mask.mrc
 --solvent_correct_fsc --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 --offset_range 5
 --offset_step 2 --sym D2 --low_resol_join_halves 40 --norm --scale --j 6 --gpu ""
 --pipeline_control Refine3D/job019/"""
NEEDED = "--i a.star --o out/run --ref map.mrc"


def read(line: str) -> RefineConfig:
    config = parse(RefineConfig, shlex.split(line), "", "")
    assert config is not None
    return config.validate()


def test_a_gui_command_line_pastes_in() -> None:
    config = read(GUI)
    assert config.input_star == "Select/job014/particles.star"
    assert (config.pool, config.threads, config.gpu) == (30, 6, "")
    assert (config.offset_range, config.offset_step) == (5.0, 2.0)
    assert (config.sym, config.ini_high, config.particle_diameter) == ("D2", 50.0, 200.0)
    assert config.firstiter_cc
    assert config.solvent_correct_fsc
    assert config.pipeline_control == "Refine3D/job019/"
    noted = {note.split(":")[0] for note in config.notes}
    assert noted == {
        "--auto_refine",
        "--split_random_halves",
        "--dont_combine_weights_via_disc",
        "--preread_images",
        "--skip_gridding",
        "--ctf_corrected_ref",
    }


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [("--gpu 0:1", "0:1"), ("--gpu", ""), ('--gpu ""', ""), ("--gpu --ctf", ""), ("", None)],
)
def test_gpu_as_relion_takes_it(gpu: str, expected: str | None) -> None:
    assert read(f"{NEEDED} {gpu}").gpu == expected


def test_dashes_count_as_underscores() -> None:
    dashes = read(f"{NEEDED} --healpix-order 3 --ini-high=30 --no-zero-mask --max-hours 2 --dry-run")
    underscores = read(f"{NEEDED} --healpix_order 3 --ini_high=30 --no_zero_mask --max_hours 2 --dry_run")
    assert dashes == underscores
    assert dashes.dry_run


def test_values_with_dashes_are_left_alone() -> None:
    assert normalise(["--ref-angpix", "-1", "--i", "my-data/a-b.star"]) == [
        "--ref_angpix=-1",
        "--i",
        "my-data/a-b.star",
    ]


@pytest.mark.parametrize("text", ["-1", "-1e0", "-1.0"])
def test_negative_numbers_are_values(text: str) -> None:
    assert read(f"{NEEDED} --random_seed {text} --ini_high {text}").ini_high == -1


@pytest.mark.parametrize(
    "flag", [spec.flag for spec in options_of(RefineConfig) if spec.kind is bool and spec.default]
)
def test_each_switch_that_is_on_can_be_switched_off(flag: str) -> None:
    name = next(spec.name for spec in options_of(RefineConfig) if spec.flag == flag)
    assert getattr(read(NEEDED), name) is True
    assert getattr(read(f"{NEEDED} --no_{flag}"), name) is False
    assert f"--no_{flag}" in help_text(RefineConfig, "", "")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--healpix-ordr 3", "--healpix_order"),
        ("--particle_diamter 180", "--particle_diameter"),
        ("--no_scal", "--no_scale"),
        ("--symm C4", "--sym"),
        ("--solvent_corect_fsc", "--solvent_correct_fsc"),
        ("--helicl_nr_asu 2", "--helical_nr_asu"),
    ],
)
def test_misspelt_flags_suggest_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option .*did you mean {right}\\?"):
        read(f"{NEEDED} {wrong}")


def test_abbreviations_are_not_guessed() -> None:
    with pytest.raises(ConfigError, match="unknown option --part"):
        read(f"{NEEDED} --part 180")


@pytest.mark.parametrize(
    "flag", [flag for flag in RefineConfig.foreign_flags().values() if flag.refused], ids=lambda f: f.name
)
def test_refused_flags_stop_before_any_work(flag: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "launch", lambda config: pytest.fail("the run was started"))
    name, value = flag.name, " 7.25" if flag.takes_value else ""  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"--{name}.*refused"):
        refine.run(shlex.split(f"{NEEDED} --{name}{value}"))


def test_run_validates_and_launches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[RefineConfig] = []
    monkeypatch.setattr(refine, "launch", started.append)
    assert refine.run(shlex.split(NEEDED)) == 0
    assert [config.output_root for config in started] == ["out/run"]
    with pytest.raises(ConfigError, match="--pad 9"):
        refine.run(shlex.split(f"{NEEDED} --pad 9"))
    assert len(started) == 1


def test_missing_value_and_stray_word_are_explained() -> None:
    with pytest.raises(ConfigError, match="--pad: its value is missing"):
        read(f"{NEEDED} --pad --ctf")
    with pytest.raises(ConfigError, match="unexpected argument stray"):
        read(f"{NEEDED} --ctf stray")


def test_of_a_repeated_flag_the_last_counts_and_a_note_says_so() -> None:
    config = read(f"{NEEDED} --healpix_order 2 --healpix_order 3 --ctf --no_ctf --norm --norm")
    assert config.healpix_order == 3
    assert not config.ctf
    assert [note.split(":")[0] for note in config.notes] == ["--healpix_order", "--no_ctf"]


def test_help_lists_every_option_under_its_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert refine.run(["--help"]) == 0
    text = capsys.readouterr().out
    for spec in options_of(RefineConfig):
        assert f"\n  --{spec.flag}" in text
        assert f"\n{spec.panel}:" in text
    assert "--preread_images" in text
    assert max(len(line) for line in text.splitlines()) <= 110
