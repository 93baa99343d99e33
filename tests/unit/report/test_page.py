"""report.html: self-contained, escaped, from our folders and RELION's; opened in a browser where there is one."""

from __future__ import annotations

import csv
import html.parser
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.engine.page_writer import PageWriter
from mpiapp.io.mrc import write_map, write_stack
from mpiapp.io.outputs import OutputNames
from mpiapp.io.relion_files import (
    ClassRecord,
    ModelRecord,
    OptimiserRecord,
    SamplingRecord,
    write_model,
    write_optimiser,
    write_sampling,
)
from mpiapp.model.masks import soft_sphere
from mpiapp.report import style
from mpiapp.report.build import build_report
from mpiapp.report.collect import find_refinements, load_refinement
from mpiapp.report.page import Section, Table, write_page
from mpiapp.report.run_sections import time_by_rank

NASTY = '<script>alert("x")</script>&amp;\'"'
BOX, PIXEL = 32, 4.0


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "_DPI", 50)


class Collector(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def write_iteration(folder: Path, number: int | None, comment: str = "mpiapp optimiser; version 1") -> None:
    """Files of one iteration as RELION names them; None: the final ones."""
    names = OutputNames(str(folder / "run"))
    n = BOX // 2 + 1
    fsc = np.clip(1.2 - np.arange(n) / (4 + (number or 9)), 0, 1)
    path = names.final_map() if number is None else names.half_map(number, 1)
    record = ClassRecord(
        map_path=path, data_vs_prior=fsc, fsc=fsc, completeness=fsc, sigma2=fsc + 1, tau2=fsc + 2, orientability=fsc,
        orientation_distribution=np.full(12, 1 / 12),
    )  # fmt: skip
    model = ModelRecord(
        box=BOX, pixel_size_A=PIXEL, current_size=20, current_resolution_A=20.0 - (number or 9), classes=[record],
        sigma2_noise=np.ones((1, n)), group_names=[NASTY.replace(" ", "")], group_sizes=np.array([5]),
        group_scales=np.ones(1), group_sigma2_noise=np.ones((1, n)),
    )  # fmt: skip
    write_model(names.model(number, None if number is None else 1), model)
    angles = np.linspace(0, 170, 12)
    write_sampling(
        names.sampling(number),
        SamplingRecord(
            psi_step_deg=15.0, offset_range_A=20.0, offset_step_A=8.0, healpix_order=0, symmetry="C1",
            perturb_instance=0.1, perturb_factor=0.5, original_healpix_order=0, original_psi_step_deg=15.0,
            original_offset_range_A=20.0, original_offset_step_A=8.0, rot_deg=angles, tilt_deg=angles,
        ),
    )  # fmt: skip
    optimiser = OptimiserRecord(
        root=names.root, model_star=str(names.model(number, 1)), model_star_2=None,
        data_star=str(names.data(number)), sampling_star=str(names.sampling(number)), iteration=number or 3,
        particle_diameter_A=80.0, random_seed=7, oversampling=1,
    )  # fmt: skip
    write_map(path, soft_sphere(BOX, 8, 4), PIXEL)
    write_optimiser(names.optimiser(number), optimiser, comment)


def write_class_iteration(folder: Path, number: int, dimensions: int) -> None:
    """Files of an iteration of two classes as RELION names them, with 20 particles."""
    names = OutputNames(str(folder / "run"))
    n = BOX // 2 + 1
    spectrum = np.exp(4 - np.arange(n))
    records = []
    for k, share in enumerate((0.25, 0.75), 1):
        path = names.class_map(number, k)
        records.append(
            ClassRecord(
                map_path=path, data_vs_prior=spectrum, fsc=0 * spectrum, completeness=spectrum, sigma2=spectrum + 1,
                tau2=spectrum, orientability=spectrum, orientation_distribution=np.full(12, 1 / 12),
                distribution=share, resolution_A=20.0 + k,
            )
        )  # fmt: skip
        if dimensions == 3:
            write_map(path, soft_sphere(BOX, 8, 4), PIXEL)
    if dimensions == 2:
        write_stack(names.classes_stack(number), np.stack([soft_sphere(BOX, 8, 4).sum(0)] * 2), PIXEL)
    model = ModelRecord(
        box=BOX, pixel_size_A=PIXEL, current_size=20, current_resolution_A=30.0 - number, classes=records,
        sigma2_noise=np.ones((1, n)), group_names=["a", "b"], group_sizes=np.array([10, 10]),
        group_scales=np.array([0.9, 1.1]), group_sigma2_noise=np.ones((2, n)), reference_dimensionality=dimensions,
    )  # fmt: skip
    write_model(names.model(number), model)
    angles = np.linspace(0, 170, 12)
    write_sampling(
        names.sampling(number),
        SamplingRecord(
            psi_step_deg=15.0, offset_range_A=20.0, offset_step_A=8.0, healpix_order=0, symmetry="C1",
            perturb_instance=0.1, perturb_factor=0.5, original_healpix_order=0, original_psi_step_deg=15.0,
            original_offset_range_A=20.0, original_offset_step_A=8.0, rot_deg=angles, tilt_deg=angles,
        ),
    )  # fmt: skip
    rng = np.random.default_rng(number)
    rows = [
        f"{i + 1:06d}@stack.mrcs mic{i % 2} 1 {rng.uniform(0, 180):.2f} {rng.uniform(0, 180):.2f} 0 {i % 2 + 1} "
        f"{rng.normal(1, 0.1):.4f} 1e4 1e4 0"
        for i in range(20)
    ]
    labels = (
        "ImageName MicrographName OpticsGroup AngleRot AngleTilt AnglePsi ClassNumber NormCorrection DefocusU "
        "DefocusV DefocusAngle"
    )
    names.data(number).write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnImageSize\n_rlnVoltage\n"
        f"_rlnSphericalAberration\n_rlnAmplitudeContrast\n1 {PIXEL} {BOX} 300 2.7 0.1\n\ndata_particles\n\nloop_\n"
        + "".join(f"_rln{label}\n" for label in labels.split())
        + "\n".join(rows)
        + "\n"
    )
    optimiser = OptimiserRecord(
        root=names.root, model_star=str(names.model(number)), model_star_2=None, data_star=str(names.data(number)),
        sampling_star=str(names.sampling(number)), iteration=number, particle_diameter_A=80.0, random_seed=7,
        oversampling=1, n_iterations=2, split_random_halves=False, accuracy_rot_deg=5.0 - number,
        change_classes=1e7 if number == 0 else 0.5 / number,
    )  # fmt: skip
    write_optimiser(names.optimiser(number), optimiser, "RELION optimiser; version 3.1.3\n--K 2")


def check_self_contained(page: Path) -> Collector:
    """Nothing but data inside the page, no script."""
    found = Collector(page.read_text())
    assert not [tag for tag, _ in found.tags if tag in ("script", "iframe", "object", "embed")]
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//", value), value
    images = [a for tag, a in found.tags if tag == "img"]
    assert all((a["src"] or "").startswith("data:image/png;base64,") and a["alt"] for a in images)
    return found


def test_page_of_a_refinement_that_runs(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        write_iteration(tmp_path, number, f"RELION optimiser; version 3.1.3\n--o {NASTY}")
    assert main(["report", str(tmp_path)]) == 0
    found = check_self_contained(tmp_path / "report.html")
    assert "after iteration 2" in found.text
    assert f"--o {NASTY}" in found.text  # as text, escaped
    assert "version 3.1.3" in found.text
    assert sum(tag == "img" for tag, _ in found.tags) >= 6
    assert (tmp_path / "report_files/run_progress.csv").is_file()
    links = [a["href"] for tag, a in found.tags if tag == "a" and not (a["href"] or "#").startswith("#")]
    assert links
    assert all((tmp_path / str(link)).is_file() for link in links)


def test_files_that_changed_are_read_again(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        write_iteration(tmp_path, number)
    names, iterations, finished = find_refinements(tmp_path)[0]
    assert load_refinement(names, iterations, finished).progress["resolution_A"][2] == 18.0
    path = tmp_path / "run_it002_half1_model.star"
    path.write_text(path.read_text().replace("18.0", "12.0"))
    os.utime(path, ns=(1, 1))  # a clock that is coarse can not hide the change
    assert load_refinement(names, iterations, finished).progress["resolution_A"][2] == 12.0


def test_the_table_that_the_run_keeps_comes_first(tmp_path: Path) -> None:
    """It has what no STAR file tells; columns need not be full."""
    for number in (0, 1, 2):
        write_iteration(tmp_path, number)
    (tmp_path / "run_progress.csv").write_text(
        "iteration,resolution_A,score_error_nats,peak_memory_MiB\n1,12.5,,345\n2,11.5,0.0123,346\n"
    )
    page = build_report(tmp_path).read_text()
    heads = re.findall(r"<th>(.*?)</th>", page)
    assert heads == ["Iteration", "Current resolution (Å)", "Error of scores (nats)", "Memory (MiB)"]
    assert re.findall(r"<td>(.*?)</td>", page) == ["1", "12.50", "", "345", "2", "11.50", "0.012", "346"]


def test_time_by_rank() -> None:
    """Ranks from the slowest; of many the ends."""
    assert time_by_rank({"iteration": np.arange(2), "rank_000_s": np.ones(2)}) == []
    (table,) = time_by_rank({"rank_001_s": np.array([1.0, 2.0]), "rank_002_s": np.array([4.0, np.nan])})
    assert table.rows == [["2", "4.0", "", "100"], ["1", "3.0", "2.0", "75"]]
    (many,) = time_by_rank({f"rank_{k:03d}_s": np.array([float(k)]) for k in range(40)})
    assert [row[0] for row in many.rows] == [*map(str, range(39, 31, -1)), *map(str, range(7, -1, -1))]


def test_relions_finished_run_has_no_last_optimiser(tmp_path: Path) -> None:
    for number in (0, 1, None):
        write_iteration(tmp_path, number)
    (tmp_path / "run_optimiser.star").unlink()
    (tmp_path / "run_data.star").write_text(
        "data_particles\n"
    )  # not readable: the rest is shown all the same
    found = check_self_contained(build_report(tmp_path))
    assert "finished" in found.text
    assert "Slices at five levels and projections along z, y and x of run_class001.mrc" in found.text


def test_page_of_a_finished_one_in_two_parts(tmp_path: Path) -> None:
    for number in (0, 1, None):
        write_iteration(tmp_path, number)
    for path in tmp_path.glob("run_it001_*"):
        path.rename(path.with_name(path.name.replace("run_", "run_ct1_")))
    found = find_refinements(tmp_path)
    assert len(found) == 1
    names, iterations, finished = found[0]
    assert finished
    assert list(iterations) == [0, 1]
    assert iterations[1].root.endswith("run_ct1")
    assert names.root.endswith("run")
    check_self_contained(build_report(tmp_path))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_page_of_relions_classification(
    tmp_path: Path, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is told from its files: it leaves no table of its progress and no picture."""
    monkeypatch.setattr("mpiapp.report.classification_sections.ENOUGH_VIEWS", 1)
    for number in (0, 1):
        write_class_iteration(tmp_path, number, dimensions)
    assert "after iteration 1" in check_self_contained(build_report(tmp_path)).text
    write_class_iteration(tmp_path, 2, dimensions)
    found = check_self_contained(build_report(tmp_path))
    assert "run: finished" in found.text
    assert "version 3.1.3" in found.text
    shown = {path.stem.removeprefix("run_") for path in (tmp_path / "report_files").glob("*.png")}
    assert shown >= {"classes", "class_sizes", "progress", "ssnr", "noise", "signal", "norm", "scale"}
    of_maps = {"angdist", *(f"class00{k}_{kind}" for k in (1, 2) for kind in ("angdist", "slices"))}
    assert shown & of_maps == (of_maps if dimensions == 3 else set())
    with open(tmp_path / "report_files/run_progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["0", "1", "2"]
    assert [row["resolution_A"] for row in rows] == ["30", "29", "28"]
    assert [row["change_class"] for row in rows[1:]] == ["0.5", "0.25"]
    assert rows[2]["accuracy_rot_deg"] == "3"
    assert rows[2]["class_002"] == "0.75"
    assert "Signal power and noise power in the reference, class 2." in found.text  # the largest


def test_only_wide_pictures_scroll_on_small_screens(tmp_path: Path) -> None:
    write_class_iteration(tmp_path, 1, 3)
    page = build_report(tmp_path).read_text()
    figures = re.findall(r"<figure(.*?)</figure>", page, re.DOTALL)
    assert {figure.startswith(' class="wide"') for figure in figures} == {True, False}
    for figure in figures:
        wide = figure.startswith(' class="wide"')
        assert ("min-width" in figure) == wide == ("scroll →</p>" in figure)
        assert "scroll →" not in figure.partition("<figcaption>")[2]


def test_text_is_escaped_everywhere(tmp_path: Path) -> None:
    section = Section(
        NASTY,
        facts=[(NASTY, NASTY)],
        warnings=[NASTY],
        notes=[NASTY],
        tables=[Table([NASTY], [[NASTY]])],
        code=[NASTY],
    )
    write_page(tmp_path / "report.html", NASTY, NASTY, [section])
    found = check_self_contained(tmp_path / "report.html")
    assert found.text.count("alert") == 12  # title twice, status, navigation and heading, two facts, ...


def test_what_is_no_job_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "give a job's folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_pages_take_a_small_share_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page comes after 20 s; what the others cost is what their processes tell."""
    started: list[float] = []
    now = [0.0]
    monkeypatch.setattr("mpiapp.engine.page_writer.time.monotonic", lambda: now[0])

    def start(*_: object, **__: object) -> subprocess.Popen[bytes]:
        started.append(now[0])
        return subprocess.Popen(["echo", "4.0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr("mpiapp.engine.page_writer.start_python", start)
    page = PageWriter(OutputNames(str(tmp_path / "run")))
    for iteration in range(1, 61):
        now[0] += 10.0
        page.offer({"iteration": [float(i) for i in range(1, iteration + 1)]})
        if page._working is not None:
            page._working.wait()
    assert started[0] == 20
    assert 4.0 * len(started) <= 0.05 * now[0] + 4
    assert len(started) >= 5
    text = (tmp_path / "run_progress.csv").read_text().splitlines()
    assert text[0] == "iteration"
    assert len(text) == 61


def test_a_page_is_made_beside_the_run_and_gives_way_to_the_last_one(tmp_path: Path) -> None:
    write_iteration(tmp_path, 0)
    write_iteration(tmp_path, 1)
    (tmp_path / "run_it002_optimiser.star").write_text(
        "of an iteration without files, as --write_every leaves"
    )
    page = PageWriter(OutputNames(str(tmp_path / "run")))
    page.offer({"iteration": [1.0]})
    assert page._working is None  # too soon
    page.next_s = 0.0
    page.offer({"iteration": [1.0]})
    assert page._working is not None
    assert page._working.wait(60) == 0
    assert "after iteration 1" in (tmp_path / "report.html").read_text()
    assert not page._is_working()
    assert 0 < page.next_s == page.spent_s
    page.spent_s = page.next_s = 0.0
    (tmp_path / "report.html").unlink()
    page.offer({"iteration": [1.0]})
    page.write()
    assert page._working is None
    assert "after iteration 1" in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_page_that_fails_beside_the_run_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = PageWriter(OutputNames(str(tmp_path / "run")))
    page.next_s = 0.0
    page.offer({"iteration": [1.0]})
    assert page._working is not None
    page._working.wait(60)
    assert not page._is_working()
    assert "report.html could not be written: InputError" in caplog.text


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser here")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(tmp_path: Path, width: int) -> None:
    """No complaint on the console, and a picture of the page that is not empty."""
    import matplotlib.image

    for number in (0, 1, 2):
        write_iteration(tmp_path, number)
    page = build_report(tmp_path)
    done = subprocess.run(
        [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
            f"--window-size={width},3000", f"--user-data-dir={tmp_path}/profile", f"--screenshot={tmp_path}/page.png",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if not (tmp_path / "page.png").is_file():
        pytest.skip(f"the browser does not start here: {done.stderr[-300:]}")
    assert "CONSOLE" not in done.stderr, done.stderr
    picture = matplotlib.image.imread(tmp_path / "page.png")
    assert picture.shape[1] == width
    assert picture[..., :3].std() > 0.05
