"""The precision of scores follows their error, at all ranks alike."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mpiapp.backend.score_precision import ScorePrecision
from mpiapp.engine.job import Job
from mpiapp.report import log


def test_steps_up_while_errors_are_large() -> None:
    watched = ScorePrecision("auto")
    assert [watched.name, watched.take()] == ["half", None]
    watched.add(np.array([0.03, -0.03]))
    watched.add(np.array([]))
    assert watched.take() == pytest.approx(0.03)
    assert watched.take() is None
    assert watched.judge(0.05) == [" Scores in half precision: r.m.s. error 0.050 nats against double"]
    assert watched.name == "half"
    for better in ("tf32", "single"):
        assert watched.judge(0.051)[1] == f" Scores are computed in {better} precision from now on"
        assert watched.name == better
    assert len(watched.judge(9.0)) == 1  # there is nothing better


def test_an_error_that_is_no_number_steps_up() -> None:
    watched = ScorePrecision("auto")
    watched.judge(float("nan"))
    assert watched.name == "tf32"


@pytest.mark.parametrize("precision", ["half", "tf32", "single", "double"])
def test_a_given_precision_stays(precision: str) -> None:
    watched = ScorePrecision(precision)
    watched.judge(1.0)
    assert watched.name == precision


@pytest.mark.parametrize(("errors", "expected"), [([0.01, 0.2, None], 0.2), ([None, None], None)])
def test_ranks_choose_by_the_largest_error(
    errors: list[float | None], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rank of the first error takes a better precision for that of the second; the leader, which has none, tells."""
    judged: list[float] = []
    said: list[str] = []
    monkeypatch.setattr(log, "emit", said.extend)

    def judge(error: float) -> list[str]:
        judged.append(error)
        return ["a line"]

    backend = SimpleNamespace(take_score_error=lambda: errors[0], judge_precision=judge)
    gathered = iter([errors, [[], ["a line"]]])
    team = SimpleNamespace(allgather=lambda mine: next(gathered), is_leader=True)
    job = SimpleNamespace(team=team, backend=backend, score_error=0.0)
    Job._judge_precision(job)  # type: ignore[arg-type]
    assert job.score_error == expected
    assert judged == ([] if expected is None else [expected])
    assert said == ([] if expected is None else ["a line"])
