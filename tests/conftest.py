"""Shared fixtures: where the optional reference data lie, quiet seeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed: every test draws the same numbers."""
    return np.random.default_rng(20260701)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("reference data (../shared) are not here")
    return SHARED


@pytest.fixture(scope="session")
def relion() -> Path:
    """Folder of RELION's programs; the test is skipped where they are not installed."""
    found = shutil.which("relion_refine")
    if not found:
        pytest.skip("RELION is not installed")
    return Path(found).parent
