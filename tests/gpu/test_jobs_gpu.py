"""Whole iterations of each job on a device beside the same on processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.config.simulate import SimulateConfig
from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.outputs import OutputNames
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg
from mpiapp.testing.simulate import simulate

ITERATIONS = 3
COMMON = "--particle_diameter 144 --offset_range 3 --offset_step 1 --random_seed 1"
MAPS = f"--ini_high 20 --healpix_order 1 {COMMON}"
JOBS = {
    "refine3d": f"refine3d {MAPS} --auto_iter_max {ITERATIONS}",
    "class3d": f"class3d {MAPS} --K 2 --iter {ITERATIONS}",
    "class2d": f"class2d --psi_step 15 {COMMON} --K 3 --iter {ITERATIONS}",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(
        SimulateConfig(
            output=str(folder),
            n_particles=80,
            box=(32,),
            pixel_size_A=(6.0,),
            snr=4.0,
            low_pass_A=20.0,
            seed=3,
        )
    )
    return folder


@pytest.mark.parametrize("name", JOBS)
def test_iterations_are_those_of_processors(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poses, curves and maps after three iterations; near ties of two poses may fall either way."""
    monkeypatch.chdir(data)
    states = []
    for where, more in (("cpu", []), ("gpu", ["--gpu", "--precision", "single"])):
        words = [*JOBS[name].split(), "--i", str(data / "particles.star"), *more]
        if name != "class2d":
            words += ["--ref", str(data / "reference_class001.mrc")]
        assert main([*words, "--o", f"{tmp_path}/{where}/run"]) == 0
        states.append(load_checkpoint(OutputNames(f"{tmp_path}/{where}/run").checkpoint(ITERATIONS))[0])
    one, two = states
    p, q = one["poses"], two["poses"]
    turn = geodesic_deg(*(euler_to_matrix(x["rot_deg"], x["tilt_deg"], x["psi_deg"]) for x in (p, q)))
    same = (turn < 0.01) & (np.abs(p["origin_A"] - q["origin_A"]).max(axis=1) < 0.01)
    same &= p["class_number"] == q["class_number"]
    assert same.mean() > 0.95
    assert np.abs(one["fsc"] - two["fsc"]).max() < 0.01
    for h in one["maps"]:
        a, b = (np.asarray(state["maps"][h], float) for state in states)
        assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)
