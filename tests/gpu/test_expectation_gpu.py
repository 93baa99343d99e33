"""The expectation step on a device against the float64 twins: searches, precisions, optics, bad images, batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from class_case import SEARCHES as CLASS_SEARCHES
from class_case import class_case
from gpu_case import Twin, errors_of, relative, run_gpu, twin_of
from kernel_case import Case, distorted, make_case, make_search, optics_model

from mpiapp.model.rotations import euler_to_matrix, geodesic_deg
from mpiapp.model.search import Search

SEARCHES = {
    "global": make_search(),
    "local": make_search(sigma_deg=8.0),
    "correlation": make_search(correlate=True),
}
# measured on small cases: what remains is the interpolation of turned images (see tests/kernels), and, in half
# precision, 0.01 nats in the scores
BOUNDS = {"half": 2e-2, "tf32": 2e-2, "single": 1e-2, "double": 1e-2}


@pytest.fixture(scope="module", params=list(SEARCHES))
def truth(request: pytest.FixtureRequest) -> tuple[Case, Search, Twin]:
    case = make_case([optics_model(), distorted()])
    search = SEARCHES[request.param]
    return case, search, twin_of(case, search)


@pytest.mark.parametrize("precision", list(BOUNDS))
def test_sums_and_poses(truth: tuple[Case, Search, Twin], precision: str) -> None:
    case, search, twin = truth
    sums, poses, bad = run_gpu(case, search, precision)
    assert not bad.any()
    found = euler_to_matrix(poses.rot_deg, poses.tilt_deg, poses.psi_deg)
    same = geodesic_deg(found, twin.best) < 0.01
    # near ties of the best state may fall either way
    assert same.sum() >= len(same) - 1, geodesic_deg(found, twin.best)
    if search.correlate:
        return
    errors = errors_of(sums, poses, twin, planar=False)
    assert max(errors.values()) < BOUNDS[precision], errors


CLASSES = {
    **CLASS_SEARCHES,
    "correlation": make_search(correlate=True),
    "limited scores": make_search(r_score=7),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name: str) -> None:
    """Two classes of maps or three of averages: searches of all kinds, priors of classes and of their offsets."""
    search = CLASSES[name]
    case = class_case(search)
    twin = twin_of(case, replace(search, r_max=search.r_score or search.r_max))
    sums, poses, _ = run_gpu(case, search, "half")
    np.testing.assert_array_equal(poses.class_number, twin.best_class)
    if search.r_score is not None:
        assert np.abs(poses.p_max - twin.p_max).max() < BOUNDS["half"]
        return
    if not search.correlate:
        errors = errors_of(sums, poses, twin, search.planar)
        assert max(errors.values()) < BOUNDS["half"], errors
    alone, same, _ = run_gpu(case, search, "half", batch=1)
    assert relative(alone.grid, sums.grid) < 1e-5
    np.testing.assert_allclose(alone.class_shift, sums.class_shift, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(same.pack(), poses.pack(), rtol=1e-4, atol=1e-4)


def test_batches_do_not_matter(truth: tuple[Case, Search, Twin]) -> None:
    """The same sums to 1e-5 with one image a batch and with all in one."""
    case, search, _ = truth
    whole, poses, _ = run_gpu(case, search, "half")
    single, alone, _ = run_gpu(case, search, "half", batch=1)
    assert relative(single.grid, whole.grid) < 1e-5
    np.testing.assert_allclose(alone.pack(), poses.pack(), rtol=1e-4, atol=1e-4)


def test_bad_image_is_set_aside() -> None:
    case = make_case([optics_model()])
    clean, _, _ = run_gpu(replace_rows(case, slice(1, None)), SEARCHES["global"], "half")
    case.images[0][0, 3, 4] = np.nan
    sums, poses, bad = run_gpu(case, SEARCHES["global"], "half")
    assert bad.tolist() == [True, False, False]
    assert relative(sums.grid, clean.grid) < 1e-5
    assert np.isfinite(poses.pack()[1:]).all()


def replace_rows(case: Case, rows: slice) -> Case:
    index = np.arange(len(case.data))[rows]
    return replace(case, data=case.data.take(index), poses=case.poses.take(index))


@pytest.mark.parametrize("memory", [2 << 30, 256 << 20, 96 << 20])
def test_little_memory_gives_the_same(truth: tuple[Case, Search, Twin], memory: int) -> None:
    """Batches that do not fit are halved until they do."""
    case, search, _ = truth
    whole, poses, _ = run_gpu(case, search, "half")
    capped, same, _ = run_gpu(case, search, "half", batch=6, memory=memory)
    assert relative(capped.grid, whole.grid) < 1e-5
    np.testing.assert_allclose(same.pack(), poses.pack(), rtol=1e-4, atol=1e-4)


def test_error_of_the_scores_is_measured() -> None:
    """The logged error of half precision is above that of single precision, and both are small."""
    from mpiapp.backend.gpu import GpuBackend

    case = make_case([optics_model(), distorted()])
    errors = []
    for precision in ("half", "tf32", "single"):
        backend = GpuBackend(0, precision)
        backend.expectation(
            case.setup, case.model, SEARCHES["global"], case.data, case.poses, case.read, lambda n: False
        )
        error = backend.take_score_error()
        assert error is not None
        errors.append(error)
    half, split, single = errors
    assert 1e-4 < half < 0.1, errors  # images of this case are clearer than most: their scores are larger
    assert split < half / 5, errors
    assert single < half / 5, errors
