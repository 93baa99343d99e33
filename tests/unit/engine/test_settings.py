"""Options that are known but not computed with are refused; the command of a run can be read off its options."""

from __future__ import annotations

import shlex

import pytest

from mpiapp.cli.options import parse
from mpiapp.config.classify import Class2dConfig, Class3dConfig
from mpiapp.config.refine import RefineConfig
from mpiapp.engine.settings import check_supported
from mpiapp.errors import ConfigError


def make(**options: object) -> RefineConfig:
    return RefineConfig.from_options({"i": "a.star", "o": "out/run", "ref": "map.mrc", **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "half"}, ["--precision half"]),
        ({"precision": "double"}, ["--precision double", "--precision single"]),
        ({"ctf_intact_first_peak": True}, ["--ctf_intact_first_peak", "RELION"]),
        ({"ctf_phase_flipped": True}, ["--ctf_phase_flipped"]),
        ({"only_flip_phases": True}, ["--only_flip_phases"]),
        ({"strict_lowres_exp": 200}, ["--strict_lowres_exp 200"]),
    ],
)
def test_refused(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as fault:
        check_supported(make(**options))
    assert [word for word in words if word not in str(fault.value)] == []


@pytest.mark.parametrize("kind", [Class3dConfig, Class2dConfig])
@pytest.mark.parametrize("gpu", ["", "0:1"])
def test_classification_computes_on_devices(kind: type[Class3dConfig | Class2dConfig], gpu: str) -> None:
    check_supported(kind.from_options({"i": "a.star", "o": "out/run", "ref": "map.mrc", "gpu": gpu}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "single"},
        {"strict_highres_exp": 8},
        {"gpu": "0", "precision": "half"},
        {"gpu": "0", "strict_highres_exp": 8},
    ],
)
def test_accepted(options: dict[str, object]) -> None:
    check_supported(make(**options))


def test_the_command_in_the_files_gives_the_options_back() -> None:
    """A shell reads it, and the same run comes out."""
    config = make(o="my jobs/run", ctf=False, solvent_mask="mask (1).mrc", tau2_fudge=2, firstiter_cc=True)
    words = shlex.split(str(config.command_line()))
    assert words[:2] == ["mpiapp", "refine3d"]
    again = parse(RefineConfig, words[2:], "", "")
    assert again == config
