"""Simulated data sets: reproducible, with the SNR, noise and files asked for, and right in RELION's eyes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mpiapp.config.simulate import SimulateConfig
from mpiapp.errors import ConfigError, InputError
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.star import read_star, write_star
from mpiapp.testing.draws import draw_particles
from mpiapp.testing.images import ImageSimulator
from mpiapp.testing.noise import power_spectrum
from mpiapp.testing.objects import prepare_objects
from mpiapp.testing.optics import SimulatedOptics
from mpiapp.testing.phantoms import phantom_map
from mpiapp.testing.simulate import optics_groups, simulate
from mpiapp.testing.truth import score_map, score_star

SMALL = SimulateConfig(n_particles=40, box=(32,), pixel_size_A=(5.0,), per_micrograph=8, seed=11)


def small(**changes: object) -> SimulateConfig:
    return dataclasses.replace(SMALL, **changes)


def simulator(config: SimulateConfig) -> ImageSimulator:
    objects = prepare_objects(config.validate())
    return ImageSimulator(objects, optics_groups(objects.config))


def test_particles_do_not_depend_on_pieces_or_number():
    config = small()
    made = simulator(config)
    truth = draw_particles(made.config, np.arange(40))
    whole, _ = made.noisy(truth)
    pieces = [made.noisy(truth.take(np.arange(a, b)))[0] for a, b in ((0, 1), (1, 17), (17, 40))]
    assert np.array_equal(whole, np.concatenate(pieces))
    # a longer set begins with the same particles, and they are no copies of each other
    longer = simulator(small(n_particles=90))
    later, _ = longer.noisy(draw_particles(longer.config, np.arange(30, 40)))
    assert np.array_equal(whole[30:], later)
    assert np.abs(np.corrcoef(made.noise(np.arange(20), 0).reshape(20, -1)) - np.eye(20)).max() < 0.2


def test_views_are_uniform_and_shifts_as_asked():
    truth = draw_particles(small(shift_sigma_A=4.0, intensity_sigma=0.1), np.arange(4000))
    assert np.cos(np.deg2rad(truth.tilt_deg)).mean() == pytest.approx(0, abs=0.03)
    assert (np.cos(np.deg2rad(truth.tilt_deg)) ** 2).mean() == pytest.approx(1 / 3, abs=0.02)
    assert truth.shift_A.std(axis=0) == pytest.approx(4.0, rel=0.05)
    assert truth.scale.std() == pytest.approx(0.1, rel=0.15)
    assert len(np.unique(truth.scale)) == 500


def test_snr_is_what_was_asked_for():
    """In each optics group: variance of the signal in the circle over variance of the noise."""
    config = small(snr=0.3, box=(32, 40), pixel_size_A=(5.0, 4.0), noise_amplitude=0.0, diameter_A=110.0)
    made = simulator(config)
    for group in (0, 1):
        truth = draw_particles(made.config, np.arange(1600))
        truth = truth.take(np.flatnonzero(truth.group == group)[:400])
        inside = made.particle_disc(group)
        signal = made.clean(truth)[:, inside].var(axis=1).mean()
        noise = made.noise(truth.number, group).var()
        assert signal / noise == pytest.approx(0.3, rel=0.06)


def test_noise_of_finished_images_has_the_spectrum_asked_for():
    """Images with hardly any signal, normalised: background variance 1, coloured power at low frequency."""
    config = small(snr=1e-6, noise_amplitude=6.0, noise_corner_A=60.0, n_particles=600)
    made = simulator(config)
    images, _ = made.noisy(draw_particles(made.config, np.arange(600)))
    outside = images[:, ~made.particle_disc(0)]
    assert np.abs(outside.mean(axis=1)).max() < 1e-4
    assert np.abs(outside.std(axis=1) - 1).max() < 1e-4
    s = np.arange(17) / (32 * 5.0)
    ratio = power_spectrum(images) / (1 + 6.0 / (1 + (s * 60.0) ** 2))
    assert np.abs(ratio[4:] / ratio[4:].mean() - 1).max() < 0.06


def test_ctf_shows_in_the_power_of_images():
    """The power of images over that of their projections is the squared CTF, shell by shell."""
    shared = {"defocus_A": (20000.0, 20000.0), "astigmatism_A": 0.0, "defocus_spread_A": 0.0, "snr": 0.0}
    with_ctf, without = simulator(small(**shared)), simulator(small(ctf=False, **shared))
    truth = draw_particles(with_ctf.config, np.arange(40))
    ratio = power_spectrum(with_ctf.clean(truth))[1:15] / power_spectrum(without.clean(truth))[1:15]
    s = np.linspace(0.5, 15.5, 1501) / 160.0
    chi = np.pi * 0.0196875 * 20000 * s**2 - 0.5 * np.pi * 2.7e7 * 0.0196875**3 * s**4 + np.arcsin(0.1)
    expected = (np.sin(chi) ** 2)[:1400].reshape(14, 100).mean(axis=1)
    assert np.abs(ratio - expected).max() < 0.12
    assert np.corrcoef(ratio, expected)[0, 1] > 0.98


def test_files_of_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    config = small(
        output="set", box=(32, 40), pixel_size_A=(5.0, 4.0), voltage_kV=(300.0, 200.0), n_classes=2, snr=0.5,
        proportions=(3.0, 1.0), beam_tilt_mrad=(0.2, 0.1),
    )  # fmt: skip
    data = simulate(config, lines.append)
    blocks = read_star("set/particles.star")
    optics, particles = blocks["optics"], blocks["particles"]
    assert optics["rlnVoltage"].tolist() == [300.0, 200.0]
    assert optics["rlnImageSize"].tolist() == [32, 40]
    assert optics["rlnBeamTiltX"].tolist() == [0.2, -0.1]
    assert len(particles) == 40
    assert not [name for name in particles.columns if "Angle" in name and "Defocus" not in name]
    # names lead to images of the right size
    assert particles["rlnImageName"][0] == "000001@set/particles_opticsGroup1.mrcs"
    for group, box in ((1, 32), (2, 40)):
        rows = particles[particles["rlnOpticsGroup"] == group]
        stack, pixel = read_map(f"set/particles_opticsGroup{group}.mrcs")
        assert stack.shape == (len(rows), box, box)
        assert pixel == pytest.approx(optics["rlnImagePixelSize"][group - 1])
    truth = read_star("set/truth.star")["particles"]
    assert sorted(truth["rlnClassNumber"].unique()) == [1, 2]
    assert (truth["rlnClassNumber"] == 1).mean() == pytest.approx(0.75, abs=0.15)
    for name in ("truth_class002", "reference_class002"):
        volume, pixel = read_map(f"set/{name}.mrc")
        assert volume.shape == (32, 32, 32)
        assert pixel == pytest.approx(5.0)
    assert json.loads(Path("set/simulation.json").read_text())["options"]["seed"] == 11
    assert data.diameter_A == pytest.approx(120.0)
    assert lines
    # the truth scores perfectly against itself
    score = score_star("set/truth.star", "set/truth.star")
    assert score.angle_deg.max() < 1e-3
    assert score.shift_A.max() < 1e-6


def test_map_is_taken_over_with_its_box_and_pixel(tmp_path):
    volume = phantom_map(36, 4.0, diameter_A=100.0, seed=5)
    write_map(tmp_path / "m.mrc", volume, 4.0)
    kept = prepare_objects(SimulateConfig(maps=(str(tmp_path / "m.mrc"),)))
    assert np.allclose(kept.volumes[0], volume, atol=1e-6)
    assert (kept.box, kept.pixel_size_A) == (36, 4.0)
    assert 80 < kept.config.diameter_A < 115
    other = prepare_objects(SimulateConfig(maps=(str(tmp_path / "m.mrc"),), box=(32,), pixel_size_A=(5.0,)))
    assert other.volumes[0].shape == (32, 32, 32)


def test_map_on_other_axes_is_reported(tmp_path):
    write_map(tmp_path / "m.mrc", phantom_map(32, 5.0, seed=5), 5.0)
    lines: list[str] = []
    prepare_objects(SimulateConfig(maps=(str(tmp_path / "m.mrc"),), symmetry="C4"), lines.append)
    assert "axes probably lie elsewhere" in lines[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": (33,)}, "--box 33"),
        ({"snr": -1.0}, "--snr -1"),
        ({"snr": float("nan")}, "--snr nan"),
        ({"box": (32, 40, 48), "voltage_kV": (300.0, 200.0)}, "--kv 300 200: 2 values, but there are 3"),
        ({"symmetry": "X7"}, "--sym X7"),
        ({"defocus_A": (2e4, 1e4)}, "--defocus 20000 10000"),
        ({"diameter_A": 500.0}, "--diameter 500: larger than the box"),
        ({"proportions": (1.0, 2.0)}, "--proportions 1 2"),
        ({"maps": ("a.mrc",), "n_classes": 2}, "--K"),
    ],
)
def test_impossible_options_are_named(changes, message):
    with pytest.raises(ConfigError) as caught:
        small(**changes).validate()
    assert message in str(caught.value)


def test_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--o .*file/below: can not be made"):
        simulate(small(output=str(tmp_path / "file" / "below")))


def test_map_with_bad_values_is_named(tmp_path):
    volume = np.zeros((16, 16, 16), np.float32)
    write_map(tmp_path / "nan.mrc", volume, 3.0)
    content = bytearray((tmp_path / "nan.mrc").read_bytes())
    content[1024 + 4 * 37 : 1024 + 4 * 38] = np.float32(np.nan).tobytes()
    (tmp_path / "nan.mrc").write_bytes(content)
    with pytest.raises(InputError, match=r"nan\.mrc: holds values that are not numbers"):
        prepare_objects(SimulateConfig(maps=(str(tmp_path / "nan.mrc"),)))


STRONG = SimulateConfig(n_particles=300, snr=20.0, box=(48,), pixel_size_A=(4.0,), seed=3)
DISTORTED = SimulatedOptics(
    "opticsGroup1", 4.0, 48, beam_tilt_mrad=(18.0, -10.0), mag_matrix=(1.08, 0.03, 0.02, 0.94),
    even_zernike=(0.3, 40.0, -15.0, 60.0), odd_zernike=(0.0, 0.0, 900.0, 0.0, 0.0, 900.0),
)  # fmt: skip


def reconstructed(
    relion: Path, folder: Path, star: str, symmetry: str = "C1"
) -> tuple[np.ndarray, np.ndarray]:
    """RELION's reconstruction from the true poses, and the truth."""
    command = [relion / "relion_reconstruct", "--i", star, "--o", "rec.mrc", "--ctf", "--sym", symmetry]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    return read_map(folder / "rec.mrc")[0], read_map(folder / "truth_class001.mrc")[0]


def gain(volume: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Regression of a map on the truth by shell: 1 where amplitudes and phases are right, else less."""
    a, b = (np.fft.fftn(v).ravel() for v in (volume, true))
    k = np.fft.fftfreq(len(true), 1 / len(true))
    z, y, x = np.meshgrid(k, k, k, indexing="ij")
    shell = np.rint(np.sqrt(x**2 + y**2 + z**2)).astype(int).ravel()
    return np.bincount(shell, (a * b.conj()).real) / np.bincount(shell, np.abs(b) ** 2)


@pytest.mark.relion
@pytest.mark.parametrize(
    ("changes", "optics"),
    [
        ({"intensity_sigma": 0.1, "voltage_kV": (300.0, 200.0), "amplitude_contrast": (0.1, 0.07)}, None),
        ({"phase_shift_deg": (20.0, 140.0), "ctf_bfactor_A2": 60.0}, None),
        ({"box": (48, 64), "pixel_size_A": (4.0, 3.2)}, None),
        ({"symmetry": "D3", "n_particles": 200}, None),
        ({}, [DISTORTED]),
    ],
    ids=["voltages", "phase plate", "pixel sizes", "D3", "aberrations"],
)
def test_relion_reconstructs_the_truth(relion, tmp_path, changes, optics):
    """Hand, signs of shifts, CTF, phase shift, aberrations and optics groups, all judged by RELION."""
    config = dataclasses.replace(STRONG, output=str(tmp_path), **changes)
    data = simulate(config, optics=optics)
    volume, true = reconstructed(relion, tmp_path, "truth.star", config.symmetry)
    assert score_map(volume, true, data.pixel_size_A, data.diameter_A).fsc[1:18].min() > 0.95
    # groups of different pixel size, and the few micrographs, have grey scales of their own
    off = np.abs(gain(volume, true)[6:18] - 1).max()
    assert off < (0.2 if config.n_groups > 1 else 0.1)


@pytest.fixture(scope="module")
def distorted(relion, tmp_path_factory) -> Path:
    """A data set with every distortion, which RELION reconstructs when it is told of all of them."""
    folder = tmp_path_factory.mktemp("distorted")
    config = dataclasses.replace(STRONG, output=str(folder), phase_shift_deg=(20.0, 140.0))
    simulate(config, optics=[DISTORTED])
    right = gain(*reconstructed(relion, folder, "truth.star"))
    assert np.abs(right[6:22] - 1).max() < 0.05
    return folder


@pytest.mark.relion
@pytest.mark.parametrize(
    "change",
    ["rlnBeamTiltX", "rlnOddZernike", "rlnEvenZernike", "rlnMagMat00", "rlnOriginXAngst", "rlnPhaseShift"],
)
def test_relion_notices_what_is_left_out(relion, distorted, change):
    """The checks above can fail: an unknown tilt, aberration, magnification, shift or phase plate costs."""
    blocks = read_star(distorted / "truth.star")
    optics, particles = blocks["optics"], blocks["particles"]
    if change in optics.columns:
        blocks["optics"] = optics.drop(columns=[c for c in optics.columns if c[:9] == change[:9]])
    else:
        particles[change] = 0.0
    write_star(distorted / "wrong.star", blocks)
    wrong = gain(*reconstructed(relion, distorted, "wrong.star"))
    assert wrong[10:22].min() < 0.6
