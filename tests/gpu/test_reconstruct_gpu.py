"""Reconstruction from known poses on a device against that on processors: sums, whole jobs, memory that ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_case import relative
from kernel_case import BOX, Case, distorted, make_case, optics_model

from mpiapp.backend.base import ImageOptions
from mpiapp.backend.cpu import CpuBackend
from mpiapp.backend.gpu_memory import free_unused
from mpiapp.cli.main import main
from mpiapp.config.simulate import SimulateConfig
from mpiapp.engine import reconstruct
from mpiapp.engine.reconstruct import finish
from mpiapp.errors import DeviceError
from mpiapp.io.mrc import read_map
from mpiapp.io.star import read_star, write_star
from mpiapp.model.fsc import fsc
from mpiapp.model.symmetry import point_group
from mpiapp.testing.simulate import simulate

pytestmark = pytest.mark.gpu
N = 101
OPTIONS = {
    "no CTF": ImageOptions(False),
    "CTF": ImageOptions(True),
    "corners": ImageOptions(True, corners=True),
    "phase-flipped": ImageOptions(True, phase_flipped=True),
    "phases only": ImageOptions(True, only_flip_phases=True),
    "intact first peak": ImageOptions(True, intact_first_peak=True),
}


@pytest.fixture(scope="module")
def case() -> Case:
    """Images of two boxes, with every distortion, premultiplied or not; one of them is not finite."""
    case = make_case([optics_model(), distorted(), distorted(premultiplied=True)], per_group=7)
    case.images[1][3, 5, 5] = np.nan
    return case


def sums(backend: Any, case: Case, options: ImageOptions, r_max: int = BOX // 2) -> tuple[np.ndarray, int]:
    """Sums of a case in host memory, the images weighted, and how many of them were left out."""
    weights, done = np.linspace(0.5, 1.5, len(case.data)), []
    grid, bad = backend.back_project(
        case.setup, r_max, case.data, case.poses, case.read, options, weights=weights, step=done.append
    )
    assert sum(done) == len(case.data)
    return np.asarray(grid if isinstance(grid, np.ndarray) else grid.get())[..., :3].astype(float), bad


def device(batch: int = 0, memory: int = 0) -> Any:
    from mpiapp.backend.gpu import GpuBackend

    return GpuBackend(0, "single", memory, batch)


@pytest.mark.parametrize("batch", [0, 4])
@pytest.mark.parametrize("name", list(OPTIONS))
def test_sums(case: Case, name: str, batch: int) -> None:
    expected, expected_bad = sums(CpuBackend(1), case, OPTIONS[name])
    found, bad = sums(device(batch), case, OPTIONS[name])
    assert (bad, expected_bad) == (1, 1)
    assert np.abs(expected).max() > 0
    assert relative(found[..., :2], expected[..., :2]) < 1e-5
    assert relative(found[..., 2], expected[..., 2]) < 1e-5


def test_sums_of_low_frequencies(case: Case) -> None:
    expected, _ = sums(CpuBackend(1), case, OPTIONS["CTF"], 6)
    found, _ = sums(device(), case, OPTIONS["CTF"], 6)
    assert found.shape == expected.shape
    assert relative(found, expected) < 1e-5


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STAR file of an odd number of noisy particles in two optics groups with beam tilt and in two halves."""
    folder = tmp_path_factory.mktemp("particles")
    config = SimulateConfig(
        output=str(folder), n_particles=N, box=(32,), pixel_size_A=(3.0,), snr=0.5, seed=8,
        voltage_kV=(300.0, 200.0), beam_tilt_mrad=(0.5, -0.3), per_micrograph=50,
    )  # fmt: skip
    blocks = read_star(simulate(config).truth_star)
    blocks["particles"]["rlnRandomSubset"] = 1 + np.arange(N) % 2
    blocks["particles"]["rlnParticleFigureOfMerit"] = np.linspace(0.2, 1.5, N)
    write_star(folder / "particles.star", blocks)
    return folder / "particles.star"


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--ctf",
        "--ctf --sym C4",
        "--ctf --maxres 9 --subset 1",
        "--ctf --fom_weighting --angpix 3.5 --pad 1",
        "--ctf --keep_corners --angular_error 1 --shift_error 2",
        "--ctf --only_flip_phases --class 1",
    ],
)
def test_jobs(particles: Path, tmp_path: Path, flags: str) -> None:
    for name, more in (("cpu", []), ("gpu", ["--gpu"])):
        words = ["--i", str(particles), *flags.split(), *more, "--o", f"{tmp_path}/{name}.mrc"]
        assert main(["reconstruct", *words]) == 0
    one, two = (read_map(tmp_path / f"{name}.mrc")[0].astype(float) for name in ("cpu", "gpu"))
    assert np.abs(two - one).max() < 1e-4 * np.sqrt((one**2).mean())
    curve = fsc(one, two)
    # nothing but rounding lies beyond --maxres
    last = 32 * 3 // 9 if "--maxres" in flags else len(one) // 2
    assert curve[1 : last + 1].min() > 0.9999


def test_refused_before_work_where_the_sums_do_not_fit(case: Case) -> None:
    def read(*_: object) -> None:
        raise AssertionError("images were read")

    import cupy

    small = device(memory=1 << 20)
    try:
        with pytest.raises(DeviceError, match=r"the sums of a reconstruction .* it takes about .* by plan"):
            small.back_project(case.setup, BOX // 2, case.data, case.poses, read, OPTIONS["CTF"])
    finally:
        cupy.get_default_memory_pool().set_limit(size=0)


def test_batches_are_halved_or_the_message_is_clear(case: Case) -> None:
    """From plenty of memory down to none: the same sums, then smaller batches, then one clear message."""
    import cupy

    pool = cupy.get_default_memory_pool()
    expected, _ = sums(CpuBackend(1), case, OPTIONS["CTF"])
    outcomes, messages = [], []
    for room in np.geomspace(64 << 20, 16 << 10, 12).astype(int):
        backend = device()
        free_unused(cupy)
        pool.set_limit(size=pool.used_bytes() + int(room))
        try:
            found, _ = sums(backend, case, OPTIONS["CTF"])
        except DeviceError as fault:
            messages.append(str(fault))
            outcomes.append(False)
        else:
            assert relative(found, expected) < 1e-5
            outcomes.append(True)
        finally:
            pool.set_limit(size=0)
            backend.pool.shutdown()  # or its threads would give back memory while the next one runs
    assert outcomes[0]
    assert not outcomes[-1]
    assert all("GPU memory does not suffice for" in message for message in messages), messages


def test_a_batch_that_does_not_fit_is_halved(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch of more than two images runs out of memory; the sums are the same, each image counted once."""
    from cupy.cuda.memory import OutOfMemoryError

    from mpiapp.backend import gpu_insertion

    prepare, sizes = gpu_insertion._prepare, []

    def short_of_memory(backend: Any, source: Any, data: Any, raw: Any) -> Any:
        sizes.append(len(data))
        if sizes[-1] > 2:
            raise OutOfMemoryError(1 << 30, 0)
        return prepare(backend, source, data, raw)

    monkeypatch.setattr(gpu_insertion, "_prepare", short_of_memory)
    found, bad = sums(device(), case, OPTIONS["CTF"])
    expected, _ = sums(CpuBackend(1), case, OPTIONS["CTF"])
    assert max(sizes) > 2
    assert bad == 1
    assert relative(found, expected) < 1e-5


@pytest.mark.parametrize("group", ["C1", "C4"])
def test_a_map_that_does_not_fit_is_made_on_processors(
    case: Case, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cupy.cuda.memory import OutOfMemoryError

    setup, backend = replace(case.setup, group=point_group(group)), device()

    def grid_of(backend: Any) -> Any:
        return backend.back_project(case.setup, BOX // 2, case.data, case.poses, case.read, OPTIONS["CTF"])[0]

    expected = finish(CpuBackend(1), grid_of(CpuBackend(1)), setup, 1)
    there = finish(backend, grid_of(backend), setup, 1)
    divide = reconstruct.wiener

    def short_of_memory(sums: Any, *rest: Any, **options: Any) -> Any:
        if type(sums) is not np.ndarray:
            raise OutOfMemoryError(1 << 30, 0)
        return divide(sums, *rest, **options)

    said: list[str] = []
    monkeypatch.setattr(reconstruct, "wiener", short_of_memory)
    monkeypatch.setattr(reconstruct.log, "warn", said.append)
    here = finish(backend, grid_of(backend), setup, 1)
    assert "made from its sums on processors" in "".join(said)
    for found in (there, here):
        assert np.abs(found - expected).max() < 1e-4 * np.sqrt((expected.astype(float) ** 2).mean())
