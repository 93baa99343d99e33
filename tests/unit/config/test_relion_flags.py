"""RELION's other flags: each one is known, ignored ones are noted, refused ones stop before any work."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mpiapp.config.option import options_of
from mpiapp.config.refine import RefineConfig
from mpiapp.config.relion_flags import ForeignFlag, judge
from mpiapp.errors import ConfigError

FLAGS = RefineConfig.foreign_flags()
REFUSED = [flag for flag in FLAGS.values() if flag.refused]
IGNORED = [flag for flag in FLAGS.values() if not flag.refused]


@pytest.mark.relion
def test_every_flag_of_relion_is_an_option_or_listed(relion: Path) -> None:
    text = subprocess.run([relion / "relion_refine", "--help"], capture_output=True, text=True).stdout
    theirs = set(re.findall(r"^ +--(\w+) \(", text, flags=re.MULTILINE))
    ours = {spec.flag for spec in options_of(RefineConfig)} | set(FLAGS)
    assert len(theirs) > 100
    assert theirs <= ours | {"no_norm", "no_scale"}


def test_no_flag_is_both_an_option_and_foreign() -> None:
    assert not {spec.flag for spec in options_of(RefineConfig)} & set(FLAGS)


@pytest.mark.parametrize("flag", REFUSED, ids=lambda flag: flag.name)
def test_refused_flags_name_flag_reason_and_remedy(flag: ForeignFlag) -> None:
    with pytest.raises(ConfigError) as caught:
        judge(flag, "7.25" if flag.takes_value else None)
    message = str(caught.value)
    assert f"--{flag.name}" in message
    assert flag.reason in message
    assert "RELION" in message


@pytest.mark.parametrize("flag", IGNORED, ids=lambda flag: flag.name)
def test_ignored_flags_give_one_line(flag: ForeignFlag) -> None:
    line = judge(flag, "7.25" if flag.takes_value else None)
    assert line.startswith(f"--{flag.name}")
    assert "without effect" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("K", "1"), ("psi_step", "-1.0"), ("limit_tilt", "-91"), ("relax_sym", ""), ("local_symmetry", "None")],
)
def test_a_refused_flag_is_harmless_at_its_off_value(name: str, value: str) -> None:
    assert "off at this value" in judge(FLAGS[name], value)


@pytest.mark.parametrize(("name", "value"), [("K", "3"), ("K", None), ("psi_step", "5"), ("relax_sym", "C2")])
def test_and_refused_at_any_other(name: str, value: str | None) -> None:
    with pytest.raises(ConfigError, match=f"--{name}"):
        judge(FLAGS[name], value)


def test_python_calls_meet_the_same_judgement() -> None:
    config = RefineConfig.from_options({"i": "a", "preread_images": True, "helix": False})
    assert [note.split(":")[0] for note in config.notes] == ["--preread_images", "--helix"]
    with pytest.raises(ConfigError, match="--helix"):
        RefineConfig.from_options({"i": "a", "helix": True})
