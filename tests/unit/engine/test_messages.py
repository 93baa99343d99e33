"""Lines of the log."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from mpiapp.engine.messages import SHOWN, class_accuracies


def test_accuracies_of_each_class_where_they_are_few() -> None:
    """Those too small to tell are left out; of many classes the best and the worst are told."""
    accuracy = np.array([[1.5, 2.0], [999.0, 999.0], [3.25, 0.5]])

    def lines(values: np.ndarray) -> list[str]:
        return class_accuracies(SimpleNamespace(accuracy=values))  # type: ignore[arg-type]

    assert lines(accuracy) == [" Expected accuracies, classes: 1: 1.5 degrees 2 A, 3: 3.25 degrees 0.5 A"]
    assert lines(np.repeat(accuracy, SHOWN, axis=0)) == [
        " Expected accuracy of the best class: 1.5 degrees, 0.5 A; of the worst: 3.25 degrees, 2 A"
    ]
    assert lines(accuracy[1:2]) == []
