"""What the log of a job tells that its other files do not: warnings, times, memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_WARNING = re.compile(r"^\S+ \S+ WARNING: (.*)$")
_FIGURE = re.compile(r"^\S+ \S+ +\+ ([^:]+): +(.*)$")


@dataclass(frozen=True)
class JobLog:
    """Warnings of a job, and its figures: what stands before the colon of lines that begin with + -> what follows."""

    warnings: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)


def read_log(path: Path, needed: str) -> JobLog:
    """Read the log of a job; an empty one where it is not there or is of a job of another kind.

    Parameters
    ----------
    needed : figure that jobs of this kind tell: others with the same output root write to the same file
    """
    if not path.is_file():
        return JobLog()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    figures = {found[1]: found[2] for line in lines if (found := _FIGURE.match(line))}
    if needed not in figures:
        return JobLog()
    return JobLog([found[1] for line in lines if (found := _WARNING.match(line))], figures)
