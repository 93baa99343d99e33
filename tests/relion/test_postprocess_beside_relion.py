"""Masks and post-processing beside RELION 3.1's, on the same half maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import HalfMaps  # type: ignore[import-not-found]

from mpiapp.config.mask_create import MaskCreateConfig
from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.engine.mask_create import mask_create
from mpiapp.engine.postprocess import postprocess
from mpiapp.io.mrc import read_map, write_map
from mpiapp.io.postprocess_star import PostprocessRecord, read_postprocess
from mpiapp.io.star import read_star
from mpiapp.model.fourier import forward_3d, inverse_3d
from mpiapp.model.fsc import correct_fsc, resolution_at
from mpiapp.model.guinier import fit_line, squared_frequencies
from mpiapp.model.masks import soft_sphere
from mpiapp.model.radial import filter_radially
from mpiapp.model.sharpen import Sharpening, make_filter

pytestmark = [pytest.mark.relion, pytest.mark.slow]
SEEDS = 10
MASK = "--lowpass 15 --extend_inimask 3 --width_soft_edge 6"


@pytest.fixture(scope="module")
def mask(halves: HalfMaps, call: Callable[[str], str]) -> Path:
    """Mask made by RELION."""
    path = halves.folder / "mask.mrc"
    call(f"relion_mask_create --i {halves.half1} --o {path} --ini_threshold {halves.threshold} {MASK}")
    return path


@pytest.fixture(scope="module")
def theirs(halves: HalfMaps, call: Callable[[str], str], mask: Path) -> list[PostprocessRecord]:
    """RELION's results with ten seeds."""
    for seed in range(SEEDS):
        (halves.folder / f"relion{seed}").mkdir()
        call(
            f"relion_postprocess --i {halves.half1} --mask {mask} --auto_bfac --autob_lowres 15 "
            f"--random_seed {seed} --o {halves.folder}/relion{seed}/post"
        )
    return [read_postprocess(halves.folder / f"relion{seed}/post.star") for seed in range(SEEDS)]


@pytest.fixture(scope="module")
def ours(halves: HalfMaps, mask: Path) -> list[PostprocessRecord]:
    """The same jobs here."""
    records = []
    for seed in range(SEEDS):
        root = halves.folder / f"ours{seed}/post"
        flags = {"i": halves.half1, "mask": mask, "auto_bfac": True, "autob_lowres": 15, "o": root, "verb": 0}
        with pytest.MonkeyPatch.context() as patch:
            if seed:
                patch.setattr("mpiapp.report.painter.Painter.call", lambda *_, **__: None)
            postprocess(PostprocessConfig.from_options(flags | {"random_seed": seed}))
        records.append(read_postprocess(f"{root}.star"))
    return records


def randomised_from(halves: HalfMaps, record: PostprocessRecord) -> int:
    box = read_map(halves.half1)[0].shape[0]
    return round(box * halves.pixel_size_A / record.general["rlnRandomiseFrom"])


def test_a_rejected_mask_leaves_the_unmasked_curve(
    halves: HalfMaps, call: Callable[[str], str], tmp_path: Path
) -> None:
    """In the corners of the box there is no signal; the corrected column and the EMDB's file hold the curve that counts."""
    solvent, (density, pixel) = tmp_path / "solvent.mrc", read_map(halves.half1)
    write_map(solvent, 1 - soft_sphere(len(density), 0.45 * len(density), 4), pixel)
    (tmp_path / "theirs").mkdir()
    call(f"relion_postprocess --i {halves.half1} --mask {solvent} --o {tmp_path}/theirs/post")
    postprocess(i=halves.half1, mask=solvent, o=f"{tmp_path}/ours/post", verb=0)
    records = [read_postprocess(tmp_path / f"{whose}/post.star") for whose in ("theirs", "ours")]
    for record in records:
        np.testing.assert_array_equal(record.fsc["corrected"], record.fsc["unmasked"])
        assert np.abs(record.fsc["masked"] - record.fsc["unmasked"]).max() > 0.3
    np.testing.assert_allclose(records[1].fsc["corrected"], records[0].fsc["corrected"], atol=1e-4)
    assert records[1].general["rlnFinalResolution"] == pytest.approx(
        records[0].general["rlnFinalResolution"], rel=1e-4
    )


@pytest.mark.parametrize(
    "flags",
    [
        f"{MASK} --ini_threshold {{t}}",
        "--ini_threshold {t} --extend_inimask -1.5 --width_soft_edge 2.5 --invert",
    ],
)
def test_masks_agree(halves: HalfMaps, call: Callable[[str], str], flags: str, tmp_path: Path) -> None:
    words = flags.format(t=halves.threshold).split()
    call(f"relion_mask_create --i {halves.half1} --o {tmp_path}/theirs.mrc {' '.join(words)}")
    options: dict[str, object] = {"i": halves.half1, "o": tmp_path / "ours.mrc"}
    while words:
        flag = words.pop(0)
        options[flag] = words.pop(0) if words and not words[0].startswith("--") else True
    mine = mask_create(MaskCreateConfig.from_options(options))
    other, _ = read_map(tmp_path / "theirs.mrc")
    assert 0.01 < other.mean() < 0.99
    # a voxel within rounding of the threshold may fall on the other side, with the edge around it
    assert np.mean(np.abs(mine - other) > 1e-5) < 1e-3


def test_plain_curves_agree(ours: list[PostprocessRecord], theirs: list[PostprocessRecord]) -> None:
    for name in ("unmasked", "masked", "mask_fraction"):
        assert np.abs(ours[0].fsc[name] - theirs[0].fsc[name]).max() < 1e-4, name
    for label in ("rlnRandomiseFrom", "rlnParticleBoxFractionSolventMask"):
        assert float(ours[0].general[label]) == pytest.approx(float(theirs[0].general[label]), rel=1e-5)


def test_random_curves_lie_within_the_spread_of_seeds(
    ours: list[PostprocessRecord], theirs: list[PostprocessRecord]
) -> None:
    """Two samples of ten of one distribution: t values of their means, shell by shell."""
    for name in ("randomised", "corrected"):
        a, b = (np.array([record.fsc[name] for record in records]) for records in (ours, theirs))
        random = b.std(0) > 1e-4
        assert random.sum() > 8
        error = np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / SEEDS)
        t = ((a.mean(0) - b.mean(0)) / np.where(random, error, 1))[random]
        print(f"{name}: rms t {np.sqrt(np.mean(t**2)):.2f} over {random.sum()} shells")
        assert np.sqrt(np.mean(t**2)) < 1.6, name
        assert 0.6 < np.median(a.std(0)[random] / b.std(0)[random]) < 1.7, name


def test_correction_of_their_random_curve(halves: HalfMaps, theirs: list[PostprocessRecord]) -> None:
    for record in theirs:
        fed = correct_fsc(
            record.fsc["masked"], record.fsc["randomised"], randomised_from(halves, record), clip=False
        )
        # six decimals in, divided by 1 - random
        slack = 2e-6 / np.abs(1 - np.minimum(record.fsc["randomised"], 0.9999))
        assert np.all(np.abs(fed - record.fsc["corrected"]) < np.maximum(slack, 1e-5) + 1e-5)


def test_resolution_and_bfactor(ours: list[PostprocessRecord], theirs: list[PostprocessRecord]) -> None:
    """One seed's B scatters by a fifth in either program: the shell where the FSC vanishes decides."""
    resolution = [[float(r.general["rlnFinalResolution"]) for r in records] for records in (ours, theirs)]
    assert min(resolution[1]) - 1e-3 <= np.median(resolution[0]) <= max(resolution[1]) + 1e-3
    mine, other = (
        np.array([float(r.general["rlnBfactorUsedForSharpening"]) for r in records])
        for records in (ours, theirs)
    )
    print(f"B {mine.min():.1f} .. {mine.max():.1f} A^2, RELION {other.min():.1f} .. {other.max():.1f}")
    assert other.min() <= np.median(mine) <= other.max()


def test_bfactor_and_map_from_their_curve(halves: HalfMaps, theirs: list[PostprocessRecord]) -> None:
    """From the corrected curve that RELION printed: B within 0.5 %, and its map."""
    half1, half2 = (read_map(halves.folder / f"run_half{h}_class001_unfil.mrc")[0] for h in (1, 2))
    transform = forward_3d((half1 + half2) / 2, centre=False)
    box, pixel = half1.shape[0], halves.pixel_size_A
    for seed, record in enumerate(theirs[:3]):
        made = make_filter(transform, pixel, Sharpening(fsc=record.fsc["corrected"], fit_from_A=15.0))
        expected = float(record.general["rlnBfactorUsedForSharpening"])
        assert made.bfactor_A2 == pytest.approx(expected, rel=0.005)
        assert made.fit is not None
        r2 = float(record.general["rlnCorrelationFitGuinierPlot"])
        assert made.fit.correlation == pytest.approx(r2, abs=2e-3)
        for name in ("original", "weighted"):
            both = (record.guinier[name] > -90) & (made.guinier[name] > -90)
            assert both.sum() > 8
            np.testing.assert_allclose(made.guinier[name][both], record.guinier[name][both], atol=2e-3)
        given = make_filter(transform, pixel, Sharpening(fsc=record.fsc["corrected"], bfactor_A2=expected))
        sharp = transform.copy()
        filter_radially(sharp, given.weights)
        mine = inverse_3d(sharp, centre=False)
        other, _ = read_map(halves.folder / f"relion{seed}/post.mrc")
        assert np.corrcoef(mine.ravel(), other.ravel())[0, 1] > 0.9999
        assert np.abs(mine - other).max() < 1e-3 * np.abs(other).max()
        line = fit_line(squared_frequencies(box, pixel), record.guinier["weighted"], 15.0, 0.0)
        assert line.bfactor_A2 == pytest.approx(expected, rel=1e-3)
        assert resolution_at(record.fsc["corrected"], 0.143, pixel, box) == pytest.approx(
            float(record.general["rlnFinalResolution"]), abs=1e-3
        )


@pytest.mark.parametrize(
    "extra", ["--skip_fsc_weighting --adhoc_bfac -150 --low_pass 10", "--low_pass -1 --half_maps"]
)
def test_maps_with_other_flags(
    halves: HalfMaps, call: Callable[[str], str], mask: Path, tmp_path: Path, extra: str
) -> None:
    """Detector, given B-factor, low-pass, no FSC weighting; half maps. Phases are random from the same shell."""
    table = tmp_path / "mtf.star"
    frequency = np.linspace(0, 0.5, 501)
    rows = "".join(f"{f:.6f} {np.exp(-2 * f):.6f}\n" for f in frequency)
    table.write_text(f"data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}")
    flags = f"--i {halves.half1} --mask {mask} --mtf {table} --mtf_angpix 1.5 {extra}"
    if "adhoc" not in extra:
        flags += " --adhoc_bfac -100"
    (tmp_path / "theirs").mkdir()
    call(f"relion_postprocess {flags} --o {tmp_path}/theirs/post")
    words, options = flags.split(), {"o": str(tmp_path / "ours/post"), "verb": 0}
    while words:
        flag = words.pop(0)
        value = words.pop(0) if words and not words[0].startswith("--") else True
        options[flag] = value
    postprocess(PostprocessConfig.from_options(options))
    names = ["post", "post_masked"] + ["post_half1", "post_half2_masked"] * ("half_maps" in extra)
    for name in names:
        mine, pixel = read_map(tmp_path / f"ours/{name}.mrc")
        other, _ = read_map(tmp_path / f"theirs/{name}.mrc")
        # the FSC weights go by curves with other random phases
        assert np.corrcoef(mine.ravel(), other.ravel())[0, 1] > (0.9999 if "skip" in extra else 0.998), name
        assert pixel == pytest.approx(halves.pixel_size_A)


def test_star_file_reads_in_relion(
    halves: HalfMaps, call: Callable[[str], str], ours: list[PostprocessRecord]
) -> None:
    """RELION's own table printer takes our postprocess.star."""
    printed = call(f"relion_star_printtable {halves.folder}/ours0/post.star data_fsc rlnAngstromResolution")
    assert len(printed.split()) >= ours[0].frequency_invA.size


def test_local_resolution(halves: HalfMaps, call: Callable[[str], str], mask: Path) -> None:
    """Whole boxes as RELION has them, and windows."""
    flags = f"--i {halves.half1} --mask {mask} --locres --adhoc_bfac -100 --locres_sampling 24"
    (halves.folder / "local").mkdir()
    call(f"relion_postprocess {flags} --o {halves.folder}/local/theirs")
    inside = read_map(mask)[0] > 0.5
    theirs, their_map = (
        read_map(halves.folder / f"local/theirs_{n}.mrc")[0] for n in ("locres", "locres_filtered")
    )
    curves = read_star(halves.folder / "local/theirs_locres_fscs.star")
    box, pixel = theirs.shape[0], halves.pixel_size_A
    fixed = slice(0, int(box * pixel / 25))  # shells whose phases are not random
    for name, extra, slack in (("exact", True, 0.05), ("windows", False, 0.08)):
        options = {"i": halves.half1, "mask": mask, "locres": True, "adhoc_bfac": -100, "locres_sampling": 24}
        options |= {"o": halves.folder / f"local/{name}", "verb": 0, "locres_exact": extra}
        postprocess(PostprocessConfig.from_options(options))
        ours, our_map = (
            read_map(halves.folder / f"local/{name}_{n}.mrc")[0] for n in ("locres", "locres_filtered")
        )
        relative = (ours - theirs)[inside] / theirs[inside]
        print(
            f"{name}: mean {relative.mean():+.3f}, rms {np.sqrt(np.mean(relative**2)):.3f} of the resolution"
        )
        # phases are random in both programs, and shells are 3 to 8 % of a resolution apart
        assert abs(relative.mean()) < slack
        assert np.corrcoef(our_map[inside], their_map[inside])[0, 1] > 0.998
        found = read_star(halves.folder / f"local/{name}_locres_fscs.star")
        assert set(found) == set(curves)
        for point, table in found.items() if extra else ():
            # RELION's sphere lies at the point whose x and z are exchanged
            turned = "_".join(["fsc", *reversed(point.split("_")[1:])])
            label = "rlnFourierShellCorrelationCorrected"
            mine, other = (np.asarray(t[label], float)[fixed] for t in (table, curves[turned]))
            np.testing.assert_allclose(mine, other, atol=1e-4)
