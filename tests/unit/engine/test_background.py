"""Files that are written by a process of their own."""

from __future__ import annotations

import io
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpiapp.engine.background import BackgroundWriter, WritingProcess
from mpiapp.engine.handover import receive, send
from mpiapp.engine.state import HalfState, RunState, Schedule
from mpiapp.errors import InputError, MpiappError
from mpiapp.model.particles import Poses
from mpiapp.report import log

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no shared memory of this kind here")


class Recorder:
    """A writer that notes the process it runs in and what it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.last_files = folder, -1
        self.kept = np.arange(1000.0)

    def iteration(self, state: RunState) -> None:
        number = state.schedule.iteration
        if number == 3:
            raise InputError("the disk is full")
        assert (self.kept == np.arange(1000)).all()
        log.warn(f"iteration {number}")
        print("what a library says")
        np.savez(
            self.folder / f"{number}.npz", map=state.maps[0], process=os.getpid(), rot=state.poses.rot_deg
        )
        self.last_files = number

    def plots(self, state: RunState, volume: np.ndarray) -> None:
        np.savez(self.folder / "plots.npz", map=volume, process=os.getpid(), fsc=state.fsc)

    def final(self, state: RunState, volume: np.ndarray, unfiltered: list[np.ndarray]) -> None:
        np.savez(self.folder / "final.npz", process=os.getpid())

    def pictures(self, state: RunState) -> None:
        np.savez(self.folder / "pictures.npz", map=state.maps[0], process=os.getpid())

    def write_page(self) -> None:
        assert (self.folder / "final.npz").is_file()
        np.savez(self.folder / "page.npz", process=os.getpid())


@pytest.fixture
def state() -> RunState:
    rng = np.random.default_rng(1)
    volume = rng.normal(size=(1, 40, 40, 40)).astype(np.float32)
    half = HalfState(
        np.ones((1, 21)), np.ones(3), np.ones((1, 48)), np.zeros((1, 2)), *np.ones((4, 1, 21)), np.ones(4),
        np.ones((1, 2)),
    )  # fmt: skip
    schedule = Schedule(2, 3.0, 1.0, iteration=1)
    none = np.zeros((0, 0, 0), np.float32)
    return RunState(schedule, [half], [volume], Poses.zeros(5), np.ones(5, np.int8), np.zeros(21), 1, none)


def test_values_are_handed_over() -> None:
    memory = os.memfd_create("test")
    value = {"a": np.arange(100000.0), "b": np.arange(12).reshape(3, 4).T, "c": "text", "d": np.zeros(0)}
    for sent in (value, 5, {"a": np.arange(200000.0)}):
        pipe = io.BytesIO()
        send(pipe, sent, memory)
        pipe.seek(0)
        found = receive(pipe, memory)
        assert pickle.dumps(found) == pickle.dumps(sent)
    with pytest.raises(EOFError):
        receive(pipe, memory)
    os.close(memory)


def test_another_process_writes(tmp_path: Path, state: RunState, caplog: pytest.LogCaptureFixture) -> None:
    writer = BackgroundWriter(Recorder(tmp_path), WritingProcess())  # type: ignore[arg-type]
    writer.iteration(state)
    state.poses.rot_deg[:] = 7.0  # the next iteration, already
    writer.iteration(replace(state, schedule=replace(state.schedule, iteration=2)))
    assert writer.last_files == 2  # what is not an iteration waits for those before it
    first, second = (np.load(tmp_path / f"{n}.npz") for n in (1, 2))
    np.testing.assert_array_equal(first["map"], state.maps[0])
    assert (first["rot"] == 0).all()
    assert (second["rot"] == 7).all()
    assert first["process"] == second["process"] != os.getpid()
    writer.finish(state, state.maps[0][0], [])
    final, drawn, page = (np.load(tmp_path / f"{name}.npz") for name in ("final", "plots", "page"))
    assert final["process"] == os.getpid()
    assert drawn["process"] == page["process"] == first["process"]
    np.testing.assert_array_equal(drawn["map"], state.maps[0][0])
    writer.pictures(state)
    pictures = np.load(tmp_path / "pictures.npz")
    assert pictures["process"] == first["process"]
    np.testing.assert_array_equal(pictures["map"], state.maps[0])
    assert "iteration 2" in caplog.text
    writer.close()
    assert writer._process.python.returncode == 0


def test_a_fault_is_raised_by_the_next_call(tmp_path: Path, state: RunState) -> None:
    writer = BackgroundWriter(Recorder(tmp_path), WritingProcess())  # type: ignore[arg-type]
    writer.iteration(replace(state, schedule=replace(state.schedule, iteration=3)))
    with pytest.raises(InputError, match="the disk is full"):
        writer.wait()
    writer.iteration(state)  # it goes on
    writer.wait()
    assert (tmp_path / "1.npz").is_file()
    writer.close()


def test_a_lost_process_is_told(tmp_path: Path, state: RunState) -> None:
    writer = BackgroundWriter(Recorder(tmp_path), WritingProcess())  # type: ignore[arg-type]
    writer.wait()
    writer._process.python.send_signal(signal.SIGTERM)  # ignored: the last files are still written
    writer.iteration(state)
    writer.wait()
    writer._process.python.kill()
    writer.iteration(state)
    with pytest.raises(MpiappError, match="has ended .exit code -9.*--continue"):
        writer.wait()
    writer.close()


def test_a_process_that_is_not_needed_ends_at_once() -> None:
    process = WritingProcess()
    process.end(at_once=True)
    assert process.python.returncode == -signal.SIGKILL
