"""A protein that does not exist: helices packed into domains, chiral, without symmetry of its own.

Residues lie on right-handed alpha helices (1.5 A rise, 100 degrees a residue), helices about 10 A apart on a
distorted hexagonal lattice inside spherical domains of different sizes, and domains are placed at random. The
map therefore has the features one looks for: handedness, domains at 20 A, rods below 9 A, and the density of
a protein (about 130 cubic angstroms a residue). A point group is made by copying the molecule with the
group's rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpiapp.errors import ConfigError
from mpiapp.testing.points import PointModel, density

HELIX_SPACING_A = 10.0
HELIX_RISE_A = 1.5
HELIX_TURN_DEG = 100.0
BACKBONE_RADIUS_A = 2.3
SIDE_CHAIN_RADIUS_A = 4.8
# electrons of N, CA, C and O, and half of an average side chain (its other half is too mobile to be seen)
BACKBONE_WEIGHT = 27.0
SIDE_CHAIN_WEIGHT = 12.0
# domain radii as fractions of the radius of the molecule: about a third of its sphere is filled
_DOMAIN_RADII = (0.45, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23)
_MAX_HELIX_A = 40.0
_PHANTOM = 7001


@dataclass(frozen=True)
class _Domain:
    centre_A: NDArray[np.float64]
    radius_A: float


def protein_phantom(
    diameter_A: float = 140.0,
    seed: int = 0,
    operators: NDArray[np.float64] | None = None,
    variant: int = 0,
) -> PointModel:
    """A protein-like phantom that fits in a sphere.

    Parameters
    ----------
    diameter_A : diameter of the particle, at least 60 A
    seed : every seed is another protein
    operators : (g, 3, 3) float64, rotations of a point group, the identity among them (none: C1)
    variant : 0 is the whole molecule; variant v lacks its domain number v (the largest is number 0)

    Returns
    -------
    PointModel

    Raises
    ------
    ConfigError
        The diameter is too small, or the variant does not exist.
    """
    if diameter_A < 60.0:
        raise ConfigError(
            f"phantom of {diameter_A:g} A: too small to hold domains; give --diameter of at least 60"
        )
    if not 0 <= variant < len(_DOMAIN_RADII):
        raise ConfigError(
            f"phantom variant {variant}: there are {len(_DOMAIN_RADII)}, from 0; ask for fewer classes"
        )
    rng = np.random.default_rng([seed, _PHANTOM])
    group = np.eye(3)[None] if operators is None else np.asarray(operators, dtype=np.float64)
    envelope = _place_unit(diameter_A / 2 - SIDE_CHAIN_RADIUS_A, group, rng)
    domains = _place_domains(envelope, rng)
    parts = [_fill_domain(domain, rng) for domain in domains]
    if variant:
        del parts[variant]
    positions = np.concatenate([p for p, _ in parts])
    weights = np.concatenate([w for _, w in parts])
    model = PointModel(positions, weights, np.zeros(len(weights), np.int64))
    return model.replicated(group)


def phantom_map(
    box: int,
    pixel_size_A: float,
    diameter_A: float | None = None,
    seed: int = 0,
    operators: NDArray[np.float64] | None = None,
    bfactor_A2: float = 100.0,
    variant: int = 0,
) -> NDArray[np.float32]:
    """Density map of :func:`protein_phantom`, (box, box, box) float32; diameter: 0.75 of the box."""
    diameter = 0.75 * box * pixel_size_A if diameter_A is None else diameter_A
    return density(protein_phantom(diameter, seed, operators, variant), box, pixel_size_A, bfactor_A2)


def _place_unit(radius_A: float, group: NDArray[np.float64], rng: np.random.Generator) -> _Domain:
    """Sphere of the asymmetric unit: the whole particle in C1, else where its copies touch each other."""
    if len(group) == 1:
        return _Domain(np.zeros(3), radius_A)
    trial = _random_directions(400, rng)
    copies = np.einsum("gij,nj->gni", group, trial)
    distance = np.sqrt(((copies[:, None] - copies[None]) ** 2).sum(axis=-1))
    distance[np.arange(len(group)), np.arange(len(group))] = np.inf
    nearest = distance.min(axis=(0, 1))
    best = int(nearest.argmax())
    # copies at distance (R - r) d of each other, wanted at 1.6 r: they interlock a little
    unit = radius_A * nearest[best] / (1.6 + nearest[best])
    return _Domain((radius_A - unit) * trial[best], float(unit))


def _random_directions(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    vectors = rng.standard_normal((n, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _place_domains(envelope: _Domain, rng: np.random.Generator, tries: int = 300) -> list[_Domain]:
    """Domains inside the envelope, each against its surface, where it overlaps least with those before."""
    placed: list[_Domain] = []
    for fraction in _DOMAIN_RADII:
        radius = fraction * envelope.radius_A
        # not all of them to the rim, or every phantom is hollow
        depth = rng.uniform(0.8, 1.0, tries)
        centres = _random_directions(tries, rng) * ((envelope.radius_A - radius) * depth)[:, None]
        overlap = np.zeros(tries)
        apart = np.zeros(tries)
        for other in placed:
            separation = np.linalg.norm(centres - other.centre_A, axis=1) / (radius + other.radius_A)
            overlap = np.maximum(overlap, 0.97 - separation)
            apart = (
                np.maximum(apart, separation - 1.1)
                if other is placed[0]
                else np.minimum(apart, separation - 1.1)
            )
        # touching beats overlapping, and overlapping beats floating free
        best = int((2.0 * np.maximum(overlap, 0) + np.maximum(apart, 0)).argmin())
        placed.append(_Domain(centres[best], radius))
    return [_Domain(d.centre_A + envelope.centre_A, d.radius_A) for d in placed]


def _fill_domain(
    domain: _Domain, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Helices on a hexagonal lattice inside a domain: positions (n, 3) in A and weights (n,)."""
    frame = _random_frame(rng)
    steps = np.arange(-12, 13) * HELIX_SPACING_A
    i, j = np.meshgrid(steps, steps)
    lattice = np.stack([i + 0.5 * j, np.sqrt(0.75) * j], axis=-1).reshape(-1, 2)
    # a perfect lattice would be a crystal, with its power in one peak
    lattice = lattice + rng.uniform(-5, 5, 2) + rng.normal(0, 1.3, lattice.shape)
    rho = np.linalg.norm(lattice, axis=1)
    lattice = lattice[rho < domain.radius_A - 2.0]
    positions, weights = [], []
    for k, (x, y) in enumerate(lattice):
        reach = np.sqrt(domain.radius_A**2 - x * x - y * y)
        low, high = -reach * rng.uniform(0.7, 1.0), reach * rng.uniform(0.7, 1.0)
        high = min(high, low + _MAX_HELIX_A)
        if high - low < 7.0:
            continue
        atoms = _helix(high - low, rng.uniform(0, 2 * np.pi))
        if k % 2:
            # neighbours run antiparallel: half a turn about x keeps the hand
            atoms = atoms * np.array([1.0, -1.0, -1.0]) + np.array([0.0, 0.0, high - low])
        lean = _small_rotation(rng.normal(0, 9.0, 2))
        atoms = (atoms - [0, 0, (high - low) / 2]) @ lean.T + [x, y, (high + low) / 2]
        positions.append(atoms)
        weights.append(np.tile([BACKBONE_WEIGHT, SIDE_CHAIN_WEIGHT], len(atoms) // 2))
    if not positions:
        return np.zeros((0, 3)), np.zeros(0)
    return np.concatenate(positions) @ frame.T + domain.centre_A, np.concatenate(weights)


def _helix(length_A: float, phase: float) -> NDArray[np.float64]:
    """Right-handed alpha helix along z from 0: backbone and side-chain points in turn, (2 n, 3) in A."""
    residues = np.arange(int(length_A / HELIX_RISE_A) + 1)
    angle = np.deg2rad(HELIX_TURN_DEG) * residues + phase
    # a radius a little inside 10 A / 2: side chains of neighbours interlock
    points = [
        np.stack([r * np.cos(angle), r * np.sin(angle), HELIX_RISE_A * residues], axis=1)
        for r in (BACKBONE_RADIUS_A, SIDE_CHAIN_RADIUS_A)
    ]
    return np.stack(points, axis=1).reshape(-1, 3)


def _small_rotation(lean_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation about x, then about y, by two angles in degrees."""
    a, b = np.deg2rad(lean_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return np.asarray(about_y @ about_x)


def _random_frame(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random proper rotation, (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.sign(np.linalg.det(q)))
