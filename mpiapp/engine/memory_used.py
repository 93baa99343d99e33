"""Memory that this process took."""

from __future__ import annotations

import resource
import sys

MAXRSS_PER_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10


def peak_memory_MiB() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MIB
