"""RELION itself continues a run from the files that we write."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mpiapp.io.mrc import read_map, write_map, write_stack
from mpiapp.io.outputs import OutputNames
from mpiapp.io.relion_files import (
    ClassRecord,
    ModelRecord,
    OptimiserRecord,
    SamplingRecord,
    noise_of_groups,
    read_model,
    write_model,
    write_optimiser,
    write_sampling,
)
from mpiapp.io.star import read_star, write_star

BOX, PIXEL_A, N_PARTICLES, NOISE = 32, 4.0, 40, 1.0
ITERATION, HEALPIX_ORDER = 3, 2
N_SHELLS = BOX // 2 + 1
SIGMA_PX = 1.7  # of the blobs that the phantom is made of


@pytest.mark.relion
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_relion_continues_our_run(tmp_path: Path, relion: Path, rng: np.random.Generator) -> None:
    """The last iteration by RELION, from our STAR files and maps, finds poses, noise and map.

    The phantom is a sum of Gaussians, whose projections are known in closed form. The poses in data.star are
    left at zero, so that what RELION finds comes from our maps, noise spectra and sampling alone.
    """
    if not shutil.which("mpirun"):
        pytest.skip("mpirun is not installed")
    blobs = rng.uniform(-7, 7, size=(14, 3))
    weights = rng.uniform(0.5, 1.5, size=14)
    truth = _write_particles(tmp_path, blobs, weights, rng)
    _write_run(tmp_path, _phantom(blobs, weights))

    _run_relion(tmp_path)

    found = read_star(tmp_path / "job/final_data.star")["particles"]
    angles = np.stack([found[f"rlnAngle{name}"] for name in ("Rot", "Tilt", "Psi")], axis=1)
    error_deg = _angle_between(_rotations(np.radians(angles)), truth["rotation"])
    offset = np.stack([found["rlnOriginXAngst"], found["rlnOriginYAngst"]], axis=1) / PIXEL_A
    assert np.median(error_deg) < 6.0
    assert np.median(np.linalg.norm(offset - truth["offset"], axis=1)) < 0.7

    model = read_model(tmp_path / "job/final_model.star")
    expected = NOISE**2 / (2 * BOX**2)
    assert model.group_sigma2_noise.shape == (2, N_SHELLS)
    # High shells only: there is little signal in them, so they are noise whatever the poses are.
    np.testing.assert_allclose(model.group_sigma2_noise[:, 10:].mean(axis=1), expected, rtol=0.15)
    assert model.group_names == ["mic1.mrc", "mic2.mrc"]

    density, pixel = read_map(tmp_path / "job/final_class001.mrc")
    assert pixel == pytest.approx(PIXEL_A)
    assert np.corrcoef(density.ravel(), _phantom(blobs, weights).ravel())[0, 1] > 0.9


def _run_relion(folder: Path) -> None:
    """One iteration: ``--force_converge`` goes on with the final one at once."""
    command = ["mpirun", "--oversubscribe", "-n", "3", "relion_refine_mpi", "--continue"]
    command += [str(_names().optimiser(ITERATION)), "--o", "job/final", "--force_converge"]
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


def _names() -> OutputNames:
    return OutputNames("job/run")


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Matrices A = Rz(psi) Ry(tilt) Rz(rot) of (n, 3) angles in radians."""
    rot, tilt, psi = angles.T
    return _about_z(psi) @ _about_y(tilt) @ _about_z(rot)


def _about_z(angle: np.ndarray) -> np.ndarray:
    c, s, o, i = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, s, o, -s, c, o, o, o, i], axis=1).reshape(-1, 3, 3)


def _about_y(angle: np.ndarray) -> np.ndarray:
    c, s, o, i = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, o, -s, o, i, o, s, o, c], axis=1).reshape(-1, 3, 3)


def _angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    trace = np.einsum("nij,nij->n", a, b)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def _phantom(blobs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of Gaussians at (x, y, z) in pixels from the centre, as (z, y, x) float32."""
    x = np.arange(BOX) - BOX // 2
    gauss = np.exp(-((x[None, None, :] - blobs[:, :, None]) ** 2) / (2 * SIGMA_PX**2))
    return np.einsum("b,bz,by,bx->zyx", weights, gauss[:, 2], gauss[:, 1], gauss[:, 0]).astype(np.float32)


def _write_particles(
    folder: Path, blobs: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Projections with noise, two micrographs with an optics group each; all poses left at zero."""
    angles = np.radians(rng.uniform([-180, 0, -180], [180, 180, 180], size=(N_PARTICLES, 3)))
    rotation, offset = _rotations(angles), rng.uniform(-2, 2, size=(N_PARTICLES, 2))
    seen = np.einsum("nij,bj->nbi", rotation, blobs)[:, :, :2] - offset[:, None]
    x = np.arange(BOX) - BOX // 2
    gauss = np.exp(-((x - seen[..., None]) ** 2) / (2 * SIGMA_PX**2))
    images = np.einsum("b,nby,nbx->nyx", weights, gauss[:, :, 1], gauss[:, :, 0])
    images *= np.sqrt(2 * np.pi) * SIGMA_PX  # the integral along z
    images += rng.normal(scale=NOISE, size=images.shape)

    (folder / "job").mkdir()
    write_stack(folder / "particles.mrcs", images.astype(np.float32), PIXEL_A)
    group = np.arange(N_PARTICLES) // (N_PARTICLES // 2) + 1
    zero, number = np.zeros(N_PARTICLES), np.arange(1, N_PARTICLES + 1)
    particles = pd.DataFrame(
        {
            "rlnImageName": [f"{i:06d}@particles.mrcs" for i in number],
            "rlnMicrographName": [f"mic{i}.mrc" for i in group],
            "rlnOpticsGroup": group,
            "rlnGroupNumber": group,
            **{f"rlnAngle{name}": zero for name in ("Rot", "Tilt", "Psi")},
            **{f"rlnOrigin{name}Angst": zero for name in "XY"},
            "rlnClassNumber": np.ones(N_PARTICLES, dtype=int),
            "rlnNormCorrection": np.ones(N_PARTICLES),
            "rlnRandomSubset": number % 2 + 1,
        }
    )
    optics = pd.DataFrame(
        {
            "rlnOpticsGroupName": ["opticsGroup1", "opticsGroup2"],
            "rlnOpticsGroup": [1, 2],
            "rlnVoltage": 300.0,
            "rlnSphericalAberration": 2.7,
            "rlnAmplitudeContrast": 0.1,
            "rlnImagePixelSize": PIXEL_A,
            "rlnImageSize": BOX,
            "rlnImageDimensionality": 2,
        }
    )
    write_star(folder / _names().data(ITERATION), {"optics": optics, "particles": particles})
    return {"rotation": rotation, "offset": offset}


def _write_run(folder: Path, density: np.ndarray) -> None:
    """Everything else that an iteration leaves, as a run would have it at 10 A resolution."""
    import healpix

    names = _names()
    theta, phi = healpix.pix2ang(2**HEALPIX_ORDER, np.arange(12 * 4**HEALPIX_ORDER), nest=True)
    noise = np.full((2, N_SHELLS), NOISE**2 / (2 * BOX**2))
    resolved = np.arange(N_SHELLS) < 12
    for half in (1, 2):
        write_map(folder / names.half_map(ITERATION, half), density, PIXEL_A)
        one = ClassRecord(
            map_path=names.half_map(ITERATION, half),
            data_vs_prior=np.where(resolved, 50.0, 0.1),
            fsc=np.where(resolved, 0.95, 0.05),
            completeness=np.ones(N_SHELLS),
            sigma2=np.full(N_SHELLS, 1e-6),
            tau2=np.full(N_SHELLS, 1e-4),
            orientability=np.zeros(N_SHELLS),
            orientation_distribution=np.full(len(theta), 1 / len(theta)),
            resolution_A=BOX * PIXEL_A / 11,
            accuracy_rot_deg=5.0,
            accuracy_trans_A=2.0,
            overall_completeness=1.0,
        )
        record = ModelRecord(
            box=BOX,
            pixel_size_A=PIXEL_A,
            current_size=28,
            current_resolution_A=one.resolution_A,
            classes=[one],
            sigma2_noise=noise,
            group_names=["mic1.mrc", "mic2.mrc"],
            group_sizes=np.full(2, N_PARTICLES // 4),
            group_scales=np.ones(2),
            group_sigma2_noise=noise_of_groups(noise, np.array([0, 1])),
            average_pmax=0.8,
        )
        write_model(folder / names.model(ITERATION, half), record)
    write_sampling(
        folder / names.sampling(ITERATION),
        SamplingRecord(
            healpix_order=HEALPIX_ORDER,
            psi_step_deg=15.0,
            offset_range_A=12.0,
            offset_step_A=4.0,
            rot_deg=np.degrees(phi),
            tilt_deg=np.degrees(theta),
        ),
    )
    state = OptimiserRecord(
        root=names.root,
        model_star=str(names.model(ITERATION, 1)),
        model_star_2=str(names.model(ITERATION, 2)),
        data_star=str(names.data(ITERATION)),
        sampling_star=str(names.sampling(ITERATION)),
        iteration=ITERATION,
        particle_diameter_A=100.0,
        random_seed=7,
        accuracy_rot_deg=5.0,
        accuracy_trans_A=2.0,
        ctf_correction=False,
        zero_mask=False,  # noise around the particle stays, so that its power is known
        has_high_fsc_at_limit=True,
    )
    write_optimiser(folder / names.optimiser(ITERATION), state, comment="test")
