"""What to say about the distribution of views."""

from __future__ import annotations

from mpiapp.model.orientation_quality import Coverage

POOR_FACTOR = 0.6


def orientation_warnings(found: Coverage) -> list[str]:
    """What to say when the views limit the map."""
    lines = []
    if found.empty > 0.01:
        lines.append(
            f"Preferred orientation: {100 * found.empty:.1f} % of the directions in Fourier space are in no view; the map "
            "is stretched along them. Collect tilted images or change the grid preparation."
        )
    elif found.factor < POOR_FACTOR:
        lines.append(
            f"Preferred orientation: views are so uneven that they leave {100 * found.factor:.0f} % of the signal-to-noise "
            "ratio; expect a resolution that differs by direction."
        )
    return lines
