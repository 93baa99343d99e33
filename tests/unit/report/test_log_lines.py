"""Log lines have RELION's words, and each rank writes where it should."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpiapp.config.refine import RefineConfig
from mpiapp.report import lines, log

EXAMPLES = {
    "iteration": lines.iteration_start(3, 12.3456789, 1, 2.5, 0.75, 0),
    "accuracy": lines.accuracies(12.5, 0.8),
    "sampling": lines.sampling(3.75, True, 6.8, 3.4),
    "resolution": lines.current_resolution(12.3456789, 7.05882, 190),
    "converged": lines.converged(),
    "final": lines.final("run_class001.mrc", "run_model.star", "run_data.star", 8.5, masked=False),
    "masked": lines.final("run_class001.mrc", "run_model.star", "run_data.star", 8.5, True, 12.5, 4.0),
}
# values put in above; what is left of a line are RELION's words
VALUES = re.compile(r"run_\w+\.\w+|\btrue\b|\d+(?:\.\d+)?")


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    yield
    log.close()


def test_numbers_stand_where_scripts_look_for_them() -> None:
    assert EXAMPLES["iteration"] == [
        " Auto-refine: Iteration= 3",
        " Auto-refine: Resolution= 12.3457 (no gain for 1 iter) ",
        " Auto-refine: Changes in angles= 2.5 degrees; and in offsets= 0.75 Angstroms (no gain for 0 iter) ",
    ]
    assert EXAMPLES["sampling"][0] == " Auto-refine: Angular step= 3.75 degrees; local searches= true"


@pytest.mark.relion
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_words_are_in_relions_program(name: str, relion: Path) -> None:
    program = (relion / "relion_refine_mpi").read_bytes()
    for line in EXAMPLES[name]:
        if "SEVERE" in line:
            continue
        line = line.replace("worse than 10 degrees", "worse than ten degrees")
        for words in VALUES.split(line):
            words = words.replace("ten degrees", "10 degrees").strip()
            if len(words) > 8:
                assert words.encode() in program, words


def test_masked_and_unmasked_ends_differ() -> None:
    assert any("(without masking) is: 8.5" in line for line in EXAMPLES["final"])
    assert any("(already with masking) is: 8.5" in line for line in EXAMPLES["masked"])
    assert any("tau2_fudge of 4" in line for line in EXAMPLES["masked"])


def test_good_accuracies_give_no_warning() -> None:
    assert len(lines.accuracies(1.2, 0.8)) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.834, "0.83 s"), (42.2, "42 s"), (725, "12:05 min"), (12_000, "3:20 h"), (3599.9, "1:00 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert lines.duration(seconds) == text


def test_speed_of_an_iteration() -> None:
    (line,) = lines.iteration_end(1000, 0.5, 0.1, 61, 0.93, 0.872)
    assert line.endswith("; GPU in work 87 %")
    (line,) = lines.iteration_end(1000, 0.5, 0.1, 61, 0.93)
    assert "GPU" not in line
    assert "2,000 particles/s" in line
    assert "Pmax= 0.93" in line


def test_leader_writes_to_terminal_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(log_file=tmp_path / "run.log")
    log.emit([" Auto-refine: Iteration= 1"])
    logging.getLogger("mpiapp.io").warning("a NaN image")
    logging.getLogger("mpiapp").debug("details")
    log.close()
    assert capsys.readouterr().out == " Auto-refine: Iteration= 1\nWARNING: a NaN image\n"
    written = (tmp_path / "run.log").read_text()
    assert "Auto-refine: Iteration= 1" in written
    assert " WARNING: a NaN image\n" in written
    assert "details" not in written


def test_other_ranks_only_warn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, leaders = tmp_path / "rank3.log", tmp_path / "run.log"
    logger = log.setup(2, rank=3, log_file=leaders, rank_log_file=own)
    logger.info("computing")
    logger.warning("slow disk")
    log.close()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "WARNING: rank 3: slow disk\n"
    assert "computing" in own.read_text()
    assert not leaders.exists()


def test_silent_runs_still_write_the_file_and_continued_ones_append(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.log"
    for append in (False, True):
        log.setup(0, log_file=path, append=append)
        log.emit(["line"])
        log.close()
    assert capsys.readouterr().out == ""
    assert path.read_text().count("line") == 2


def test_options_show_given_values_defaults_and_notes() -> None:
    config = RefineConfig.from_options({"i": "a b.star", "sym": "C4", "preread_images": True})
    shown = log.options(config)
    text = "\n".join(shown)
    given, defaults = text.split("Defaults that apply:")
    assert "--i a b.star --sym C4" in given
    assert "--low_resol_join_halves 40" in defaults
    assert "--ctf on" in defaults
    assert "Note: --preread_images" in text
    assert max(map(len, shown)) <= 110
