"""Whole iterations of each job on a device beside the same on processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpiapp.cli.main import main
from mpiapp.config.simulate import SimulateConfig
from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.mrc import read_map
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


def test_halves_that_take_turns_give_the_same_maps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The final iteration of a refinement by one process, with the sums of both halves on the device or one at a time."""
    monkeypatch.chdir(data)
    begin = f"refine3d {MAPS} --sym C2 --auto_iter_max 1 --gpu --precision single --i {data}/particles.star"
    begin += f" --ref {data}/reference_class001.mrc --o {tmp_path}/begun/run"
    assert main(begin.split()) == 0
    found = []
    for where, share in (("both", 1.0), ("turns", 0.0)):
        monkeypatch.setattr("mpiapp.backend.memory.BESIDE_SHARE", share)
        end = f"refine3d --continue {tmp_path}/begun/run_it001_optimiser.star --force_converge"
        assert main([*end.split(), "--o", f"{tmp_path}/{where}/run"]) == 0
        names = ("run_class001.mrc", "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc")
        found.append([read_map(tmp_path / where / name)[0] for name in names])
    for one, two in zip(*found, strict=True):
        assert np.abs(one - two).max() < 1e-4 * np.abs(one).max()
