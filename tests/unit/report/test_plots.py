"""Plots: the numbers beside them are right, and the pictures show them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import healpix
import matplotlib.image
import numpy as np
import pytest

from mpiapp.model.orientation_quality import ConicalFsc
from mpiapp.model.symmetry import directions, point_group
from mpiapp.report import slices_plot, style
from mpiapp.report.angular_plot import mollweide
from mpiapp.report.plots import (
    plot_angular_distribution,
    plot_class_sizes,
    plot_classes,
    plot_cones,
    plot_fsc,
    plot_fsc_history,
    plot_guinier,
    plot_progress,
    plot_slices,
    plot_spectra,
    resolution_of_curve,
)
from mpiapp.report.progress_plot import KNOWN_COLUMNS


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the pixels in each direction: a ninth of the time."""
    monkeypatch.setattr(style, "_DPI", 50)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they were when they were drawn, to be asked what is on them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figures: list[Any] = []
    draw: Callable[[FigureCanvasAgg], None] = FigureCanvasAgg.draw

    def keep(canvas: FigureCanvasAgg) -> None:
        figures.append(canvas.figure)
        draw(canvas)

    monkeypatch.setattr(FigureCanvasAgg, "draw", keep)
    return figures


def table(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV."""
    with open(path.with_suffix(".csv"), newline="") as file:
        rows = list(csv.reader(file))
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def numbers(path: Path, column: str) -> np.ndarray:
    return np.array([float(item) if item else np.nan for item in table(path)[column]])


def texts(figure: Any) -> str:
    """All that can be read on a figure."""
    import matplotlib.text

    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_fsc_curves_and_resolutions(tmp_path: Path, drawn: list[Any]) -> None:
    """Box of 100 A: shell 10 is the last above 0.143, shell 4 the last above 0.5; the other never falls."""
    path = tmp_path / "new_folder/fsc.png"
    frequency = np.arange(21) / 100
    fsc = np.interp(np.arange(21), [0, 4, 5, 10, 11, 20], [1, 0.51, 0.49, 0.15, 0.1, 0.0])
    plot_fsc(path, {"unmasked": (frequency, fsc), "model": (frequency[:9], np.full(9, 0.9))})
    assert table(path)["curve"] == ["unmasked"] * 21 + ["model"] * 9
    np.testing.assert_allclose(numbers(path, "fsc")[:21], fsc, rtol=1e-8)
    np.testing.assert_allclose(numbers(path, "resolution_A")[1:21], 100 / np.arange(1, 21), rtol=1e-8)
    labels = [line.get_label() for line in drawn[0].axes[0].get_lines() if line.get_label()[0] != "_"]
    assert labels == [
        "unmasked:  10.00 Å at 0.143,  25.00 Å at 0.5",
        "model:  ≤ 12.50 Å at 0.143,  ≤ 12.50 Å at 0.5",
    ]
    assert matplotlib.image.imread(path).shape == (230, 300, 3)


def crowded(figure: Any) -> list[str]:
    """Texts of a figure that leave it, and names of axes and titles that lie on labels of ticks or on the legend."""
    renderer, out = figure.canvas.get_renderer(), []
    for axes in [*figure.axes, *(child for parent in figure.axes for child in parent.child_axes)]:
        drawn = [axis for axis in (axes.xaxis, axes.yaxis) if axis.get_visible()]
        ticks = [
            text for axis in drawn for tick in axis._update_ticks() for text in (tick.label1, tick.label2)
        ]
        names = [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
        legend = axes.get_legend().get_texts() if axes.get_legend() else []
        shown = {
            text: text.get_window_extent(renderer).padded(-0.5)
            for text in (*ticks, *names, *legend)
            if text.get_visible() and text.get_text()
        }
        inside = figure.bbox.padded(1)
        out += [text.get_text() for text, box in shown.items() if not inside.contains(*box.min)]
        out += [text.get_text() for text, box in shown.items() if not inside.contains(*box.max)]
        for name in names:
            others = [text for text in shown if text is not name and name in shown]
            out += [f"{name.get_text()} on {o.get_text()}" for o in others if shown[name].overlaps(shown[o])]
    return out


def test_no_text_is_cut_off_or_covered(tmp_path: Path, drawn: list[Any], rng: np.random.Generator) -> None:
    """Panels with fixed margins, at the longest labels that occur."""
    x = np.arange(181) / 500
    falling = np.exp(-9 * x) - 0.05
    for n in (1, 4, 9):
        curves = {f"masked, random phases, seed {i}": (x, falling) for i in range(n)}
        plot_fsc(tmp_path / "fsc.png", curves)
    line = (-151.3, -22.75)
    plot_guinier(tmp_path / "guinier.png", x**2, {"original": -22.75 - 80 * x, "mtf": -10 + x}, -1234.5, line)
    directions = np.tile([0.0, 0.0, 1.0], (384, 1))
    cones = ConicalFsc(directions, np.tile(falling, (384, 1)), 12 + 1e-3 * rng.random(384), 0.123)
    plot_cones(tmp_path / "cones.png", cones, 1.0)
    for scale in (1e-10, 3e-4, 1e5):
        plot_spectra(
            tmp_path / "spectra.png", x, {"noise, group 12": scale * (1 + 7 * falling)}, "Noise power"
        )
    plot_fsc_history(tmp_path / "history.png", x, {"1": falling, "final": falling})
    history = {"iteration": np.arange(25), **{f"class_{k:03d}": np.full(25, 0.01 * k) for k in range(1, 15)}}
    plot_class_sizes(tmp_path / "sizes.png", history)
    assert len(drawn) == 3 + 1 + 1 + 3 + 1 + 1
    assert [
        (figure.axes[0].get_title(loc="left"), crowded(figure)) for figure in drawn if crowded(figure)
    ] == []


def test_resolution_of_a_curve() -> None:
    frequency = np.arange(5) / 20
    assert resolution_of_curve(frequency, [1, 0.9, 0.3, 0.6, 0.1], 0.5) == pytest.approx(20)
    assert resolution_of_curve(frequency, [1, 0.9, 0.9, 0.9, 0.9], 0.5) == pytest.approx(5)
    assert np.isnan(resolution_of_curve(frequency, [1, 0.1, 0.9, 0.9, 0.9], 0.5))


def test_fsc_without_resolution_and_without_curves(tmp_path: Path, drawn: list[Any]) -> None:
    plot_fsc(
        tmp_path / "a.png", {"noise": (np.arange(5) / 20, [1.0, 0.0, -0.1, 0.1, 0.0])}, thresholds=(0.5,)
    )
    assert "noise:  none at 0.5" in texts(drawn[0])
    plot_fsc(tmp_path / "b.png", {})
    with pytest.raises(ValueError, match="'short'"):
        plot_fsc(tmp_path / "c.png", {"short": ([0, 1], [1.0])})
    assert not (tmp_path / "c.png").exists()


def test_slices_show_the_right_planes_the_right_way_up(tmp_path: Path, drawn: list[Any]) -> None:
    """A single bright voxel at x = +3, y = -5, z = +8 pixels, in a box whose three sides differ in effect."""
    volume = np.zeros((32, 32, 32), dtype=np.float32)
    volume[16 + 8, 16 - 5, 16 + 3] = 7
    path = tmp_path / "slices.png"
    plot_slices(path, volume, 2.0, "Map", diameter_A=64.0)  # levels at 0, +-8 and +-16 A
    found = table(path)
    lit = [i for i, value in enumerate(found["largest"]) if float(value) == 7]
    assert [(found["axis"][i], float(found["offset_A"][i])) for i in lit] == [("z", 16.0)]
    # The projections are the last of each row, cut to 37 pixels (all 32): horizontal, vertical direction.
    picture = matplotlib.image.imread(path)  # of 50 dots per inch, its top row first
    for row, (x, y) in enumerate([(3, -5), (3, 8), (-5, 8)]):
        left, low = (round(50 * inches) for inches in slices_plot._corner(row, 5))
        part = picture[::-1][low : low + 92, left : left + 92]
        lit = np.argwhere(part == part.max()).mean(axis=0) / 92 * 32
        np.testing.assert_allclose(lit, (16.5 + y, 16.5 + x), atol=0.5)
    assert "z = +16 Å" in texts(drawn[0])
    assert "20 Å" in texts(drawn[0])


def test_slices_are_cut_to_the_particle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    shown: list[np.ndarray] = []
    picture = slices_plot._picture
    monkeypatch.setattr(
        slices_plot, "_picture", lambda image, *rest: shown.append(image) or picture(image, *rest)
    )
    volume = rng.normal(size=(48, 48, 48)).astype(np.float32)
    plot_slices(tmp_path / "a.png", volume, 1.5, "Map", diameter_A=30.0)
    assert shown[0].shape == (24, 24)  # 1.15 diameters
    np.testing.assert_array_equal(shown[0], volume[24 - 5, 12:36, 12:36])  # a quarter of the diameter below
    shown.clear()
    plot_slices(tmp_path / "b.png", volume, 1.5, "Map")
    assert shown[0].shape == (48, 48)


def test_grey_of_a_slice() -> None:
    """The lowest row first; what is beyond the contrast is black or white, and white where there is no number."""
    image = np.repeat(np.array([0, 1, 5], np.float32), 10)[:, None] * np.ones(30, np.float32)
    grey = slices_plot._picture(image, (0.0, 2.0), 90 / slices_plot._SIDE)
    assert grey.shape == (90, 90)
    np.testing.assert_array_equal(grey[[15, 45, 75], 40], [0, 128, 255])
    assert (slices_plot._picture(np.full_like(image, np.nan), (0.0, 1.0), 20) == 255).all()


@pytest.mark.parametrize("fill", [0.0, 1.0, np.nan])
def test_slices_of_an_empty_map(tmp_path: Path, fill: float) -> None:
    plot_slices(tmp_path / "a.png", np.full((8, 8, 8), fill), 1.0, "Map")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_mollweide_satisfies_its_equation_and_keeps_areas() -> None:
    latitude = np.radians(np.concatenate([np.linspace(-90, 90, 1001), [89.9999, -89.999999]]))
    x, y = mollweide(np.full(1003, np.pi), latitude)
    t = np.arcsin(np.clip(y, -1, 1))
    np.testing.assert_allclose(2 * t + np.sin(2 * t), np.pi * np.sin(latitude), atol=1e-9)
    np.testing.assert_allclose((x / 2) ** 2 + y**2, 1, atol=1e-9)
    # The strip of the ellipse below a latitude has the share of the sphere below it.
    order = np.argsort(y)
    share = (np.sin(latitude[order]) + 1) / 2
    strip = np.concatenate([[0], np.cumsum(np.diff(y[order]) * (x[order][1:] + x[order][:-1]))]) / (2 * np.pi)
    np.testing.assert_allclose(strip, share, atol=2e-4)


def test_even_directions_give_an_even_picture(tmp_path: Path) -> None:
    """HEALPix pixels are as even as directions can be: every hexagon, whole or cut, has a ratio near 1."""
    path = tmp_path / "angdist.png"
    theta, phi = healpix.pix2ang(128, np.arange(12 * 128**2))
    plot_angular_distribution(path, np.degrees(phi), np.degrees(theta))
    ratio = numbers(path, "relative_to_even")
    assert np.abs(ratio - 1).max() < 0.1
    assert numbers(path, "particles").sum() == pytest.approx(12 * 128**2)


def test_preferred_views_are_found_where_they_are(tmp_path: Path, drawn: list[Any]) -> None:
    path = tmp_path / "angdist.png"
    plot_angular_distribution(path, np.full(500, 70.0), np.full(500, 110.0))
    peak = numbers(path, "particles").argmax()
    assert numbers(path, "particles")[peak] == 500
    at = [numbers(path, name)[peak] for name in ("rot_deg", "tilt_deg")]
    apart = directions(*at) @ directions(70.0, 110.0)
    assert np.degrees(np.arccos(apart)) < 15  # within the hexagon
    assert "500 particles" in texts(drawn[0])


def test_symmetry_mates_are_shown(tmp_path: Path) -> None:
    """One view of a D2 particle: the four directions of its mates get a quarter of the particles each."""
    path = tmp_path / "angdist.png"
    plot_angular_distribution(path, np.full(400, 40.0), np.full(400, 65.0), sym="D2")
    lit = numbers(path, "particles") > 0
    assert numbers(path, "particles")[lit].tolist() == [100] * 4
    found = directions(numbers(path, "rot_deg")[lit], numbers(path, "tilt_deg")[lit])
    mates = directions(40.0, 65.0) @ point_group("D2").operators
    assert (np.degrees(np.arccos(np.clip(found @ mates.T, -1, 1))).min(axis=0) < 15).all()


@pytest.mark.parametrize("n", [0, 1])
def test_angular_distribution_of_hardly_any_particles(tmp_path: Path, n: int) -> None:
    plot_angular_distribution(tmp_path / "a.png", np.zeros(n), np.full(n, 90.0), sym="C3")
    assert numbers(tmp_path / "a.png", "particles").sum() == pytest.approx(n)


def test_progress_table_and_panels(tmp_path: Path, drawn: list[Any]) -> None:
    path = tmp_path / "progress.png"
    columns = {
        "iteration": [1, 2, 3],
        "resolution_A": [20.0, 12.5, np.nan],
        "accuracy_rot_deg": [999.0, 3.0, 2.0],
        "average_pmax": [0.1, 0.5, 0.6],
        "expectation_s": [10.0, 8.0, 6.0],
        "maximization_s": [1.0, 2.0, 3.0],
        "note": ["a", "b", "c"],
    }
    plot_progress(path, columns)
    assert table(path)["resolution_A"] == ["20", "12.5", ""]
    assert table(path)["accuracy_rot_deg"] == ["999", "3", "2"]
    assert table(path)["note"] == ["a", "b", "c"]
    panels = {axes.get_title(loc="left"): axes for axes in drawn[0].axes}
    assert list(panels) == ["Resolution (Å)", "Angles (°)", "Average Pmax", "Time of the iteration (s)"]
    np.testing.assert_array_equal(panels["Angles (°)"].get_lines()[0].get_ydata(), [np.nan, 3.0, 2.0])
    tops = [bar.get_y() + bar.get_height() for bar in panels["Time of the iteration (s)"].patches]
    assert tops == [10, 8, 6, 11, 10, 9]  # maximization stands on expectation
    low, high = panels["Resolution (Å)"].get_ylim()
    assert low > high  # better is up


def test_no_legend_of_the_progress_covers_a_curve(tmp_path: Path, drawn: list[Any]) -> None:
    """Curves that fill their panels to the upper right corner."""
    rising = np.geomspace(0.1, 100, 9)
    names = [name for name in KNOWN_COLUMNS if name not in ("iteration", "average_pmax", "change_class")]
    columns = {name: rising[:: -1 if name.startswith("resolution") else 1] for name in names}
    plot_progress(tmp_path / "progress.png", {"iteration": np.arange(9), **columns})
    covering = [axes for axes in drawn[0].axes if axes.get_legend() is not None]
    assert len(covering) == 4
    for axes in covering:
        box = axes.get_legend().get_window_extent()
        for line in axes.get_lines():
            points = axes.transData.transform(np.column_stack(line.get_data()))
            assert not any(box.contains(x, y) for x, y in points), axes.get_title()
        for bar in axes.patches:
            assert bar.get_window_extent().y1 <= box.y0


def test_progress_of_one_iteration_and_of_a_wrong_table(tmp_path: Path) -> None:
    plot_progress(tmp_path / "a.png", {"iteration": 1, "resolution_A": 999.0, "expectation_s": 12.0})
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="'pmax': 2"):
        plot_progress(tmp_path / "b.png", {"iteration": [1], "pmax": [1, 2]})


def test_a_plot_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="fault"), style.figure(path, 2, 2):
        raise RuntimeError("fault")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]


def test_classes_are_sorted_by_size(tmp_path: Path, drawn: list[Any]) -> None:
    images = np.random.default_rng(1).normal(size=(5, 16, 16))
    path = tmp_path / "classes.png"
    plot_classes(path, images, [0.1, 0.5, 0.0, 0.25, 0.15], [20.0, 12.3, 40.0, 15.0, 18.0], "Classes")
    np.testing.assert_array_equal(numbers(path, "class"), [2, 4, 5, 1, 3])
    np.testing.assert_allclose(numbers(path, "resolution_A"), [12.3, 15, 18, 20, 40])
    shown = [axes.images[0].get_array() for axes in drawn[0].axes if axes.images]
    # the empty class is not shown
    assert len(shown) == 4
    np.testing.assert_allclose(shown[0], images[1].astype(np.float32))
    assert "2: 50.0 %\n12.3" in texts(drawn[0])


def test_class_sizes_by_iteration(tmp_path: Path, drawn: list[Any]) -> None:
    path = tmp_path / "sizes.png"
    history = {"iteration": [1, 2], "resolution_A": [9, 8], "class_001": [0.5, 0.3], "class_002": [0.5, 0.7]}
    plot_class_sizes(path, history)
    assert set(table(path)) == {"iteration", "class_001", "class_002"}
    lines = {line.get_label(): line.get_ydata() for line in drawn[0].axes[0].get_lines()}
    np.testing.assert_allclose(lines["class 2"], [50, 70])
    np.testing.assert_allclose(lines["class 1"], [50, 30])
