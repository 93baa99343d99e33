"""Grids of directions, in-plane angles and offsets, against healpy, RELION's files and geometry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mpiapp.errors import ConfigError
from mpiapp.model import sampling
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg, matrix_to_euler, rotation_z
from mpiapp.model.symmetry import directions, point_group

# Number of directions in sampling files of RELION 3.1.3, by group and order.
RELION_COUNTS = {
    "C1": {0: 12, 2: 192, 3: 768}, "C2": {2: 96, 3: 384, 5: 6176}, "C3": {0: 3, 1: 14, 3: 248, 5: 4086},
    "C4": {2: 48, 4: 768}, "C7": {2: 24, 3: 106, 4: 427, 5: 1726}, "C12": {3: 58}, "D1": {0: 7, 5: 6208},
    "D2": {0: 4, 3: 192, 5: 3072}, "D3": {1: 8, 2: 33, 3: 129, 4: 503}, "D7": {2: 13, 3: 53, 4: 218, 5: 864},
    "T": {0: 1, 1: 3, 2: 14, 3: 59, 4: 250, 6: 4075}, "O": {0: 1, 1: 1, 2: 7, 3: 32, 4: 126, 5: 507, 6: 2037},
    "I1": {0: 1, 1: 1, 2: 3, 3: 12, 4: 49, 5: 199, 6: 807}, "I2": {2: 2, 3: 11, 4: 48, 6: 809},
    "I3": {2: 4, 3: 12, 4: 53, 5: 206}, "I4": {1: 1, 2: 2, 3: 11, 4: 48, 5: 196},
}  # fmt: skip


def read_directions(path: Path) -> np.ndarray:
    """(n, 2) rot and tilt of a RELION sampling file."""
    text = path.read_text().split("data_sampling_directions")[1]
    rows = re.findall(r"^\s*(-?[\d.]+)\s+(-?[\d.]+)\s*$", text, re.MULTILINE)
    if not rows:  # a single direction is written as a list
        rows = [re.findall(r"_rlnAngle(?:Rot|Tilt)\s+(-?[\d.]+)", text)]
    return np.array(rows, float)


@pytest.mark.parametrize("order", [0, 1, 3, 6])
def test_pixel_centres_are_those_of_healpy(order):
    healpy = pytest.importorskip("healpy")
    pixel = np.arange(12 * 4**order)
    rot, tilt = sampling.pixel_angles(order, pixel)
    assert np.abs(rot).max() <= 180
    expected = np.stack(healpy.pix2vec(2**order, pixel, nest=True), axis=-1)
    assert np.allclose(directions(rot, tilt), expected, atol=1e-12)
    assert np.allclose(euler_to_matrix(rot, tilt, 17.0)[:, 2], expected, atol=1e-12)


@pytest.mark.parametrize("order", [0, 2, 5, 8])
def test_pixel_radius_is_that_of_healpy(order):
    healpy = pytest.importorskip("healpy")
    assert sampling.pixel_radius_deg(order) == pytest.approx(
        np.rad2deg(healpy.max_pixrad(2**order)), rel=1e-10
    )


@pytest.mark.parametrize("group", RELION_COUNTS)
def test_numbers_of_directions_are_those_of_relion(group):
    for order, count in RELION_COUNTS[group].items():
        assert sampling.direction_grid(order, group).n_directions == count


def test_directions_of_a_real_relion_file(shared):
    expected = read_directions(shared / "data/star_files/starfile_run_it025_sampling_3D.star")
    grid = sampling.direction_grid(2, "C1")
    assert np.allclose(np.stack([grid.rot_deg, grid.tilt_deg], axis=-1), expected, atol=1e-5)
    assert grid.psi_step_deg == 15.0


@pytest.fixture(scope="module")
def tiny_relion_input(tmp_path_factory) -> Path:
    import mrcfile

    folder = tmp_path_factory.mktemp("relion_sampling")
    rng = np.random.default_rng(0)
    with mrcfile.new(folder / "s.mrcs") as mrc:
        mrc.set_data(rng.normal(size=(2, 16, 16)).astype(np.float32))
        mrc.voxel_size = 3
    with mrcfile.new(folder / "ref.mrc") as mrc:
        z, y, x = np.mgrid[-8:8, -8:8, -8:8]
        mrc.set_data(np.exp(-(x**2 + y**2 + z**2) / 18).astype(np.float32))
        mrc.voxel_size = 3
    optics = {
        "OpticsGroupName": "o", "OpticsGroup": 1, "ImagePixelSize": 3.0, "ImageSize": 16,
        "ImageDimensionality": 2, "Voltage": 300, "SphericalAberration": 2.7, "AmplitudeContrast": 0.1,
    }  # fmt: skip
    names = ["ImageName", "MicrographName", "OpticsGroup", "DefocusU", "DefocusV", "DefocusAngle"]
    rows = [f"{i}@s.mrcs m.mrc 1 10000 10000 0" for i in (1, 2)]
    loops = [
        ("optics", list(optics), [" ".join(str(v) for v in optics.values())]),
        ("particles", names, rows),
    ]
    text = "# version 30001\n"
    for block, labels, lines in loops:
        text += f"\ndata_{block}\n\nloop_\n" + "".join(f"_rln{x}\n" for x in labels) + "\n".join(lines) + "\n"
    (folder / "p.star").write_text(text)
    return folder


@pytest.mark.relion
@pytest.mark.parametrize(
    ("group", "order"),
    [("C1", 1), ("C3", 3), ("D1", 1), ("D3", 4), ("T", 3), ("O", 3), ("O", 5), ("I1", 4), ("I4", 4)],
)
def test_directions_are_those_relion_writes(group, order, relion, tiny_relion_input):
    command = (
        f"relion_refine --i p.star --ref ref.mrc --o ./x{group}{order} --iter 1 --sym {group} "
        f"--healpix_order {order} --psi_step 100 --oversampling 0 --particle_diameter 40 "
        "--offset_range 0.5 --offset_step 1 --random_seed 1 --dont_check_norm"
    )
    subprocess.run(
        [relion / command.split()[0], *command.split()[1:]], cwd=tiny_relion_input, check=True, timeout=60
    )
    path = tiny_relion_input / f"x{group}{order}_it001_sampling.star"
    expected = read_directions(path)
    grid = sampling.direction_grid(order, group, psi_step_deg=100.0)
    assert float(re.search(r"_rlnPsiStep\s+(\S+)", path.read_text())[1]) == pytest.approx(grid.psi_step_deg)
    assert grid.n_directions == len(expected)
    if group == "O":  # on the border one or the other mate
        mates = np.einsum("nx,jxy->njy", directions(*expected.T), point_group(group).operators)
        distance = cKDTree(mates.reshape(-1, 3)).query(directions(grid.rot_deg, grid.tilt_deg))[0]
        assert distance.max() < 1e-5
    else:
        assert np.allclose(np.stack([grid.rot_deg, grid.tilt_deg], axis=-1), expected, atol=1e-5)


@pytest.mark.parametrize("group", ["C1", "C3", "C4", "D2", "D7", "T", "O", "I1", "I2", "I3", "I4"])
@pytest.mark.parametrize("order", [3, 4])
def test_kept_directions_and_their_mates_cover_the_sphere_once(group, order):
    grid, symmetry = sampling.direction_grid(order, group), point_group(group)
    assert grid.n_directions * symmetry.order == pytest.approx(12 * 4**order, rel=0.15)
    mates = np.einsum("nx,jxy->njy", directions(grid.rot_deg, grid.tilt_deg), symmetry.operators).reshape(
        -1, 3
    )
    anywhere = Rotation.random(5000, rng=1).as_matrix()[:, 2]
    distance = np.rad2deg(2 * np.arcsin(0.5 * cKDTree(mates).query(anywhere)[0]))
    # Half a pixel is the largest distance of a point of a pixel from its centre. RELION's cut of pixels by
    # their centres leaves small gaps where the border crosses pixels: some percent at worst (I4, order 3).
    radius = sampling.pixel_radius_deg(order)
    assert distance.max() < 2 * radius
    assert (distance < radius).mean() > (0.97 if group.startswith("I") else 0.995)
    if group in ("C1", "C4", "D2", "C3", "T", "O"):
        assert distance.max() < radius


def test_grid_is_cached_and_read_only():
    grid = sampling.direction_grid(2, "d3")
    assert grid is sampling.direction_grid(2, "D3")
    with pytest.raises(ValueError, match="read-only"):
        grid.psi_deg[0] = 1.0


def test_in_plane_angles_fill_the_circle():
    grid = sampling.direction_grid(3, "C1")
    assert grid.psi_step_deg == grid.step_deg == sampling.angular_step_deg(3) == 7.5
    assert np.allclose(grid.psi_deg, np.arange(48) * 7.5)
    rounded = sampling.direction_grid(2, "C1", psi_step_deg=50.0)
    assert rounded.psi_deg.tolist() == [0, 45, 90, 135, 180, 225, 270, 315]
    assert sampling.direction_grid(1, "C1", psi_step_deg=360 / 7).n_psi == 7


@pytest.mark.parametrize(
    ("order", "group", "step", "words"),
    [
        (-1, "C1", None, "order -1"),
        (11, "C1", None, "0 to 10"),
        (0, "I2", None, "order 1"),
        (2, "C1", 0.0, "psi_step"),
    ],
)
def test_impossible_grids_are_refused(order, group, step, words):
    with pytest.raises(ConfigError, match=words):
        sampling.direction_grid(order, group, step)


@pytest.mark.parametrize("oversampling", [0, 1, 2])
def test_children_lie_in_their_pixel_and_share_it_out(oversampling):
    healpy = pytest.importorskip("healpy")
    parents = np.arange(12 * 4**2)
    children = sampling.child_pixels(parents, oversampling)
    assert children.shape == (parents.size, 4**oversampling)
    assert np.array_equal(np.sort(children.ravel()), np.arange(12 * 4 ** (2 + oversampling)))
    rot, tilt = sampling.pixel_angles(2 + oversampling, children)
    found = healpy.ang2pix(4, np.deg2rad(tilt), np.deg2rad(rot), nest=True)
    assert np.array_equal(found, np.broadcast_to(parents[:, None], found.shape))


def test_children_of_one_level_are_in_the_order_of_faces_x_inner():
    healpy = pytest.importorskip("healpy")
    children = sampling.child_pixels(np.arange(48), 1)
    x, y, _ = healpy.pix2xyf(4, children, nest=True)
    assert (x % 2).tolist() == [[0, 1, 0, 1]] * 48
    assert (y % 2).tolist() == [[0, 0, 1, 1]] * 48


@given(st.integers(0, 3), st.floats(0.1, 30.0))
def test_psi_children_of_neighbours_tile_the_circle(oversampling, step):
    psi = np.arange(5) * step
    children = sampling.child_psi(psi, step, oversampling)
    assert children.shape == (5, 2**oversampling)
    assert np.allclose(children.mean(axis=1), psi)
    assert np.allclose(np.diff(children.ravel()), step / 2**oversampling)


def test_fine_grid_reaches_every_orientation():
    """Children of all coarse samples leave no orientation further away than about a fine step."""
    grid = sampling.direction_grid(1, "C1")
    rot, tilt = sampling.pixel_angles(2, sampling.child_pixels(grid.pixel, 1).ravel())
    psi = sampling.child_psi(grid.psi_deg, grid.psi_step_deg, 1).ravel()
    samples = (rotation_z(psi)[None] @ sampling.direction_matrices(rot, tilt)[:, None]).reshape(-1, 9)
    anywhere = Rotation.random(500, rng=2).as_matrix()
    nearest = cKDTree(samples).query(anywhere.reshape(-1, 9))[1]
    assert geodesic_deg(samples[nearest].reshape(-1, 3, 3), anywhere).max() < sampling.angular_step_deg(2)


def test_perturbation_turns_every_sample_by_the_same_rotation_of_the_object(rng):
    rot, tilt = rng.uniform(-180, 180, 20), rng.uniform(0, 180, 20)
    turned = sampling.direction_matrices(rot, tilt, 2.0)
    plain = sampling.direction_matrices(rot, tilt)
    assert np.allclose(plain.transpose(0, 2, 1) @ turned, euler_to_matrix(2.0, 2.0, 2.0), atol=1e-12)
    assert np.allclose(matrix_to_euler(plain)[:2], (rot, tilt), atol=1e-9)


@pytest.mark.parametrize(
    ("range_A", "step_A", "count"), [(1.0, 1.0, 5), (2.0, 1.0, 13), (6.0, 2.0, 29), (0.0, 2.0, 1)]
)
def test_numbers_of_translations_are_those_of_relion(range_A, step_A, count):
    assert sampling.translations(range_A, step_A).shape == (count, 2)


@given(st.floats(0, 8), st.floats(0.5, 5))
def test_translations_are_the_lattice_points_in_the_disc_with_y_inner(range_A, step_A):
    lattice = sampling.translation_lattice(range_A, step_A)
    inside = [
        (ix, iy)
        for ix in range(-17, 18)
        for iy in range(-17, 18)
        if (ix * step_A) ** 2 + (iy * step_A) ** 2 < range_A**2 + 0.001
    ]
    assert lattice.tolist() == [list(point) for point in inside]
    assert np.array_equal(sampling.translations(range_A, step_A), lattice * step_A)


@pytest.mark.parametrize(("range_A", "step_A"), [(-1.0, 1.0), (3.0, 0.0), (3.0, float("nan"))])
def test_impossible_translation_grids_are_refused(range_A, step_A):
    with pytest.raises(ConfigError, match="offset_step"):
        sampling.translations(range_A, step_A)


def test_translation_children_are_cell_quarters_x_outer():
    children = sampling.child_translations([[2.0, -4.0]], 2.0, 1)
    assert children.tolist() == [[[1.5, -4.5], [1.5, -3.5], [2.5, -4.5], [2.5, -3.5]]]
    sixteen = sampling.child_translations(np.zeros((3, 2)), 2.0, 2)
    assert sixteen.shape == (3, 16, 2)
    assert np.unique(sixteen[0], axis=0).shape == (16, 2)
    assert np.abs(sixteen).max() == 0.75


def perturbations(seed: int, factor: float, n: int) -> np.ndarray:
    values = [0.0]
    for iteration in range(1, n + 1):
        values.append(sampling.next_perturbation(values[-1], seed, iteration, factor))
    return np.array(values)


def test_perturbation_moves_by_half_to_all_of_the_factor_and_fills_the_range():
    u = perturbations(seed=7, factor=0.5, n=4000)
    assert np.abs(u).max() <= 0.5
    moves = np.diff(u) % 1.0
    assert moves.min() >= 0.25 - 1e-12
    assert moves.max() <= 0.5 + 1e-12
    histogram = np.histogram(u[1:], bins=10, range=(-0.5, 0.5))[0]
    assert histogram == pytest.approx(np.full(10, 400), abs=100)


def test_perturbation_is_fixed_by_seed_and_iteration():
    assert np.array_equal(perturbations(3, 0.5, 5), perturbations(3, 0.5, 5))
    assert not np.array_equal(perturbations(3, 0.5, 5), perturbations(4, 0.5, 5))
    assert sampling.next_perturbation(0.0, 3, 1) != sampling.next_perturbation(0.0, 3, 2)
    assert sampling.next_perturbation(0.3, 3, 1, factor=0.0) == 0.0
