"""Which precision scores are computed in, as their error is watched (engine.md 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# r.m.s. error of log weights, in nats, beyond which the next iteration takes a better precision
LARGEST_ERROR = 0.05
BETTER = {"half": "tf32", "tf32": "single", "single": "single", "double": "double"}


class ScorePrecision:
    """The precision of a rank: as given, or, with "auto", the first of half, tf32 and single whose errors are small.

    All ranks are told the largest error of any, so they take a better precision together, between iterations.
    """

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.name = "half" if wanted == "auto" else wanted
        self._errors: list[NDArray[np.float64]] = []

    def add(self, errors: NDArray[np.float64]) -> None:
        """Differences of a sample of scores from their values in double precision, nats."""
        if errors.size:
            self._errors.append(errors)

    def take(self) -> float | None:
        """R.m.s. error of what was added since the last call, nats; None for nothing."""
        errors, self._errors = self._errors, []
        return float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) if errors else None

    def judge(self, error: float) -> list[str]:
        """Choose the precision of the next iteration, given the largest error of all ranks; lines for the log."""
        lines = [f" Scores in {self.name} precision: r.m.s. error {error:.3f} nats against double"]
        # an error that is not a number is none to go on with
        if self.wanted == "auto" and not error <= LARGEST_ERROR and BETTER[self.name] != self.name:
            self.name = BETTER[self.name]
            lines.append(f" Scores are computed in {self.name} precision from now on")
        return lines
