"""``mpiapp plan`` prints sizes, batches for each card, and a plot; it needs no device and no data."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.report import style

SMALL = ["plan", "--box", "128", "--angpix", "2", "--particles", "5000"]


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([*SMALL, *options]) == 0
    return capsys.readouterr().out


def test_the_tables_name_what_lives_where_and_each_card(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    for item in ("reference, padded transform", "accumulators", "coarse scores", "prepared plane", "float16"):
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
    assert "memory.png" in printed(capsys, "--o", str(tmp_path / "new" / "run"))
    assert matplotlib.image.imread(tmp_path / "new" / "run_memory.png").ndim == 3
    with open(tmp_path / "new" / "run_memory.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    by_class = [
        float(row["memory_GB"])
        for row in rows
        if row["against"] == "classes" and "expectation" in row["curve"]
    ]
    assert len(by_class) == 8
    np.testing.assert_allclose(np.diff(by_class, 2), 0, atol=1e-6)
    by_box = {
        int(row["x"]): float(row["memory_GB"]) - 1
        for row in rows
        if row["curve"] == "reconstruction, padding 2"
    }
    assert sorted(by_box) == list(range(100, 601, 50))
    assert by_box[600] / by_box[300] == pytest.approx(8, rel=0.03)


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
