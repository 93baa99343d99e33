"""STAR files: nothing lost, nothing changed, RELION reads what is written."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpiapp.errors import InputError
from mpiapp.io import star_parser
from mpiapp.io.star import parse_star, read_star, write_star
from mpiapp.io.star_table import Table, numbered

Blocks = dict[str, tuple[list[str], list[list[str]]]]


def tiny_parse(text: str) -> Blocks:
    """Independent reader of well-formed files: labels and rows of words, nothing converted."""
    blocks: Blocks = {}
    labels: list[str] = []
    rows: list[list[str]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("data_"):
            labels, rows = [], []
            blocks[line[5:]] = (labels, rows)
            in_loop = False
        elif line == "loop_":
            in_loop = True
        elif line.startswith("_"):
            words = line[1:].split()
            labels.append(words[0])
            if not in_loop:
                rows[:] = [(rows[0] if rows else []) + [" ".join(words[1:])]]
        elif line and not line.startswith("#"):
            rows.append(line.split())
    return blocks


def assert_same(cell: object, word: str) -> None:
    """A value as read stands for the word in the file: the same number, or the same text."""
    if isinstance(cell, str):
        assert cell == word
    else:
        assert float(cell) == float(word)  # type: ignore[arg-type]


def compare_with_text(path: Path) -> int:
    """Compare every cell of a file with what the tiny parser sees; give the number of cells."""
    truth = tiny_parse(path.read_text())
    blocks = read_star(path)
    assert list(blocks) == list(truth)
    count = 0
    for name, (labels, rows) in truth.items():
        block = blocks[name]
        if isinstance(block, dict):
            assert list(block) == labels
            columns = [[value] for value in block.values()]
        else:
            assert list(block.columns) == labels
            columns = [block[label].tolist() for label in labels]
        for column, words in zip(columns, zip(*rows, strict=True), strict=True):
            assert len(column) == len(words)
            for cell, word in zip(column, words, strict=True):
                assert_same(cell, word)
                count += 1
    return count


def star_files(shared: Path) -> list[Path]:
    return sorted((shared / "data").rglob("*.star"))


def test_every_cell_of_the_real_files(shared: Path) -> None:
    counts = {path.name: compare_with_text(path) for path in star_files(shared)}
    assert len(counts) >= 24
    assert counts["empiar10204_betagal_relion31_particles.star"] == 4501 * 25 + 10
    assert all(counts.values())


def test_real_files_survive_writing_exactly(shared: Path, tmp_path: Path) -> None:
    for path in star_files(shared):
        blocks = read_star(path)
        write_star(tmp_path / "copy.star", blocks)
        again = read_star(tmp_path / "copy.star")
        assert list(again) == list(blocks)
        for name, block in blocks.items():
            if isinstance(block, dict):
                assert again[name] == block
            else:
                pd.testing.assert_frame_equal(again[name], block, check_exact=True)


def test_relion_reads_what_we_write(relion: Path, shared: Path, tmp_path: Path) -> None:
    source = read_star(shared / "data/star_files/cryodrgn_relion31_6opticsgroups.star")
    particles = source["particles"].copy()
    particles["rlnAngleRot"] = np.linspace(-180, 180, len(particles)) / 3
    particles["rlnGroupName"] = ["two words", "", 'quo"te', "it's", "a#5", "_x"] + ["plain"] * (
        len(particles) - 6
    )
    ours, theirs = tmp_path / "ours.star", tmp_path / "theirs.star"
    write_star(ours, {"optics": source["optics"], "particles": particles}, comment="written by a test")
    run = [str(relion / "relion_star_handler"), "--i", str(ours), "--o", str(theirs)]
    subprocess.run(run, check=True, capture_output=True, timeout=60, cwd=tmp_path)
    back = read_star(theirs)["particles"]
    assert set(back.columns) == set(particles.columns)
    for label in particles.columns:
        mine, other = particles[label].tolist(), back[label].tolist()
        if isinstance(mine[0], str):
            assert mine == other, label
        else:
            np.testing.assert_allclose(np.array(other, float), np.array(mine, float), rtol=1e-5, atol=1e-5)


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(words.filter(lambda s: not ('"' in s and "'" in s)), min_size=1, max_size=6),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    wholes=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6),
)
def test_any_value_survives(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], numbers: list[float], wholes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("any") / "t.star"
    n = min(len(texts), len(numbers), len(wholes))
    table = pd.DataFrame({"rlnGroupName": texts[:n], "rlnDefocusU": numbers[:n], "myCount": wholes[:n]})
    write_star(path, {"t": table, "one": {"rlnGroupName": texts[0], "rlnDefocusU": numbers[0]}})
    back = read_star(path)
    assert back["t"]["rlnGroupName"].tolist() == texts[:n]
    assert back["t"]["rlnDefocusU"].tolist() == numbers[:n]
    assert back["t"]["myCount"].tolist() == wholes[:n]
    assert back["one"] == {"rlnGroupName": texts[0], "rlnDefocusU": numbers[0]}


def test_names_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    path.write_text("data_\nloop_\n_rlnGroupName\n_strange\n_other\n_third\n007 007 1 1_0\n1e5 12 2.5 20\n\n")
    table = read_star(path)[""]
    assert table["rlnGroupName"].tolist() == ["007", "1e5"]
    assert table["strange"].tolist() == ["007", "12"]
    assert table["other"].tolist() == [1.0, 2.5]
    assert table["third"].tolist() == ["1_0", "20"]


def test_column_that_changes_type_after_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(star_parser, "CHUNK_ROWS", 2)
    path = tmp_path / "t.star"
    path.write_text("data_t\nloop_\n_a\n_b\n_c\n" + "1 1 1\n2 2 2\n3 3.5 x\n4 4 4\n5 5 5\n" + "\n")
    table = read_star(path)["t"]
    assert table["a"].tolist() == [1, 2, 3, 4, 5]
    assert table["a"].dtype == np.int64
    assert table["b"].tolist() == [1, 2, 3.5, 4, 5]
    assert table["c"].tolist() == ["1", "2", "x", "4", "5"]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_foreign_line_ends_are_read_with_a_notice(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.star"
    path.write_bytes(end.join(["data_a", "loop_", "_rlnX #1", "_rlnY #2", "1 a", "2 b", ""]).encode())
    star = parse_star(path)
    assert list(star.blocks["a"]["rlnY"]) == ["a", "b"]
    assert "CR LF" in star.notices[0]


def test_rows_after_a_blank_line_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.star"
    path.write_text("data_a\nloop_\n_rlnX\n_rlnY\n_rlnZ\n1 2 3\n\n4 5 6\n7 8 9\ndata_b\n_rlnX 1\n")
    with caplog.at_level(logging.WARNING):
        blocks = read_star(path)
    assert blocks["a"].shape == (1, 3)
    assert blocks["b"] == {"rlnX": 1}
    assert "2 lines before this one" in caplog.text
    assert "line 10" in caplog.text


def test_blank_line_between_labels_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    path.write_text(
        "data_a\n\nloop_\n_rlnX #1\n_rlnY #2\n_rlnZ #3\n\n1 2 3\n\ndata_b\n\nloop_\n_rlnX\n\n\ndata_c\n"
    )
    star = parse_star(path)
    assert [(len(star.blocks[name]), len(list(star.blocks[name]))) for name in "ab"] == [(1, 3), (0, 1)]
    assert star.blocks["c"] == {}
    assert [n for n in star.notices if "line 7" in n]


def test_line_of_the_first_row_is_known(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    path.write_text("# version 30001\n\ndata_a\n\nloop_\n_rlnX #1\n# remark\n_rlnY #2\n1 2\n\n")
    assert read_star(path)["a"].attrs["first_line"] == 9


def test_newer_version_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    path.write_text("# version 60001\n\ndata_a\n\n_rlnX 1\n\n")
    star = parse_star(path)
    assert star.version == 60001
    assert "newer RELION" in star.notices[0]


def test_unquoted_job_option_keeps_its_blanks(tmp_path: Path) -> None:
    path = tmp_path / "job.star"
    path.write_text(
        "data_v\nloop_\n_rlnJobOptionVariable\n_rlnJobOptionValue\nother_args --a 1 --b\nempty\n\n"
    )
    assert read_star(path)["v"]["rlnJobOptionValue"].tolist() == ["--a 1 --b", ""]


def test_layout_is_relions(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    table = pd.DataFrame(
        {"rlnAngleRot": [1.5, -20.25], "rlnClassNumber": [1, 2], "rlnImageName": ["1@a", "2@b c"]}
    )
    write_star(path, {"general": {"rlnX": True, "rlnV": [1.5, 2.0]}, "particles": table}, comment="one\ntwo")
    assert path.read_text() == (
        "# one\n# two\n\n# version 30001\n\ndata_general\n\n"
        f"_{'rlnX':<45}            1\n_{'rlnV':<45} [1.5,2]\n\n"
        "\n# version 30001\n\ndata_particles\n\nloop_\n"
        "_rlnAngleRot #1\n_rlnClassNumber #2\n_rlnImageName #3\n"
        '    1.500000            1 1@a\n  -20.250000            2 "2@b c"\n\n'
    )


def test_computed_tables_have_six_decimals(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    values = np.array([1 / 3, 2e-5 / 3, 1e6 / 3, 0.0, np.nan])
    write_star(path, {"t": pd.DataFrame({"rlnX": values})}, exact=False)
    rows = path.read_text().split("#1\n")[1].split()
    assert rows == ["0.333333", "6.666667e-06", "3.333333e+05", "0.000000", "nan"]
    write_star(path, {"t": pd.DataFrame({"rlnX": values, "rlnY": values})}, exact={"rlnY"})
    back = read_star(path)["t"]
    assert back["rlnY"].tolist()[:3] == values.tolist()[:3]
    assert back["rlnX"].tolist()[0] == 0.333333


def test_float32_is_written_short(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    values = np.array([0.1, 1 / 3, 1.2345678e-7, 123456.78], dtype=np.float32)
    write_star(path, {"t": pd.DataFrame({"rlnX": values})})
    assert np.array_equal(read_star(path)["t"]["rlnX"].to_numpy().astype(np.float32), values)
    assert max(map(len, path.read_text().split())) <= 14


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.star"
    write_star(path, {"t": {"rlnX": 1}})
    with pytest.raises(InputError, match=r"t\.star, table data_t: .*line break"):
        write_star(path, {"t": {"rlnName": "a\nb"}})
    assert read_star(path)["t"] == {"rlnX": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["t.star"]


def test_tables_are_changed_without_touching_the_one_that_was_read() -> None:
    table = Table({"a": np.arange(3), "b": ["x", "y", "z"]}, first_line=7)
    more = table.with_columns({"c": np.ones(3), "a": np.zeros(3)})
    assert list(more) == ["a", "b", "c"]
    assert (more.first_line, more["a"].tolist(), table["a"].tolist()) == (7, [0, 0, 0], [0, 1, 2])
    assert list(more.without(["b", "none"])) == ["a", "c"]
    assert list(more.renamed({"b": "d"})) == ["a", "d", "c"]
    some = table.take(np.array([2, 0]))
    assert (some["a"].tolist(), some["b"], some.first_line) == ([2, 0], ["z", "x"], 0)


def test_labels_are_numbered_in_order_of_appearance() -> None:
    codes, found = numbered(["b", "a", "b", "c"])
    assert codes.tolist() == [0, 1, 0, 2]
    assert found == ["b", "a", "c"]
