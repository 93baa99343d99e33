"""Pages of post-processing and local-resolution jobs: what the log says is on them, of this job alone."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.io.mrc import read_map, write_map
from mpiapp.model.masks import soft_sphere
from mpiapp.report.build import build_report
from mpiapp.report.job_log import read_log
from mpiapp.report.locres_plot import plot_local_resolution

BOX, PIXEL = 48, 2.0


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Half maps of a ball of random density in noise; with a mask. Returns their folder."""
    rng = np.random.default_rng(2)
    ball = soft_sphere(BOX, 14, 6) * (1 + rng.normal(size=(BOX,) * 3))
    for h in (1, 2):
        write_map(
            tmp_path / f"half{h}.mrc", (ball + 0.5 * rng.normal(size=ball.shape)).astype(np.float32), PIXEL
        )
    write_map(tmp_path / "mask.mrc", soft_sphere(BOX, 16, 8), PIXEL)
    return tmp_path


def job(folder: Path, *words: str, root: str = "post/") -> str:
    """Run a job; its page."""
    halves = ["--i", f"{folder}/half1.mrc", "--i2", f"{folder}/half2.mrc", "--mask", f"{folder}/mask.mrc"]
    assert main(["postprocess", *halves, "--o", f"{folder}/{root}", "--verb", "0", *words]) == 0
    return page_of(folder / root.rpartition("/")[0])


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text()


def tiles(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def test_warnings_time_and_sphericity_are_on_the_page(halves: Path) -> None:
    page = job(halves)
    assert 'class="warning">the map is not sharpened' in page
    shown = tiles(page)
    assert 0 < float(shown["sphericity"]) <= 1
    assert re.fullmatch(r"[0-9.]+ s with \d+ threads", shown["time"])
    assert float(shown["peak memory"].removesuffix(" MiB")) > 20
    build_report(halves / "post")
    assert tiles(page_of(halves / "post")) == shown
    assert "the map is not sharpened" not in job(halves, "--adhoc_bfac", "-50")


def test_pictures_of_an_earlier_job_are_gone(halves: Path) -> None:
    assert "Resolution by direction" in job(halves)
    page = job(halves, "--no_cones")
    assert "Resolution by direction" not in page
    assert "sphericity" not in tiles(page)
    assert not list((halves / "post").glob("*_cones.*"))


def test_page_of_local_resolution_is_of_the_mask(halves: Path) -> None:
    page = job(halves, "--locres", "--locres_sampling", "12", "--random_seed", "4")
    assert "--locres_sampling 12" in page
    assert "random seed 4" in page
    assert re.search(r"mpiapp postprocess; version \d", page)
    inside = read_map(halves / "mask.mrc")[0] > 0.5
    resolution = read_map(halves / "post/postprocess_locres.mrc")[0]
    shown = tiles(page)
    assert float(shown["median"].removesuffix(" Å")) == pytest.approx(
        np.median(resolution[inside]), abs=0.006
    )
    assert "time" in shown
    assert "The figures are of the voxels in the mask." in page
    assert page.count("data:image/png;base64,") == 3
    # without the log it is not known what the histogram is of
    (halves / "post/postprocess.log").unlink()
    build_report(halves / "post")
    whole = tiles(page_of(halves / "post"))
    known = resolution[resolution > 0]
    assert float(whole["median"].removesuffix(" Å")) == pytest.approx(np.median(known), abs=0.006)
    with open(halves / "post/report_files/postprocess_locres_histogram.csv", newline="") as file:
        assert sum(int(row["count"]) for row in csv.DictReader(file)) == known.size


def test_colours_are_within_the_mask(tmp_path: Path) -> None:
    resolution = np.full((BOX,) * 3, 9.0, np.float32)
    resolution[BOX // 2] = 5.0
    inside = soft_sphere(BOX, 6, 0) > 0.5
    plot_local_resolution(tmp_path / "a.png", resolution, resolution, inside, PIXEL, (5.0, 9.0))
    with open(tmp_path / "a.csv", newline="") as file:
        rows = {row["axis"]: row for row in csv.DictReader(file)}
    assert rows["z"]["finest_A"] == rows["z"]["coarsest_A"] == "5"
    assert (rows["x"]["finest_A"], rows["x"]["coarsest_A"]) == ("5", "9")
    from matplotlib.image import imread

    colours = imread(tmp_path / "a.png")[..., :3]
    assert (np.ptp(colours, axis=-1) > 0.1).mean() > 0.02
    plot_local_resolution(tmp_path / "b.png", resolution, resolution, inside & False, PIXEL, (5.0, 9.0))
    bare = imread(tmp_path / "b.png")[..., :3]
    assert (np.ptp(bare, axis=-1) > 0.1).mean() < (np.ptp(colours, axis=-1) > 0.1).mean() / 2


def test_names_are_no_formulas(halves: Path) -> None:
    """A file's name is the title of a picture."""
    page = job(halves, "--locres", "--locres_sampling", "12", root=r"d$x/l$\foo$")
    assert r"l$\foo$_locres_filtered.mrc" in page


def test_log_of_another_job_says_nothing(tmp_path: Path) -> None:
    log = tmp_path / "post.log"
    log.write_text(
        "2026-01-01 10:00:00   + Local resolution map:          a.mrc\n2026-01-01 10:00:00 WARNING: of it\n"
    )
    assert read_log(log, "Local resolution map").warnings == ["of it"]
    assert read_log(log, "FINAL RESOLUTION").warnings == []
    assert read_log(tmp_path / "none.log", "FINAL RESOLUTION").figures == {}
