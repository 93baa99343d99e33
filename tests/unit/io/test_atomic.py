"""Files that are complete or absent."""

from __future__ import annotations

from pathlib import Path

from mpiapp.io.atomic import remove_abandoned


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / name for name in (".run_it002_data.star.123.tmp", ".run_it002_checkpoint.h5.7.tmp")]
    others = [
        tmp_path / name for name in (".run2_it001_data.star.9.tmp", "run_it001_data.star", "run_notes.tmp")
    ]
    for path in left + others:
        path.write_text("x")
    remove_abandoned(tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == sorted(others)
