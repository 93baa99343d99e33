"""The watching thread asks for the end when a file appears or another rank says so."""

from __future__ import annotations

import time
from pathlib import Path

from mpiapp.parallel.serial import SerialTeam
from mpiapp.parallel.stop import StopFlag
from mpiapp.parallel.watch import watch


class Listener(SerialTeam):
    """One of two ranks; what it says is kept, and what it hears is set by the test."""

    size = 2

    def __init__(self) -> None:
        super().__init__(2)
        self.said: list[str] = []
        self.heard = ""

    def sound_alarm(self, reason: str) -> None:
        self.said.append(reason)

    def hears_alarm(self) -> str:
        return self.heard


def raised_within(stop: StopFlag, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not stop.raised and time.monotonic() < end:
        time.sleep(0.02)
    return stop.raised


def test_an_abort_file_stops_the_run(tmp_path: Path) -> None:
    stop, file = StopFlag(), tmp_path / "RELION_JOB_ABORT_NOW"
    with watch(SerialTeam(2), stop, file):
        assert not raised_within(stop, 0.7)
        file.touch()
        assert raised_within(stop, 5)
    assert str(file) in stop.reason


def test_an_alarm_of_another_rank_stops_this_one_and_is_not_echoed() -> None:
    team, stop = Listener(), StopFlag()
    with watch(team, stop):
        team.heard = "signal SIGTERM received (rank 3)"
        assert raised_within(stop, 5)
        time.sleep(0.6)
    assert (stop.reason, team.said) == ("signal SIGTERM received (rank 3)", [])


def test_a_raised_flag_is_told_once() -> None:
    team, stop = Listener(), StopFlag()
    with watch(team, stop):
        stop.ask("signal SIGUSR1 received")
        stop.ask("a later reason")
        time.sleep(1.3)
    assert team.said == ["signal SIGUSR1 received"]
