"""Phantoms: fit, hand, symmetry; atomic models and map operations."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from mpiapp.errors import ConfigError, InputError
from mpiapp.model.rotations import euler_to_matrix
from mpiapp.testing.atoms import read_model
from mpiapp.testing.maps import correlation, resample, resize, shell_correlation, symmetrise
from mpiapp.testing.objects import group_operators
from mpiapp.testing.phantoms import phantom_map, protein_phantom
from mpiapp.testing.points import density
from mpiapp.testing.projections import FourierSampler


@pytest.mark.parametrize("symmetry", ["C1", "C3", "D2", "T", "O", "I1"])
def test_phantom_fits_its_sphere_and_has_its_symmetry(symmetry):
    operators = group_operators(symmetry)
    model = protein_phantom(160.0, seed=2, operators=operators)
    assert 0.8 * 80 < model.radius_A <= 80.0
    volume = density(model, 40, 5.0, 300.0)
    _, likeness = symmetrise(volume, operators)
    assert likeness > 0.999
    # no more symmetry than asked for: a quarter turn about x is in none of these groups but O
    if symmetry != "O":
        turned = FourierSampler(volume).rotated(euler_to_matrix(90.0, 90.0, -90.0))
        assert correlation(turned, volume) < 0.9


def overlap(fixed: np.ndarray, turned: np.ndarray, sigma: float) -> np.ndarray:
    """Overlap integral of points (n, 3), blurred by Gaussians, with turned sets of points (r, n, 3)."""
    cross = np.einsum("ni,rmi->rnm", fixed, turned)
    squared = (fixed**2).sum(axis=1)[:, None] + (turned**2).sum(axis=2)[:, None, :] - 2 * cross
    return np.exp(-squared / (4 * sigma**2)).sum(axis=(1, 2))


@pytest.mark.parametrize(("hand", "least", "most"), [(-1.0, 0.5, 0.85), (1.0, 0.999, 1.001)])
def test_phantom_is_chiral_at_low_resolution(hand, least, most):
    """The best of all rotations brings the phantom on top of itself, but never its mirror image, at 20 A."""
    rng = np.random.default_rng(1)
    points = protein_phantom(140.0, seed=1).centred().positions_A
    points = points[rng.choice(len(points), 120, replace=False)]
    image = points * np.array([1.0, 1.0, hand])
    sigma = 6.0
    tilt = np.rad2deg(np.arccos(rng.uniform(-1, 1, 1500)))
    starts = euler_to_matrix(rng.uniform(-180, 180, 1500), tilt, rng.uniform(-180, 180, 1500))
    coarse = overlap(points, np.einsum("rij,nj->rni", starts, image), sigma)
    itself = overlap(points, points[None], sigma)[0]

    def refined(start: np.ndarray) -> float:
        def loss(vector: np.ndarray) -> float:
            turned = image @ (Rotation.from_rotvec(vector).as_matrix() @ start).T
            return -float(overlap(points, turned[None], sigma)[0])

        found = minimize(
            loss, np.zeros(3), method="Nelder-Mead", options={"initial_simplex": np.eye(4, 3) * 0.2}
        )
        return -float(found.fun)

    best = max(refined(starts[i]) for i in np.argsort(coarse)[-6:]) / itself
    assert least < best < most


def test_seeds_and_variants_differ():
    whole, other = phantom_map(40, 4.5, seed=1), phantom_map(40, 4.5, seed=2)
    lacking = phantom_map(40, 4.5, seed=1, variant=1)
    assert np.array_equal(whole, phantom_map(40, 4.5, seed=1))
    assert correlation(whole, other) < 0.7
    assert 0.7 < correlation(whole, lacking) < 0.97
    # a domain is missing, nothing else has moved
    assert (lacking - whole).max() < 0.1 * whole.max()


def test_impossible_phantoms_are_refused():
    with pytest.raises(ConfigError, match="too small"):
        protein_phantom(40.0)
    with pytest.raises(ConfigError, match="variant 99"):
        protein_phantom(140.0, variant=99)


PDB = """\
ATOM      1  CA  ALA A   1      10.000   0.000   0.000  1.00 20.00           C
ATOM      2  CA  ALA A   2      20.000   0.000   0.000  1.00 20.00           C
ATOM      3  HA  ALA A   2      90.000   0.000   0.000  1.00 20.00           H
HETATM    4  O   HOH A   3      90.000   0.000   0.000  1.00 20.00           O
END
"""


def test_atomic_model_is_read_and_centred(tmp_path):
    pytest.importorskip("gemmi")
    path = tmp_path / "two.pdb"
    path.write_text(PDB)
    model = read_model(path)
    assert np.allclose(model.positions_A, [[-5, 0, 0], [5, 0, 0]])
    # electron scattering factor of carbon at the origin: 2.51 A
    assert model.form_factors[0].at(np.zeros(1))[0] == pytest.approx(2.509, abs=0.005)
    volume = density(model, 24, 2.0, 100.0)
    assert volume.sum() * 2.0**3 == pytest.approx(2 * 2.509, rel=1e-3)
    z, y, x = np.unravel_index(volume.argmax(), volume.shape)
    assert (z, y) == (12, 12)
    assert x in (9, 10, 14, 15)


def test_bad_atomic_models_are_named(tmp_path):
    pytest.importorskip("gemmi")
    with pytest.raises(InputError, match=r"none\.pdb: no such file"):
        read_model(tmp_path / "none.pdb")
    empty = tmp_path / "empty.pdb"
    empty.write_text("REMARK nothing\nEND\n")
    with pytest.raises(InputError, match=r"empty\.pdb: holds no atoms"):
        read_model(empty)


def test_missing_gemmi_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(ConfigError, match=r"mpiapp\[models\]"):
        read_model(tmp_path / "any.pdb")


def test_resampling_keeps_density_and_place():
    fine = phantom_map(60, 3.0, diameter_A=120, seed=6, bfactor_A2=600)
    coarse = resample(fine, 3.0, 4.5)
    assert coarse.shape == (40, 40, 40)
    expected = phantom_map(40, 4.5, diameter_A=120, seed=6, bfactor_A2=600)
    assert correlation(coarse, expected) > 0.999
    assert np.abs(coarse - expected).max() < 0.06 * expected.max()


def test_resize_keeps_the_origin():
    volume = np.zeros((12, 16, 10), np.float32)
    volume[6 + 1, 8 - 2, 5 + 3] = 1.0
    for box in (14, 20):
        out = resize(volume, box)
        assert out.sum() == 1.0
        assert out[box // 2 + 1, box // 2 - 2, box // 2 + 3] == 1.0


def test_shell_correlation_of_independent_and_equal_maps(rng):
    a, b = rng.standard_normal((2, 24, 24, 24)).astype(np.float32)
    assert np.allclose(shell_correlation(a, a), 1.0)
    assert np.abs(shell_correlation(a, b)[3:]).max() < 0.2
    # half the power in common: FSC 1/2
    c = rng.standard_normal(a.shape).astype(np.float32)
    assert shell_correlation(a + c, b + c)[6:].mean() == pytest.approx(0.5, abs=0.03)
