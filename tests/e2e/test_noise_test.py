"""The noise test on a tiny data set: the second run sees noise only beyond the resolution asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from e2e_jobs import run

from mpiapp.io.mrc import read_map
from mpiapp.model.fourier import forward_2d, half_radius

pytestmark = pytest.mark.slow
FLAGS = "--randomize_at 20 --i data/particles.star --ref data/reference_class001.mrc --ini_high 40 --verb 0".split()


def test_a_finished_run_against_noise(converged: Path, data: Path) -> None:
    folder = converged.parent.parent
    more = (
        "--particle_diameter 140 --healpix_order 1 --auto_local_healpix_order 2 --random_seed 1 --o test/run"
    )
    ended = run(folder, ["noise_test", *FLAGS, *more.split(), "--original", "out/run"])
    assert ended.code == 0, ended
    written = {path.name for path in (folder / "test").iterdir()}
    assert {"run_noise_test.png", "run_noise_test.csv", "run_noise_particles.star"} <= written
    images, changed = (
        read_map(path)[0] for path in (data / "particles.mrcs", folder / "test/run_noise_particles_0001.mrcs")
    )
    before, after = forward_2d(images), forward_2d(changed)
    kept = half_radius(32, 2) < 32 * 6 / 20
    np.testing.assert_allclose(after[:, kept], before[:, kept], atol=1e-5)
    assert abs((before * after.conj()).real[:, ~kept].sum()) < 0.05 * (np.abs(before) ** 2)[:, ~kept].sum()
    rows = [line.split(",") for line in (folder / "test/run_noise_test.csv").read_text().splitlines()]
    noise = np.array([float(row[3]) for row in rows if row[0].startswith("noise beyond")])
    assert noise[:5].min() > 0.5  # what was not touched is found
    assert abs(noise[12:15].mean()) < 0.2


def test_an_unfinished_run_is_refused(project: Path) -> None:
    ended = run(project, ["noise_test", *FLAGS, "--o", "test/run", "--original", "none/run"])
    assert ended.code == 2
    assert "none/run_half1_class001_unfil.mrc: no such file" in ended.err
