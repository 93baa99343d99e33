"""Signals and the time limit set a flag, and nothing else."""

from __future__ import annotations

import os
import signal
import time

import pytest

from mpiapp.parallel.stop import StopFlag


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_raises_the_flag_and_interrupts_nothing(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with StopFlag() as flag:
        assert not flag.raised
        assert flag.reason == ""
        os.kill(os.getpid(), number)
        assert flag.raised
        assert flag.reason == f"signal {number.name} received"
    assert signal.getsignal(number) == former


def test_a_second_interrupt_ends_the_program() -> None:
    with StopFlag() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.raised
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_time_limit() -> None:
    hour_ago = time.monotonic() - 3600
    assert not StopFlag(max_hours=1.1, started=hour_ago).raised
    late = StopFlag(max_hours=0.5, started=hour_ago)
    assert late.raised
    assert late.reason == "time limit of 0.5 hours reached"
    assert StopFlag(max_hours=2, started=hour_ago).seconds_left == pytest.approx(3600, abs=5)
    assert StopFlag().seconds_left == float("inf")
