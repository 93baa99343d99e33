"""reconstruct, project and image_handler beside RELION 3.1's programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.config.simulate import SimulateConfig
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.star import read_star, write_star
from mpiapp.model.fsc import fsc
from mpiapp.testing.phantoms import phantom_map
from mpiapp.testing.simulate import simulate

pytestmark = [pytest.mark.relion, pytest.mark.slow]
BOX, PIXEL = 48, 3.0
Call = Callable[[str], str]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two maps, a.mrc and b.mrc: a phantom off the centre, and one with noise."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(1)
    phantom = phantom_map(BOX, PIXEL, 100.0, seed=2)
    write_map(folder / "a.mrc", phantom, PIXEL)
    write_map(folder / "b.mrc", phantom + 0.5 * phantom.std() * rng.normal(size=phantom.shape), PIXEL)
    return folder


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STAR file of 300 noisy particles at their true poses, in two optics groups with beam tilt and two halves."""
    folder = tmp_path_factory.mktemp("particles")
    config = SimulateConfig(
        output=str(folder), n_particles=300, box=(BOX,), pixel_size_A=(PIXEL,), snr=0.5, seed=8,
        voltage_kV=(300.0, 200.0), beam_tilt_mrad=(0.5, -0.3), per_micrograph=50,
    )  # fmt: skip
    blocks = read_star(simulate(config).truth_star)
    blocks["particles"]["rlnRandomSubset"] = 1 + np.arange(300) % 2
    write_star(folder / "halves.star", blocks)
    return folder / "halves.star"


def both(call: Call, folder: Path, program: str, words: str) -> list[np.ndarray]:
    """Result of our command and of RELION's, with the same flags."""
    out = []
    for side in ("ours", "theirs"):
        target = folder / f"{side}.mrc"
        if side == "ours":
            assert main([program, *words.split(), "--o", str(target)]) == 0
        else:
            call(f"relion_{program} {words} --o {target}")
        out.append(read_map(target)[0])
    return out


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("--multiply_constant -2.5", 1e-6),
        ("--add_constant 3", 1e-6),
        ("--threshold_above 0.5", 1e-6),
        ("--add {}/b.mrc", 1e-6),
        ("--subtract {}/b.mrc", 1e-6),
        ("--multiply {}/b.mrc", 1e-6),
        ("--divide {}/b.mrc", 1e-5),
        ("--lowpass 12", 1e-5),
        ("--highpass 25 --filter_edge_width 4", 1e-5),
        ("--bfactor 150", 1e-5),
        ("--flipX", 0),
        ("--flipY", 0),
        ("--flipZ", 0),
        ("--invert_hand", 0),
        ("--new_box 60", 0),
        ("--new_box 30", 0),
        ("--rescale_angpix 4", 1e-4),
        ("--force_header_angpix 2.5", 0),
    ],
)
def test_image_handler(call: Call, maps: Path, tmp_path: Path, words: str, limit: float) -> None:
    ours, theirs = both(call, tmp_path, "image_handler", f"--i {maps}/a.mrc {words.format(maps)}")
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= limit * np.abs(theirs).max() + (1e-7 if limit else 0)
    pixels = [read_map(tmp_path / f"{side}.mrc")[1] for side in ("ours", "theirs")]
    assert pixels[0] == pytest.approx(pixels[1], abs=1e-5)


def test_symmetry_of_a_map(call: Call, maps: Path, tmp_path: Path) -> None:
    """Cubic splines here, linear interpolation there: the low-passed maps are the same."""
    smooth = tmp_path / "smooth.mrc"
    assert main(["image_handler", "--i", f"{maps}/a.mrc", "--lowpass", "25", "--o", str(smooth)]) == 0
    for group in ("C3", "D2", "O"):
        ours, theirs = both(call, tmp_path, "image_handler", f"--i {smooth} --sym {group}")
        assert correlation(ours, theirs) > 0.999, group


def test_fsc_table(call: Call, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--i {maps}/a.mrc --fsc {maps}/b.mrc"
    assert main(["image_handler", *words.split()]) == 0
    tables = []
    for text in (capsys.readouterr().out, call(f"relion_image_handler {words}")):
        star = tmp_path / "fsc.star"
        star.write_text(text[text.index("data_") :])
        block = next(iter(read_star(star).values()))
        tables.append(np.asarray(block["rlnFourierShellCorrelation"], float))
    np.testing.assert_allclose(tables[0], tables[1], atol=2e-6)


def test_projection_at_given_angles(call: Call, maps: Path, tmp_path: Path) -> None:
    words = f"--i {maps}/a.mrc --rot 35 --tilt 110 --psi -20 --xoff 3 --yoff -1.5"
    ours, theirs = both(call, tmp_path, "project", words)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_projections_of_particles(call: Call, maps: Path, particles: Path, tmp_path: Path) -> None:
    blocks = read_star(particles)
    # relion_project leaves the phase of a beam tilt out
    blocks["optics"] = blocks["optics"].drop(columns=["rlnBeamTiltX", "rlnBeamTiltY"])
    particles = tmp_path / "straight.star"
    write_star(particles, blocks)
    for flags in ("--ctf", "--ctf --ctf_intact_first_peak --maxres 10", ""):
        words = f"--i {maps}/a.mrc --ang {particles} {flags}"
        call(f"relion_project {words} --o {tmp_path}/theirs")
        assert main(["project", *words.split(), "--o", f"{tmp_path}/ours"]) == 0
        ours, theirs = (read_map(tmp_path / f"{side}.mrcs")[0] for side in ("ours", "theirs"))
        assert ours.shape == theirs.shape == (300, BOX, BOX)
        assert correlation(ours, theirs) > 0.9999, flags
        assert np.abs(ours - theirs).max() < 2e-2 * np.abs(theirs).max(), flags


@pytest.mark.parametrize(
    "flags", ["--ctf", "--ctf --sym C2 --maxres 8", "--subset 1", "--ctf --only_flip_phases"]
)
def test_reconstruction(call: Call, particles: Path, tmp_path: Path, flags: str) -> None:
    words = f"--i {particles} {flags}"
    call(f"relion_reconstruct {words} --skip_gridding --o {tmp_path}/theirs.mrc")
    assert main(["reconstruct", *words.split(), "--keep_corners", "--o", f"{tmp_path}/ours.mrc"]) == 0
    ours, theirs = (read_map(tmp_path / f"{side}.mrc")[0] for side in ("ours", "theirs"))
    curve = fsc(ours, theirs)
    last = 16 if "maxres" in flags else BOX // 2 - 5  # 8 A is shell 18
    assert curve[1:last].min() > 0.999, np.round(curve, 4)
    assert (ours * theirs).sum() / (theirs * theirs).sum() == pytest.approx(1, abs=0.01)
