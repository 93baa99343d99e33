"""Point groups against closed forms and RELION's own operators."""

from __future__ import annotations

import itertools
import re
import subprocess

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mpiapp.errors import ConfigError
from mpiapp.model.rotations import matrix_to_euler, rotation_z
from mpiapp.model.symmetry import directions, drop_seam_mates, in_asymmetric_unit, point_group

ORDERS = {
    "C1": 1, "C4": 4, "C17": 17, "D1": 2, "D2": 4, "D3": 6, "D7": 14, "T": 12, "O": 24,
    "I": 60, "I1": 60, "I2": 60, "I3": 60, "I4": 60,
}  # fmt: skip
GOLDEN = (1 + 5**0.5) / 2
FIVEFOLD_AXIS = {"I1": (GOLDEN, 0, -1), "I2": (1, 0, GOLDEN), "I3": (0, 0, 1), "I4": (2, 0, 1)}
TWOFOLD_AXIS = {"I1": (1, 0, 0), "I2": (0, 0, 1), "I3": (-1, 0, GOLDEN), "I4": (1, 0, GOLDEN)}
# RELION's third generator of each setting, which is not needed to generate the group here.
THREEFOLD_AXIS = {
    "I1": (0.9341723640, 0.3568220765, 0),
    "I2": (0, 0.356822076, 0.934172364),
    "I3": (-0.4911234778630044, 0.3568220764705179, 0.7946544753759428),
    "I4": (0.4911234778630044, 0.3568220764705179, 0.7946544753759428),
}


def contains(operators: np.ndarray, matrix: np.ndarray, tolerance: float = 1e-12) -> bool:
    return bool((np.abs(operators - matrix).max(axis=(1, 2)) < tolerance).any())


def turns_about(operators: np.ndarray, axis: tuple[float, float, float]) -> int:
    """Number of operators (identity included) that leave an axis in place."""
    unit = np.array(axis) / np.linalg.norm(axis)
    return int((np.abs(operators @ unit - unit).max(axis=1) < 1e-7).sum())


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_operators_form_a_group_of_rotations(name, order):
    group = point_group(name)
    operators = group.operators
    assert group.order == order
    assert np.array_equal(operators[0], np.eye(3))
    assert np.allclose(operators @ operators.transpose(0, 2, 1), np.eye(3), atol=1e-13)
    assert np.allclose(np.linalg.det(operators), 1)
    products = np.einsum("aij,bjk->abik", operators, operators).reshape(-1, 3, 3)
    distance = np.abs(products[:, None] - operators[None]).max(axis=(2, 3))
    assert distance.min(axis=1).max() < 1e-12
    assert (
        np.abs(operators[:, None] - operators + 9 * np.eye(order)[..., None, None]).max((2, 3)).min() > 0.01
    )


def test_cyclic_group_is_the_turns_about_z():
    operators = point_group("c5").operators
    assert all(contains(operators, r) for r in rotation_z(np.arange(5) * 72.0))


def test_dihedral_group_has_a_twofold_axis_along_x():
    assert contains(point_group("D3").operators, np.diag([1.0, -1.0, -1.0]))


def test_octahedral_group_is_the_signed_permutations():
    operators = point_group("O").operators
    count = 0
    for permutation, signs in itertools.product(
        itertools.permutations(range(3)), itertools.product((-1.0, 1.0), repeat=3)
    ):
        matrix = np.diag(signs)[list(permutation)]
        if np.linalg.det(matrix) > 0:
            count += 1
            assert contains(operators, matrix)
    assert count == 24


def test_tetrahedral_group_has_a_threefold_axis_along_z():
    operators = point_group("T").operators
    assert turns_about(operators, (0, 0, 1)) == 3
    assert turns_about(operators, (0, 2**0.5, 1)) == 2
    assert sorted(np.trace(operators, axis1=1, axis2=2).round(9)) == [-1] * 3 + [0] * 8 + [3]


@pytest.mark.parametrize("name", FIVEFOLD_AXIS)
def test_icosahedral_axes_of_each_setting(name):
    operators = point_group(name).operators
    assert turns_about(operators, FIVEFOLD_AXIS[name]) == 5
    assert turns_about(operators, TWOFOLD_AXIS[name]) == 2
    assert turns_about(operators, THREEFOLD_AXIS[name]) == 3


def test_names_ignore_case_and_the_plain_icosahedral_group_is_the_second():
    assert point_group("d7") is point_group("D7")
    assert np.array_equal(point_group("I").operators, point_group("I2").operators)


@pytest.mark.parametrize(
    "name", ["CI", "CS", "C3v", "C2H", "S4", "D2V", "D3H", "TD", "TH", "OH", "IH", "I3H"]
)
def test_groups_with_mirrors_are_refused_with_the_reason(name):
    with pytest.raises(ConfigError, match="mirror plane or an inversion"):
        point_group(name)


@pytest.mark.parametrize("name", ["", "C", "C0", "D", "D0", "I5", "X", "T2", "C1 C2", "O4", "C-1", "C1000"])
def test_unknown_names_are_refused_with_the_list(name):
    with pytest.raises(ConfigError, match=r"no such point group.*C1, C2.*I4"):
        point_group(name)


@pytest.mark.parametrize("name", ["C1", "C4", "C7", "D1", "D2", "D3", "D7", "T", "O", "I1", "I2", "I3", "I4"])
def test_asymmetric_unit_holds_one_mate_of_each_direction(name):
    group = point_group(name)
    views = Rotation.random(3000, rng=8).as_matrix()[:, 2]
    mates = np.einsum("nx,jxy->njy", views, group.operators)
    rot = np.rad2deg(np.arctan2(mates[..., 1], mates[..., 0]))
    tilt = np.rad2deg(np.arccos(mates[..., 2]))
    inside = in_asymmetric_unit(group, rot, tilt).sum(axis=1)
    # The digits of RELION's planes leave gaps and overlaps of some micro-radians.
    assert (inside == 1).mean() > 0.998
    assert inside.max() <= 2


@pytest.mark.parametrize("name", ["C2", "D3", "O"])
def test_seam_clean_up_leaves_one_of_each_set_of_mates(name, rng):
    group = point_group(name)
    rot, tilt = rng.uniform(-180, 180, 40), rng.uniform(0, 180, 40)
    mates = np.einsum("nx,jxy->njy", directions(rot, tilt), group.operators)[:, -1]
    rot = np.concatenate([rot, np.rad2deg(np.arctan2(mates[:, 1], mates[:, 0]))])
    tilt = np.concatenate([tilt, np.rad2deg(np.arccos(mates[:, 2]))])
    stays = drop_seam_mates(group, rot, tilt, 10.0)
    # The rule, one direction after the other.
    kept: list[np.ndarray] = []
    for view, stay in zip(directions(rot, tilt), stays, strict=True):
        nearest = max((np.max(group.operators @ view @ other) for other in kept), default=-1.0)
        assert stay == (np.rad2deg(np.arccos(min(nearest, 1.0))) >= 10.0)
        if stay:
            kept.append(view)
    assert 1 < len(kept) <= 40


def test_seam_clean_up_leaves_long_lists_alone(rng):
    rot, tilt = rng.uniform(-180, 180, 4000), rng.uniform(0, 180, 4000)
    assert drop_seam_mates(point_group("C2"), rot, tilt, 5.0).all()
    assert not drop_seam_mates(point_group("C2"), rot[1:], tilt[1:], 5.0).all()


@pytest.mark.relion
@pytest.mark.parametrize("name", ["C1", "C7", "D1", "D3", "D7", "T", "O", "I", "I1", "I2", "I3", "I4"])
def test_operators_and_their_angles_are_those_relion_prints(name, relion):
    text = subprocess.run(
        [relion / "relion_refine", "--print_symmetry_ops", "--sym", name],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    blocks = re.split(r"R\(\d+\)=", text)[1:]
    printed = np.array([[float(x) for x in re.split(r"Euler", b)[0].split()] for b in blocks]).reshape(
        -1, 3, 3
    )
    operators = point_group(name).operators
    assert printed.shape == operators.shape
    distance = np.abs(printed[:, None] - operators[None]).max(axis=(2, 3))
    assert distance.min(axis=1).max() < 2e-5
    assert sorted(distance.argmin(axis=1)) == list(range(len(operators)))
    for block, which in zip(blocks, distance.argmin(axis=1), strict=True):
        angles = re.search(r"Euler angles: (\S+) (\S+) (\S+)", block)
        if angles:
            difference = np.array(matrix_to_euler(operators[which])) - np.array(
                [float(x) for x in angles.groups()]
            )
            assert np.abs((difference + 180) % 360 - 180).max() < 0.01
