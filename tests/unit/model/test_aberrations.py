"""Zernike terms and beam tilt against their definitions, and against RELION's own output."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mpiapp.model import aberrations as ab
from mpiapp.model.ctf import ctf, ctf_coefficients, wavelength_A
from mpiapp.model.filters import gridding_correction
from mpiapp.model.fourier import axis_frequencies, forward_2d, forward_3d


def definition(m: int, n: int, x: float, y: float) -> float:
    """Zernike polynomial by factorials and an angle."""
    rho, phi = math.hypot(x, y), math.atan2(y, x)
    a = abs(m)
    radial = sum(
        (-1) ** k
        * math.factorial(n - k)
        / (math.factorial(k) * math.factorial((n + a) // 2 - k) * math.factorial((n - a) // 2 - k))
        * rho ** (n - 2 * k)
        for k in range((n - a) // 2 + 1)
    )
    return radial * (math.cos(m * phi) if m >= 0 else math.sin(a * phi))


def test_terms_follow_their_definition(rng: np.random.Generator) -> None:
    x, y = rng.uniform(-1.2, 1.2, size=(2, 30))
    for n in range(9):
        for m in range(-n, n + 1, 2):
            expected = [definition(m, n, a, b) for a, b in zip(x, y, strict=True)]
            np.testing.assert_allclose(ab.zernike(m, n, x, y), expected, atol=1e-9)
    with pytest.raises(ValueError, match="m = 1, n = 2"):
        ab.zernike(1, 2, x, y)


def test_order_of_the_coefficients() -> None:
    even = [(m, n) for n in range(0, 8, 2) for m in range(-n, n + 1, 2)]
    odd = [(m, n) for n in range(1, 9, 2) for m in range(-n, n + 1, 2)]
    assert [ab.even_order(i) for i in range(len(even))] == even
    assert [ab.odd_order(i) for i in range(len(odd))] == odd


def test_even_term_equals_a_defocus_change() -> None:
    """Z(0, 2) = 2 rho^2 - 1: its rho^2 part is a defocus of -2 e/(pi lambda)."""
    x, y = np.array([0.05, -0.1]), np.array([0.02, 0.07])
    unit = math.pi * float(wavelength_A(300.0))
    coefficients = [0.0, 0.0, 40.0, 0.0]
    assert ab.even_order(2) == (0, 2)
    found = ab.even_gamma(coefficients, x, y) + 40.0
    np.testing.assert_allclose(found, -unit * (-80.0 / unit) * (x * x + y * y), rtol=1e-12)


def test_beam_tilt_is_a_cubic_phase() -> None:
    x, y = np.array([0.05, -0.1, 0.13]), np.array([0.02, 0.07, -0.2])
    tilt = (1.5, -0.7)
    strength = 2 * math.pi * 2.7e7 * float(wavelength_A(300.0)) ** 2
    expected = -strength * 1e-3 * (x * x + y * y) * (tilt[0] * x + tilt[1] * y)
    folded = ab.fold_beam_tilt((), tilt, 300.0, 2.7)
    np.testing.assert_allclose(ab.odd_phase(folded, x, y), expected, rtol=1e-10)
    both = ab.fold_beam_tilt((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), tilt, 300.0, 2.7)
    extra = ab.odd_phase((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), x, y)
    np.testing.assert_allclose(ab.odd_phase(both, x, y), expected + extra, rtol=1e-10)
    assert ab.fold_beam_tilt((1.0,), (0.0, 0.0), 300.0, 2.7) == (1.0,)


def test_demodulation_undoes_the_phase() -> None:
    x, y = np.array([0.1, -0.2]), np.array([0.0, 0.3])
    coefficients = (2.0, -1.0, 30.0)
    factor = ab.demodulation(coefficients, x, y)
    assert factor.dtype == np.complex64
    np.testing.assert_allclose(factor * np.exp(1j * ab.odd_phase(coefficients, x, y)), 1.0, atol=1e-6)


def test_magnification() -> None:
    kx, ky = np.array([1.0, 0.0, 2.0]), np.array([0.0, 1.0, -1.0])
    x, y = ab.magnify(kx, ky, (1.01, 0.02, 0.03, 0.98))
    np.testing.assert_allclose(x, [1.01, 0.02, 2.00])
    np.testing.assert_allclose(y, [0.03, 0.98, -0.92])
    assert all(np.array_equal(a, b) for a, b in zip(ab.magnify(kx, ky, (1, 0, 0, 1)), (kx, ky), strict=True))


BOX, PIXEL = 48, 2.0


def write_particle(folder: Path, optics: dict[str, object], defocus: float, phase_shift: float) -> None:
    """One particle, an optics group with the given extra columns, and an image that is one bright pixel."""
    image = np.zeros((1, BOX, BOX), np.float32)
    image[0, BOX // 2, BOX // 2] = 1000.0
    mrcfile.write(folder / "image.mrcs", image, voxel_size=PIXEL)
    group = {
        "OpticsGroup": 1, "OpticsGroupName": "g", "Voltage": 300.0, "SphericalAberration": 2.7,
        "AmplitudeContrast": 0.1, "ImagePixelSize": PIXEL, "ImageSize": BOX, "ImageDimensionality": 2,
    } | optics  # fmt: skip
    particle = {
        "OpticsGroup": 1, "ImageName": "1@image.mrcs", "MicrographName": "m", "AngleRot": 0, "AngleTilt": 0,
        "AnglePsi": 0, "OriginXAngst": 0, "OriginYAngst": 0, "DefocusU": defocus, "DefocusV": defocus - 200,
        "DefocusAngle": 30, "PhaseShift": phase_shift,
    }  # fmt: skip
    lines = []
    for name, table in (("optics", group), ("particles", particle)):
        lines += ["", "# version 30001", "", f"data_{name}", "", "loop_"]
        lines += [f"_rln{label} #{i + 1}" for i, label in enumerate(table)]
        lines += [" ".join(str(value) for value in table.values()), ""]
    (folder / "particle.star").write_text("\n".join(lines) + "\n")


def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ky, kx = np.meshgrid(axis_frequencies(BOX), np.arange(BOX // 2 + 1), indexing="ij")
    return kx / (BOX * PIXEL), ky / (BOX * PIXEL), np.hypot(kx, ky)


@pytest.mark.relion
def test_even_terms_and_magnification_against_relion_project(relion: Path, tmp_path: Path) -> None:
    """The projection of a point has the transform 1, so relion_project writes out its CTF."""
    even = (0.3, 5.0, -20.0, 10.0, 100.0, 30.0, -60.0, 10.0, 5.0)
    matrix = (1.02, 0.01, 0.005, 0.99)
    columns: dict[str, object] = {"EvenZernike": "[" + ",".join(map(str, even)) + "]"}
    columns |= dict(zip(("MagMat00", "MagMat01", "MagMat10", "MagMat11"), matrix, strict=True))
    write_particle(tmp_path, columns, 15000.0, 20.0)
    volume = np.zeros((BOX,) * 3, np.float32)
    volume[(BOX // 2,) * 3] = BOX**2
    mrcfile.write(tmp_path / "point.mrc", volume, voxel_size=PIXEL)
    flags = "--i point.mrc --ang particle.star --o out --ctf --angpix 2"
    subprocess.run([relion / "relion_project", *flags.split()], cwd=tmp_path, check=True, capture_output=True)
    found = forward_2d(mrcfile.read(tmp_path / "out.mrcs").reshape(BOX, BOX))
    kx, ky, radius = grid()
    x, y = ab.magnify(kx, ky, matrix)
    part = ctf_coefficients(300.0, 2.7, 0.1, *np.array([[15000.0], [14800.0], [30.0]]), 20.0)
    gamma = ab.even_gamma(even, x, y).ravel()
    expected = ctf(x.ravel(), y.ravel(), part, even_gamma=gamma).reshape(x.shape)
    inside = (radius > 0) & (radius < BOX // 2 - 1)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6)


@pytest.mark.relion
@pytest.mark.parametrize("case", ["tilt", "zernike"])
def test_odd_phase_against_relion_reconstruct(relion: Path, tmp_path: Path, case: str) -> None:
    """One view reconstructs to its demodulated transform on the central section (the CTF is positive)."""
    odd, tilt = (1.0, -2.0, 20.0, 3.0, -4.0, 30.0), (1.5, -0.7)
    columns: dict[str, object] = {"OddZernike": "[" + ",".join(map(str, odd)) + "]"}
    if case == "tilt":
        columns = {"BeamTiltX": tilt[0], "BeamTiltY": tilt[1]}
        odd = ab.fold_beam_tilt((), tilt, 300.0, 2.7)
    write_particle(tmp_path, columns, 300.0, 84.0)
    flags = "--i particle.star --o out.mrc --pad 1 --skip_gridding --ctf"
    program = relion / "relion_reconstruct"
    subprocess.run([program, *flags.split()], cwd=tmp_path, check=True, capture_output=True)
    volume = mrcfile.read(tmp_path / "out.mrc") * gridding_correction(BOX, BOX)
    section = forward_3d(volume)[0]
    kx, ky, radius = grid()
    inside = (radius > 0) & (radius < BOX // 2 - 4)
    found = (section / np.abs(section))[inside]
    expected = ab.demodulation(odd, kx, ky)[inside]
    # the corner mask of the reconstruction cuts the tails of the point: a few parts in a thousand
    assert np.abs(found - expected).max() < 0.02
    assert np.abs(expected - 1).mean() > 0.1
