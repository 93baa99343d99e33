"""``mpiapp simulate`` and ``mpiapp demo``: options, messages, files; no refinement is run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli import demo
from mpiapp.cli.simulate import Parser, add_arguments, config_from, run
from mpiapp.config.simulate import SimulateConfig
from mpiapp.errors import ConfigError
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.outputs import OutputNames
from mpiapp.io.star import read_star, write_star


def parsed(*argv: str) -> SimulateConfig:
    parser = Parser(prog="mpiapp simulate", allow_abbrev=False)
    add_arguments(parser)
    return config_from(parser.parse(argv))


def test_options_reach_their_fields():
    config = parsed(
        "--o", "x", "--n", "10", "--kv", "300", "200", "--box=32", "--angpix", "4", "3", "--no_ctf",
        "--beam-tilt", "-0.5", "1", "--model", "a.pdb", "--model", "b.cif", "--phase-shift", "-20", "90",
    )  # fmt: skip
    expected = SimulateConfig(
        output="x", n_particles=10, voltage_kV=(300.0, 200.0), box=(32,), pixel_size_A=(4.0, 3.0), ctf=False,
        beam_tilt_mrad=(-0.5, 1.0), models=("a.pdb", "b.cif"), phase_shift_deg=(-20.0, 90.0),
    )  # fmt: skip
    assert config == expected
    assert parsed() == SimulateConfig()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--boxx", "3"], "unknown option --boxx; did you mean --box?"),
        (["--snr"], "--snr: expected one argument"),
        (["--n", "2.5"], "--n: 2.5: expected a whole number"),
        (["--defocus", "10000"], "--defocus: expected 2 arguments"),
        (["--snr", "-3"], "--snr -3: expected a number of at least 0"),
    ],
)
def test_wrong_options_are_explained(argv, message):
    with pytest.raises(ConfigError) as caught:
        parsed(*argv)
    assert message in str(caught.value)


def test_simulate_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["--o", "s", "--n", "12", "--box", "24", "--angpix", "6", "--seed", "4"]) == 0
    text = capsys.readouterr().out
    assert "mpiapp refine3d --i s/particles.star --ref s/reference_class001.mrc --ini_high 40" in text
    assert read_map("s/particles.mrcs")[0].shape == (12, 24, 24)


def test_demo_scores_a_run_whose_errors_are_known(tmp_path, monkeypatch, capsys):
    """In place of the refinement: true poses, 3 degrees off in plane, and the true map with noise."""

    def pretend(data, config, root, threads=0):
        names = OutputNames(root)
        Path(root).parent.mkdir(parents=True)
        blocks = read_star(data.truth_star)
        sign = np.where(np.arange(config.n_particles) % 2, 1.0, -1.0)
        blocks["particles"]["rlnAnglePsi"] += 3.0 * sign
        write_star(names.data(None), blocks)
        true, pixel = read_map(data.truth_maps[0])
        rng = np.random.default_rng(0)
        for path in (names.unfil(1), names.unfil(2), names.final_map()):
            noise = rng.standard_normal(true.shape).astype(np.float32)
            write_map(path, true + 0.1 * true.std() * noise, pixel)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_refinement", pretend)
    assert demo.run(["--n", "100", "--box", "32", "--seed", "5"]) == 0
    text = capsys.readouterr().out
    found = re.search(r"orientations: median error ([\d.]+) degrees", text)
    assert found
    # the alignment of the maps takes up what the errors have in common
    assert float(found[1]) == pytest.approx(3.0, abs=0.5)
    assert "100.0 % within 5" in text
    assert "shifts: median error 0.0" in text
    for name in ("fsc.png", "map.png", "truth.png", "refine/run_class001.mrc"):
        assert f"demo/{name}" in text
        assert Path("demo", name).stat().st_size > 1000
