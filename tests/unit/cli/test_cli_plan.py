"""``mpiapp plan`` prints sizes, batches for each card, and a plot; it needs no device and no data."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from mpiapp.backend.memory import cache_bytes
from mpiapp.backend.step_plan import plan_step
from mpiapp.cli.main import main
from mpiapp.config.plan import PlanConfig
from mpiapp.engine.memory_plan import stages
from mpiapp.report import style

SMALL = ["plan", "--box", "128", "--angpix", "2", "--particles", "5000"]


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([*SMALL, *options]) == 0
    return capsys.readouterr().out


def test_the_tables_name_what_lives_where_and_each_card(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    for item in (
        "reference, padded transform",
        "accumulators",
        "coarse scores",
        "prepared plane",
        "sums by orientation",
    ):
        assert item in text
    cards = [line.split()[0] for line in text.splitlines() if " GB  " in line and "maps" not in line]
    assert cards == ["8", "11", "24", "48", "80"]
    # accumulators at full size: R = 2 * 64 + 1
    line = next(line for line in text.splitlines() if line.startswith("  accumulators"))
    assert line.split()[-1] == f"{(2 * 129 + 1) ** 2 * 130 * 16 / 2**20:,.0f}"


def test_one_card_size_may_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--gpu_memory", "24", "--K", "3", "--workers", "4")
    assert "1,250 each" in text
    assert "  24 GB" in text
    assert "  8 GB" not in text
    assert "too small" in printed(capsys, "--gpu_memory", "1.01")


def test_the_plot_is_linear_in_classes_and_steep_in_the_box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "_DPI", 50)
    options = ("--particles", "80000", "--o", str(tmp_path / "new" / "run"))
    assert "memory.png" in printed(capsys, *options)
    assert matplotlib.image.imread(tmp_path / "new" / "run_memory.png").ndim == 3
    with open(tmp_path / "new" / "run_memory.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for curve in ("expectation, data to Nyquist", "reconstruction of classes"):
        by_class = [
            float(row["memory_GB"]) for row in rows if row["against"] == "classes" and row["curve"] == curve
        ]
        assert len(by_class) == 8
        np.testing.assert_allclose(np.diff(by_class, 2), 0, atol=1e-6)
    by_box = {
        int(row["x"]): float(row["memory_GB"]) - 1
        for row in rows
        if row["curve"] == "reconstruction, padding 2"
    }
    assert sorted(by_box) == list(range(100, 601, 50))
    # cubic, but for the planes that are worked on at a time
    assert by_box[600] / by_box[300] == pytest.approx(8, rel=0.06)


def test_images_are_kept_before_batches_fill_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    """The run reserves 40 % of the memory for them: 2,500 MiB of 24 GB."""
    assert main(["plan", "--box", "256", "--particles", "10000", "--gpu_memory", "24"]) == 0
    text = capsys.readouterr().out
    kept = next(line for line in text.splitlines() if line.startswith("  images kept"))
    assert set(kept.split()[2:]) == {"100", "%", "2,500"}
    assert "read once and kept" in text
    card = next(line for line in text.splitlines() if line.startswith("  24 GB"))
    assert card.endswith("100 %")


def test_stacks_in_half_precision_take_as_much_on_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--particles", "1000000", "--gpu_memory", "24")
    single, half = (printed(capsys, *options, *more).splitlines() for more in ((), ("--float16",)))
    differ = [(a, b) for a, b in zip(single, half, strict=True) if a != b]
    assert len(differ) == 1
    sizes = [float(line.split()[0].replace(",", "")) for line in differ[0]]
    assert "read again in each iteration" in differ[0][0]
    assert sizes[0] == pytest.approx(2 * sizes[1], abs=1)


def test_batches_and_routes_are_those_that_a_run_decides(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--gpu_memory", "11")
    config = PlanConfig(box=128, angpix=2.0, particles=5000, gpu_memory=11.0).validate()
    memory = 11 << 30
    cache = cache_bytes({128: 5000}, memory)
    plans = [plan_step(stage.load, memory, cache) for stage in stages(config)]
    card = next(line for line in text.splitlines() if line.startswith("  11 GB"))
    assert card.split()[2:-3:2] == [str(plan.batch) for plan in plans]
    rows = {line[:30].strip(): line[30:].split() for line in text.splitlines()}
    assert [f"{plan.total / 2**20:,.0f}" for plan in plans] == rows["together, of"][::3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "129"], "--box 129: image boxes are even"),
        (["--sym", "Q3"], "--sym Q3: not a point group"),
        (["--ini_high", "3"], "beyond the Nyquist limit"),
        (["--gpu_memory", "0"], "--gpu_memory 0: expected a number above 0 GB, or -1"),
        (["--offset_step", "0"], "--offset_step 0"),
        (["--bax", "3"], "did you mean --box"),
    ],
)
def test_wrong_options_are_named(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *options]) == 2
    assert message in capsys.readouterr().err


def test_flags_of_relion_paste_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--preread_images" in printed(capsys, "--preread_images")
