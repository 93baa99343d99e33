"""Progress: a bar on a terminal, plain lines in a file, nothing on ranks that do not talk."""

from __future__ import annotations

import io

import pytest

from mpiapp.report.progress import Progress


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(seconds_per_step: float, steps: int = 100, **rest: float) -> list[str]:
    clock, stream = Clock(), io.StringIO()
    with Progress("Expectation iteration 3", 1000, stream=stream, clock=clock, **rest) as progress:  # type: ignore[arg-type]
        for _ in range(steps):
            clock.now += seconds_per_step
            progress.advance(1000 // steps)
    return stream.getvalue().splitlines()


def test_plain_lines_come_every_tenth() -> None:
    printed = run(1.0)
    assert printed[0] == " Expectation iteration 3: 1,000 particles"
    assert printed[1] == " Expectation iteration 3:  10 %, 10 particles/s, 90 s left"
    assert printed[-2] == " Expectation iteration 3:  90 %, 10 particles/s, 10 s left"
    assert printed[-1] == " Expectation iteration 3: 1,000 particles in 1:40 min (10 particles/s)"
    assert len(printed) == 11


def test_quick_steps_print_no_tenths() -> None:
    assert len(run(0.001)) == 2


def test_slow_steps_print_between_tenths() -> None:
    printed = run(30.0, every_s=60.0)
    assert len(printed) > 40
    assert "  2 %" in printed[1]


def test_rate_and_time_left() -> None:
    clock = Clock()
    progress = Progress("E", 400, shown=False, clock=clock)
    assert progress.left_s == float("inf")
    clock.now += 10
    progress.update(100)
    assert progress.rate == pytest.approx(10)
    assert progress.left_s == pytest.approx(30)
    progress.update(50)
    assert progress.done == 100  # messages may come late; counts never fall
    progress.update(9999)
    assert progress.done == 400


def test_hidden_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("E", 10, shown=False) as progress:
        progress.advance(10)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_and_a_last_line() -> None:
    stream = Terminal()
    with Progress("Expectation iteration 1", 50, stream=stream) as progress:
        progress.advance(25)
        progress.advance(25)
    text = stream.getvalue()
    assert "50/50" in text
    assert "50 particles in" in text.splitlines()[-1]


def test_no_particles_is_no_error() -> None:
    stream = io.StringIO()
    with Progress("E", 0, stream=stream) as progress:
        progress.update(0)
    assert "0 particles" in stream.getvalue()


def test_a_failed_step_has_no_closing_line() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError), Progress("E", 10, stream=stream):
        raise ValueError
    assert stream.getvalue().count("\n") == 1
