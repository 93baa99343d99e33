"""Every kernel on the small cases of the self-test."""

from __future__ import annotations

import pytest

from mpiapp.backend.gpu_selftest_images import IMAGE_FAMILIES
from mpiapp.backend.gpu_selftest_scores import SCORE_FAMILIES
from mpiapp.backend.gpu_selftest_sums import SUM_FAMILIES

FAMILIES = {**IMAGE_FAMILIES, **SCORE_FAMILIES, **SUM_FAMILIES}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_kernels_of(family: str) -> None:
    from mpiapp.backend.gpu_kernels import make_kernels

    outcomes = list(FAMILIES[family](make_kernels()))
    wrong = [outcome for outcome in outcomes if not outcome.error <= outcome.limit]
    assert not wrong


def test_no_kernel_is_left_out() -> None:
    from mpiapp.backend.gpu_selftest import self_test

    told: dict[str, str] = {}
    assert self_test(told.__setitem__), told
    assert len(told) > 30
