"""Drawing in another process: files, warnings, faults and a process that dies."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpiapp.errors import InputError, MpiappError
from mpiapp.report import log
from mpiapp.report.build import build_report
from mpiapp.report.painter import Painter
from mpiapp.report.plots import plot_guinier


@pytest.mark.parametrize("cores", [1, 16])
def test_pictures_and_warnings(tmp_path: Path, cores: int, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked for is there at the end of the block, also what does not fit into a pipe."""
    x = np.arange(50_000.0)
    logging.getLogger(log.NAME).propagate = True
    with Painter(cores) as drawing:
        assert len(drawing._all) == (1 if cores == 1 else 4)
        for name in ("a", "b"):
            drawing.call(plot_guinier, tmp_path / f"{name}.png", x, {"original": -x}, bfactor_A2=-5.0)
        drawing.call(log.warn, "a remark of the other process")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.png", "b.csv", "b.png"]
    assert "a remark of the other process" in caplog.text


def draw(*tasks: tuple[Any, ...]) -> None:
    """Functions with their arguments, in one process."""
    with Painter(1) as drawing:
        for task in tasks:
            drawing.call(*task)


def test_a_fault_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        draw((build_report, tmp_path / "nothing"), (Path.touch, tmp_path / "after"))
    assert not (tmp_path / "after").exists()
    with pytest.raises(Exception, match="pickle"):
        draw((lambda: None,))


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(MpiappError, match="process that draws has ended .exit code 3"):
        draw((os._exit, 3))


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_error_ends_it_at_once(error: type[BaseException]) -> None:
    drawing = Painter(1)
    python = drawing._all[0]._python
    with pytest.raises(error), drawing:
        raise error
    assert python.returncode == -signal.SIGKILL


def test_an_interrupt_while_waiting_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the end of a job, when pictures are still being drawn; it does not reach the other process itself."""
    drawing = Painter(1)
    drawing.call(time.sleep, 60)
    python = drawing._all[0]._python
    assert os.getsid(python.pid) != os.getsid(0)

    def interrupted() -> tuple[list[str], BaseException | None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(drawing._all[0], "answer", interrupted)
    with pytest.raises(KeyboardInterrupt), drawing:
        pass
    assert python.returncode == -signal.SIGKILL
