"""Mask and post-processing jobs from the command line: what they write, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.postprocess_star import read_postprocess
from mpiapp.model.masks import soft_sphere
from mpiapp.testing.maps import apply_bfactor

BOX, PIXEL = 32, 3.0


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Half maps of a ball of random density that fades, in noise; with a mask. Returns their folder."""
    rng = np.random.default_rng(2)
    ball = soft_sphere(BOX, 8, 3) * (1 + rng.normal(size=(BOX,) * 3))
    signal = apply_bfactor(ball.astype(np.float32), PIXEL, 300.0)
    for h in (1, 2):
        noisy = signal + 0.2 * rng.normal(size=signal.shape)
        write_map(tmp_path / f"run_half{h}_class001_unfil.mrc", noisy, PIXEL)
    write_map(tmp_path / "mask.mrc", soft_sphere(BOX, 10, 4), PIXEL)
    write_map(tmp_path / "empty.mrc", np.zeros((BOX,) * 3), PIXEL)
    return tmp_path


def job(folder: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what was printed."""
    half = str(folder / "run_half1_class001_unfil.mrc")
    code = main(["postprocess", "--i", half, "--o", f"{folder}/post/", *words])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_only_what_is_needed_is_loaded(halves: Path) -> None:
    """A whole job draws in other processes, and its tables are small: neither is paid for by the process that computes."""
    words = ["postprocess", "--i", f"{halves}/run_half1_class001_unfil.mrc", "--mask", f"{halves}/mask.mrc"]
    words += ["--auto_bfac", "--autob_lowres", "20", "--o", f"{halves}/post/", "--verb", "0"]
    heavy = ("pandas", "pyarrow", "matplotlib", "PIL", "numba", "h5py", "scipy.spatial", "scipy.ndimage")
    check = (
        "import sys; import mpiapp.engine.postprocess; assert 'scipy' not in sys.modules;"
        f"from mpiapp.cli.main import main; code = main({words!r});"
        f"print(code, [m for m in {heavy!r} if m in sys.modules], 'scipy.fft' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["0 [] True"], done.stdout + done.stderr
    assert (halves / "post/postprocess_slices.png").is_file()
    assert not any((halves / "post/report_files").iterdir())  # the page shows the job's own pictures


def test_files_of_a_job(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = job(
        halves, "--mask", f"{halves}/mask.mrc", "--auto_bfac", "--autob_lowres", "20", "--half_maps",
        "--molweight", "60", "--interpolate", capsys=capsys,
    )  # fmt: skip
    assert code == 0, text
    assert "interpolated crossing" in text
    script = (halves / "post/postprocess.cxc").read_text().splitlines()
    assert script[0] == "open postprocess_masked.mrc"
    assert script[1].startswith("volume #1 level ")
    names = {path.name.removeprefix("postprocess") for path in (halves / "post").glob("postprocess*")}
    assert (halves / "post/report.html").is_file()
    assert names == {
        ".log", ".mrc", ".star", "_masked.mrc", "_half1.mrc", "_half2.mrc", "_half1_masked.mrc",
        "_half2_masked.mrc", "_fsc.csv", "_fsc.dat", "_fsc.png", "_fsc.xml", "_guinier.csv", "_guinier.png",
        "_slices.csv", "_slices.png", ".cxc",
    }  # fmt: skip
    record = read_postprocess(halves / "post/postprocess.star")
    assert set(record.fsc) == {
        "corrected", "mask_fraction", "molecular_weight", "unmasked", "masked", "randomised"
    }  # fmt: skip
    assert 0 > float(record.general["rlnBfactorUsedForSharpening"]) > -600
    assert 6 <= float(record.general["rlnFinalResolution"]) < 20
    whole, pixel = read_map(halves / "post/postprocess.mrc")
    parts = [read_map(halves / f"post/postprocess_half{h}.mrc")[0] for h in (1, 2)]
    np.testing.assert_allclose((parts[0] + parts[1]) / 2, whole, atol=1e-4 * np.abs(whole).max())
    assert pixel == pytest.approx(PIXEL)
    masked, _ = read_map(halves / "post/postprocess_masked.mrc")
    mask, _ = read_map(halves / "mask.mrc")
    np.testing.assert_allclose(masked, whole * mask, rtol=1e-6)


def test_automatic_mask(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--auto_mask", "--extend_inimask", "1", "--width_mask_edge", "2", "--adhoc_bfac", "-50"]
    code, text = job(halves, *words, capsys=capsys)
    assert code == 0, text
    mask, _ = read_map(halves / "post/postprocess_automask.mrc")
    ball = soft_sphere(BOX, 8, 0) > 0
    assert mask[ball].mean() > 0.95
    assert mask.mean() < 0.35
    record = read_postprocess(halves / "post/postprocess.star")
    assert record.general["rlnMaskName"] == f"{halves}/post/postprocess_automask.mrc"


def test_without_mask_and_sharpening_there_is_a_warning(
    halves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = job(halves, "--skip_fsc_weighting", capsys=capsys)
    assert code == 0
    assert "the map is not sharpened" in text
    whole, _ = read_map(halves / "post/postprocess.mrc")
    parts = [read_map(halves / f"run_half{h}_class001_unfil.mrc")[0] for h in (1, 2)]
    np.testing.assert_allclose(whole, (parts[0] + parts[1]) / 2, atol=1e-5)
    assert list(read_postprocess(halves / "post/postprocess.star").fsc) == ["unmasked"]


def test_a_mask_that_makes_it_worse_is_not_used(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_map(halves / "solvent.mrc", 1 - soft_sphere(BOX, 12, 3), PIXEL)
    for words, used in (([], "unmasked"), (["--force_mask"], "corrected")):
        code, text = job(halves, "--mask", f"{halves}/solvent.mrc", *words, capsys=capsys)
        assert code == 0, text
        assert ("The unmasked FSC is used" in text) == (used == "unmasked")
        record = read_postprocess(halves / "post/postprocess.star")
        table = np.loadtxt(halves / "post/postprocess_fsc.dat")
        np.testing.assert_allclose(table[:, 1], record.fsc[used], atol=1e-5)
        # what later jobs read is the curve that counted
        np.testing.assert_allclose(table[:, 1], record.fsc["corrected"], atol=1e-5)
        xml = (halves / "post/postprocess_fsc.xml").read_text()
        assert ('title="unmasked FSC"' in xml) == (used == "unmasked")
        drawn = (halves / "post/postprocess_fsc.csv").read_text()
        assert ("\ncorrected," in drawn) == (used == "corrected")


def test_noise_is_not_blamed_on_the_mask(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 999 A the last shell above 0.143 is shell 0, where random phases correlate by definition."""
    rng = np.random.default_rng(4)
    for h in (1, 2):
        noise = rng.normal(size=(BOX,) * 3)
        write_map(halves / f"run_half{h}_class001_unfil.mrc", noise, PIXEL)
    code, text = job(halves, "--mask", f"{halves}/mask.mrc", "--force_mask", capsys=capsys)
    assert code == 0, text
    assert "FINAL RESOLUTION:              999" in text
    assert "random phases correlate" not in text
    assert "by direction:                  not told" in text
    assert "views are missing" not in text
    assert not (halves / "post/postprocess_cones.png").exists()


def test_directions_with_a_mask_that_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Solvent around the particle has an FSC of nothing: the whole maps tell the directions."""
    box = 64
    rng = np.random.default_rng(2)
    ball = soft_sphere(box, 20, 3) * (1 + rng.normal(size=(box,) * 3))
    signal = apply_bfactor(ball.astype(np.float32), PIXEL, 300.0)
    for h in (1, 2):
        noisy = signal + 0.05 * rng.normal(size=signal.shape)
        write_map(tmp_path / f"run_half{h}_class001_unfil.mrc", noisy, PIXEL)
    write_map(tmp_path / "mask.mrc", 1 - soft_sphere(box, 26, 4), PIXEL)
    code, text = job(tmp_path, "--mask", f"{tmp_path}/mask.mrc", capsys=capsys)
    assert code == 0, text
    assert "The unmasked FSC is used" in text
    assert "sphericity" in text
    assert (tmp_path / "post/postprocess_cones.png").is_file()
    cones = np.loadtxt(tmp_path / "post/postprocess_cones.csv", delimiter=",", skiprows=1)
    record = read_postprocess(tmp_path / "post/postprocess.star")
    assert np.median(cones[:, 2]) == pytest.approx(record.general["rlnFinalResolution"], rel=0.1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--i2", "nowhere.mrc"], "nowhere.mrc: no such file"),
        (["--i2", "{}/run_half1_class001_unfil.mrc"], "is the same map as"),
        (["--mask", "{}/run_half1_class001_unfil.mrc"], "expected 0 to 1"),
        (["--auto_bfac", "--adhoc_bfac", "-5"], "give either it or --auto_bfac"),
        (["--auto_bfac", "--autob_lowres", "6.1"], "raise --autob_lowres"),
        (["--mask", "{}/mask.mrc", "--auto_mask"], "give either it or --mask"),
        (["--mask", "{}/mask.mrc", "--randomize_at_fsc", "0.001"], "--randomize_at_A"),
        (["--mask", "{}/mask.mrc", "--randomize_at_A", "5"], "must be from 6.857 to 96 A"),
        (["--mask", "{}/mask.mrc", "--randomize_at_A", "1000"], "must be from 6.857 to 96 A"),
        (["--locres", "--locres_randomize_at", "1000"], "--locres_randomize_at 1000: "),
        (["--locres", "--locres_randomize_at", "5"], "--locres_randomize_at 5: "),
        (["--locres", "--i2", "{}/run_half1_class001_unfil.mrc"], "is the same map as"),
        (["--locres", "--mask", "{}/empty.mrc"], "empty.mrc: the mask is empty"),
        (["--locres", "--locres_sampling", "300"], "no point to sample: spheres of radius 150 A"),
        (["--ampl_corr"], "refused because it would change the result"),
        (["--locres", "--auto_bfac"], "no meaning with --locres"),
        (["--mtf", "{}/none.star"], "none.star: no such file"),
    ],
)
def test_refused(halves: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    code, text = job(halves, *(word.format(halves) for word in words), capsys=capsys)
    assert code == 2, text
    assert expected in text
    assert not (halves / "post/postprocess.star").exists()


@pytest.mark.parametrize("words", [[], ["--locres"]])
def test_a_scaled_copy_is_no_second_half(
    halves: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    first, _ = read_map(halves / "run_half1_class001_unfil.mrc")
    for added, told in ((0.0, True), (0.2, False)):
        second = 1.7 * first + added * np.random.default_rng(5).normal(size=first.shape)
        write_map(halves / "run_half2_class001_unfil.mrc", second, PIXEL)
        code, text = job(halves, *words, capsys=capsys)
        assert code == 0, text
        assert ("the half maps are not independent" in text) == told


def test_name_without_half_needs_the_other(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", "--i", str(halves / "mask.mrc")]) == 2
    assert "neither half1 nor half2" in capsys.readouterr().err


def test_mask_of_a_map(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mask_create", "--i", f"{halves}/mask.mrc", "--o", f"{halves}/new.mrc", "--ini_threshold", "0.5"]
    assert main([*words, "--width_soft_edge", "3"]) == 0
    mask, pixel = read_map(halves / "new.mrc")
    source, _ = read_map(halves / "mask.mrc")
    np.testing.assert_array_equal(mask == 1, source >= 0.5)
    assert pixel == pytest.approx(PIXEL)
    assert main([*words[:-1], "7"]) == 2
    assert "no voxel is above --ini_threshold 7" in capsys.readouterr().err
    assert main(["mask_create", "--denovo"]) == 2
    assert main(["mask_create", "--and", "a", "--or", "b", "--i", "c"]) == 2


def test_local_resolution_job(halves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--locres",
        "--locres_sampling",
        "12",
        "--mask",
        f"{halves}/mask.mrc",
        "--adhoc_bfac",
        "-50",
        "--j",
        "2",
        "--skip_fsc_weighting",
    ]
    code, text = job(halves, *words, capsys=capsys)
    assert code == 0, text
    assert "--skip_fsc_weighting: without effect on local resolution" in text
    root = halves / "post/postprocess_locres"
    resolution, pixel = read_map(f"{root}.mrc")
    inside = soft_sphere(BOX, 8, 0) > 0
    assert pixel == pytest.approx(PIXEL)
    assert resolution[inside].min() > 5.999  # Nyquist, to rounding
    assert resolution[inside].max() <= 50
    for ending in ("_filtered.mrc", "_fscs.star", "_histogram.png", "_histogram.csv", ".cxc"):
        assert Path(f"{root}{ending}").is_file(), ending
    script = Path(f"{root}.cxc").read_text()
    assert "color sample #1 map #2" in script
    assert "postprocess_locres_filtered.mrc" in script
