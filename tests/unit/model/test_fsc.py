"""FSC against sums shell by shell, against RELION's programs, and the rules that read a resolution off it."""

from __future__ import annotations

import subprocess
from itertools import takewhile
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mpiapp.model import arrays
from mpiapp.model.fourier import forward_3d
from mpiapp.model.fsc import (
    correct_fsc,
    first_shell_below,
    fsc,
    fsc_of_half_grids,
    resolution_at,
    resolution_interpolated,
    solvent_corrected_fsc,
)
from mpiapp.model.masks import soft_sphere
from mpiapp.model.random_phases import randomise_phases


def two_maps(rng: np.random.Generator, box: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Half maps of a ball of density, with independent noise."""
    ball = soft_sphere(box, box / 5, 3.0) * (1 + rng.normal(size=(box,) * 3))
    return tuple((ball + noise * rng.normal(size=ball.shape)).astype(np.float32) for _ in range(2))  # type: ignore[return-value]


def stored_fsc(map1: np.ndarray, map2: np.ndarray) -> np.ndarray:
    """FSC element by element of NumPy's half transform, in its own order."""
    n = map1.shape[0]
    a, b = np.fft.rfftn(map1.astype(float)), np.fft.rfftn(map2.astype(float))
    sums = np.zeros((3, n))
    for z in range(n):
        for y in range(n):
            for x in range(n // 2 + 1):
                r = np.sqrt(min(z, n - z) ** 2 + min(y, n - y) ** 2 + x * x)
                p, q = a[z, y, x], b[z, y, x]
                sums[:, int(r + 0.5)] += (p * q.conjugate()).real, abs(p) ** 2, abs(q) ** 2
    sums = sums[:, : n // 2 + 1]
    return sums[0] / np.sqrt(sums[1] * sums[2])


def test_fsc_is_the_normalised_shell_sum(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    map1, map2 = two_maps(rng, 14)
    expected = stored_fsc(map1, map2)
    np.testing.assert_allclose(fsc(map1, map2), expected, atol=1e-5)
    monkeypatch.setattr(arrays, "SLAB", 3)
    np.testing.assert_allclose(fsc(map1, map2), expected, atol=1e-5)


def test_limits_of_the_fsc(rng: np.random.Generator) -> None:
    map1, _ = two_maps(rng, 16)
    np.testing.assert_allclose(fsc(map1, 3 * map1 + 1), 1.0, atol=1e-5)
    np.testing.assert_allclose(fsc(map1, -map1), -1.0, atol=1e-6)
    assert np.all(fsc(map1, np.zeros_like(map1)) == 0)
    with pytest.raises(ValueError, match="shapes"):
        fsc(map1, map1[:8, :8, :8])


def test_fsc_measures_the_signal_to_noise_ratio(rng: np.random.Generator) -> None:
    """White signal and noise: FSC = SNR/(1 + SNR)."""
    signal = rng.normal(size=(40, 40, 40))
    map1, map2 = (signal + np.sqrt(0.5) * rng.normal(size=signal.shape) for _ in range(2))
    assert fsc(map1, map2)[8:].mean() == pytest.approx(2 / 3, abs=0.02)


def centred_half(transform: np.ndarray, reach: int) -> np.ndarray:
    """Half transform in FFT order to the layout with its centre at index `reach`."""
    k = np.arange(-reach, reach + 1)
    return transform[np.ix_(k, k, np.arange(reach + 1))]


def test_half_grids_agree_with_the_maps(rng: np.random.Generator) -> None:
    map1, map2 = two_maps(rng, 32)
    grids = [centred_half(forward_3d(m), 13) for m in (map1, map2)]
    found = fsc_of_half_grids(*grids, r_max=12, n_shells=17)
    expected = fsc(map1, map2)
    assert found.shape == (17,)
    assert found[0] == 1.0
    np.testing.assert_allclose(found[1:12], expected[1:12], atol=1e-6)
    assert np.all(found[13:] == 0)
    # the last shell holds |k| <= r_max only
    k = np.arange(-13, 14)
    r = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(14) ** 2)
    rim = (r > 11.5) & (r <= 12)
    a, b = grids[0][rim], grids[1][rim]
    correlation = (a * b.conj()).real.sum() / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum())
    assert found[12] == pytest.approx(correlation, abs=1e-6)
    assert fsc_of_half_grids(*grids, r_max=12).shape == (13,)
    with pytest.raises(ValueError, match="shapes"):
        fsc_of_half_grids(grids[0], grids[1][1:], r_max=12)


def test_empty_grids_have_no_correlation() -> None:
    empty = np.zeros((7, 7, 4), np.complex64)
    assert fsc_of_half_grids(empty, empty, r_max=2, n_shells=5).tolist() == [1.0, 0, 0, 0, 0]


def test_resolution_is_that_of_the_last_shell_above() -> None:
    curve = np.array([1.0, 0.99, 0.6, 0.3, 0.1, 0.2, 0.0])
    assert first_shell_below(curve, 0.143) == 4
    assert first_shell_below(curve, 0.143, start=5) == 6
    assert first_shell_below(curve, -1.0) == -1
    assert resolution_at(curve, 0.143, 2.0, 12) == pytest.approx(24 / 3)
    assert resolution_at(curve, 0.5, 2.0, 12) == pytest.approx(24 / 2)
    assert resolution_at(np.ones(7), 0.143, 2.0, 12) == pytest.approx(4.0)
    assert resolution_at(np.array([1.0, 0.1, 0.9]), 0.143, 2.0, 4) == 999.0
    assert resolution_interpolated(curve, 0.143, 2.0, 12) == pytest.approx(24 / (3 + 0.157 / 0.2))
    assert resolution_interpolated(np.ones(7), 0.143, 2.0, 12) == pytest.approx(4.0)


def test_random_phases_keep_amplitudes_and_low_shells(rng: np.random.Generator) -> None:
    map1, _ = two_maps(rng, 24)
    out = randomise_phases(map1, 6, np.random.default_rng(3))
    before, after = forward_3d(map1), forward_3d(out)
    np.testing.assert_allclose(np.abs(after), np.abs(before), rtol=2e-3, atol=1e-7)
    curve = fsc(map1, out)
    np.testing.assert_allclose(curve[:6], 1.0, atol=1e-4)
    assert np.abs(curve[7:]).max() < 0.2
    assert np.array_equal(out, randomise_phases(map1, 6, np.random.default_rng(3)))


def test_correction_formula() -> None:
    masked = np.array([1.0, 0.9, 0.8, 0.7, 0.5, 0.1, 0.3])
    randomised = np.array([1.0, 0.9, 0.8, 0.2, 0.1, 0.2, 1.0])
    expected = [1.0, 0.9, 0.8, 0.7, 0.4 / 0.9, 0.0, 0.0]
    np.testing.assert_allclose(correct_fsc(masked, randomised, 2), expected)
    assert correct_fsc(masked, randomised, 2, clip=False)[5] == pytest.approx(-0.1 / 0.8)


def test_mask_effects_are_removed(rng: np.random.Generator) -> None:
    """Noise only beyond the signal: a tight mask inflates the curve there, the corrected one stays near 0."""
    box = 48
    mask = soft_sphere(box, 7.0, 2.0)
    signal = np.fft.rfftn(soft_sphere(box, 6.0, 2.0) * rng.normal(size=(box,) * 3))
    k = np.fft.fftfreq(box, 1 / box)
    low = k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(box // 2 + 1) ** 2 < 8**2
    smooth = np.fft.irfftn(np.where(low, signal, 0))
    half1, half2 = (
        (smooth + smooth.std() * rng.normal(size=smooth.shape)).astype(np.float32) for _ in range(2)
    )
    result = solvent_corrected_fsc(half1, half2, mask, seed=11)
    assert 7 <= result.randomise_from <= 9
    np.testing.assert_allclose(result.unmasked, fsc(half1, half2))
    np.testing.assert_allclose(result.masked, fsc(half1 * mask, half2 * mask))
    assert result.masked[11:20].mean() > 0.4
    assert result.randomised[11:20].mean() > 0.4
    assert result.corrected[11:].mean() < 0.1
    assert np.all(result.corrected >= 0)
    cut = solvent_corrected_fsc(half1, half2, mask, seed=11, last_shell=12)
    assert np.array_equal(cut.corrected[:13], result.corrected[:13])
    assert np.all(cut.corrected[13:] == 0)


def test_equal_halves_keep_the_unmasked_curve(rng: np.random.Generator) -> None:
    map1, _ = two_maps(rng, 16)
    result = solvent_corrected_fsc(map1, map1, soft_sphere(16, 4.0, 2.0), seed=1)
    assert result.randomise_from == -1
    assert np.array_equal(result.corrected, result.unmasked)


def columns(text: str, table: str) -> dict[str, np.ndarray]:
    """Columns of one loop of a STAR text."""
    lines = text.split(f"data_{table}\n", 1)[1].split("loop_", 1)[1].strip().splitlines()
    labels = [line.split()[0][4:] for line in takewhile(lambda line: line.startswith("_rln"), lines)]
    rows = []
    for line in lines[len(labels) :]:
        if not line.strip():
            break
        rows.append([float(v) for v in line.split()])
    return dict(zip(labels, np.array(rows).T, strict=True))


@pytest.mark.relion
def test_against_relion_image_handler(relion: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    map1, map2 = two_maps(rng, 32)
    for name, volume in (("a.mrc", map1), ("b.mrc", map2)):
        mrcfile.write(tmp_path / name, volume, voxel_size=3.0)
    program = relion / "relion_image_handler"
    flags = "--i a.mrc --fsc b.mrc --angpix 3 --o out.mrc"
    run = subprocess.run([program, *flags.split()], cwd=tmp_path, check=True, capture_output=True, text=True)
    expected = columns(run.stdout, "fsc")["FourierShellCorrelation"]
    np.testing.assert_allclose(fsc(map1, map2)[: len(expected)], expected, atol=1e-5)
    assert len(expected) == 17


@pytest.mark.relion
def test_against_relion_postprocess(relion: Path, tmp_path: Path, shared: Path) -> None:
    """Real half maps: equal curves, and the random one as close as RELION's own seeds are to each other."""
    folder = shared / "data" / "empiar10146_halfmaps"
    paths = [folder / f"pm_shared_half{i}_unfil.mrc" for i in (1, 2)]
    half1, half2 = (mrcfile.read(path) for path in paths)
    mask = soft_sphere(64, 22.0, 6.0)
    mrcfile.write(tmp_path / "mask.mrc", mask, voxel_size=3.0)
    flags = [
        "--i",
        str(paths[0]),
        "--i2",
        str(paths[1]),
        "--mask",
        "mask.mrc",
        "--angpix",
        "3",
        "--o",
        "post/p",
    ]
    (tmp_path / "post").mkdir()
    program = relion / "relion_postprocess"
    # the program writes its table, then fails where no PDF writer is installed
    subprocess.run([program, *flags, "--force_mask"], cwd=tmp_path, check=False, capture_output=True)
    table = columns((tmp_path / "post" / "p.star").read_text(), "fsc")
    found = solvent_corrected_fsc(half1, half2, mask, seed=5, clip=False)
    np.testing.assert_allclose(found.unmasked, table["FourierShellCorrelationUnmaskedMaps"], atol=1e-5)
    np.testing.assert_allclose(found.masked, table["FourierShellCorrelationMaskedMaps"], atol=1e-5)
    random = table["CorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps"]
    corrected = table["FourierShellCorrelationCorrected"]
    np.testing.assert_allclose(found.randomised, random, atol=0.12)
    again = correct_fsc(found.masked, random, found.randomise_from, clip=False)
    np.testing.assert_allclose(again, corrected, atol=1e-4)
    shells = [first_shell_below(curve, 0.143) for curve in (found.corrected, corrected)]
    assert abs(shells[0] - shells[1]) <= 1
