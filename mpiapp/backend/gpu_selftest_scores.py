"""Self-test of the kernels that score and select: a small scene of groups and states, and the equations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mpiapp.backend.gpu_coarse import TILE
from mpiapp.backend.gpu_kernels import Kernels
from mpiapp.backend.gpu_select import BINS
from mpiapp.backend.gpu_selftest import Family, Outcome, compare, worst
from mpiapp.backend.gpu_selftest_images import KINDS, coefficients, optics_table, random_complex
from mpiapp.model.ctf import ctf
from mpiapp.model.interpolation import sample_plane, window_polynomials
from mpiapp.model.pixels import pixel_list
from mpiapp.model.posterior import significance_threshold
from mpiapp.model.projection import slice_volume

F64 = NDArray[np.float64]
CUTOFF = 25.0  # nats below the best that the histogram reaches
PRODUCTS = (
    ("half", "half", 1e-3),
    ("float", "Split", 1e-5),
    ("float", "float", 1e-5),
    ("double", "double", 1e-5),
)


class Scene:
    """Two images at in-plane angles, with lists of directions and shifts that need several tiles of a product.

    A parent group stands for 2 angles; a direction for 4 rows of the table, a shift for 4 shifts.
    """

    family = (2, 4, 4)
    n_dir, n_trans, pitch, radius = 12, 9, 128, 8

    def __init__(self, kernels: Kernels) -> None:
        rng = self.rng = np.random.default_rng(11)
        self.kernels, self.put = kernels, kernels.cupy.asarray
        self.pixels = pixel_list(self.radius)
        self.n_pix = len(self.pixels)
        self.q = np.zeros((2, self.pitch))
        self.q[:, : self.n_pix] = self.pixels.kx, self.pixels.ky
        self.table, self.optics = optics_table()
        self.group = np.array([1, 0], np.int32)
        self.psi = np.array([0.2, 0.5, 2.0, 2.3])
        self.shift_A = rng.uniform(-9, 9, (self.n_trans * 4, 2)).astype(np.float32).astype(float)
        self.n_d, self.n_t = np.array([3, 10], np.int32), np.array([2, 9], np.int32)
        self.d_start, self.t_start = np.array([0, 3], np.int32), np.array([0, 2], np.int32)
        self.directions = np.r_[rng.permutation(12)[:3], rng.permutation(12)[:10]].astype(np.int32)
        self.shifts = np.r_[5, 1, rng.permutation(9)].astype(np.int32)
        self.image_of, self.psi_of = np.array([0, 0, 1, 1], np.int32), np.array([2, 3, 0, 1], np.int32)
        self.rows = self.directions * np.int32(4)
        self.matrices = Rotation.random(48, random_state=1).as_matrix().astype(np.float32).astype(float)
        self.reference = random_complex(rng, 48, self.pitch)
        self.base = random_complex(rng, 4, self.pitch)
        self.power = rng.uniform(0.1, 1, (4, self.pitch)).astype(np.float32)
        self.base[:, self.n_pix :] = self.power[:, self.n_pix :] = 0
        sizes = np.repeat(self.n_d * self.n_t, 2) * 16
        self.out_start = np.r_[0, np.cumsum(sizes)].astype(np.int64)

    def small(self, *arrays: Any) -> list[Any]:
        """Arrays on the device in single precision."""
        return [self.put(np.asarray(a, np.float32)) for a in arrays]

    def reference_as(self, kind: Any) -> NDArray[Any]:
        """Table of the slices as it is stored."""
        return np.stack([self.reference.real, self.reference.imag]).astype(kind)

    def states(self, g: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the table and numbers of the shifts of a group, in the order of its scores."""
        parent = g // 2
        listed = self.d_start[parent] + np.arange(self.n_d[parent])
        row = (self.rows[listed][:, None] + np.arange(4)).ravel()
        number = self.shifts[self.t_start[parent] + np.arange(self.n_t[parent])]
        return row, (number[:, None] * 4 + np.arange(4)).ravel()

    def phases(self, g: int, number: NDArray[np.int64]) -> NDArray[np.complex128]:
        """exp(-2 pi i k.t) of some shifts at the pixels of a turned image: (n, pitch)."""
        o = self.group[self.image_of[g]]
        c, s = np.cos(self.psi[self.psi_of[g]]), np.sin(self.psi[self.psi_of[g]])
        turn = self.table["turn"][o].reshape(2, 2) @ np.array([[c, s], [-s, c]])
        cycles = self.shift_A[number] @ (turn @ self.q) * self.table["cycles"][o]
        return np.asarray(np.exp(-2j * np.pi * cycles))


def scoring(kernels: Kernels) -> Iterator[Outcome]:
    """Scores of groups: with priors of pairs, some of them not accepted; and as correlations."""
    scene, cupy = Scene(kernels), kernels.cupy
    put, rng = scene.put, scene.rng
    prior = rng.normal(size=int((scene.n_d * scene.n_t).sum())).astype(np.float32)
    prior[::5] = -np.inf
    prior_start = np.array([0, scene.n_d[0] * scene.n_t[0]], np.int64)
    row_prior, log_shift = rng.normal(size=13), rng.normal(size=(2, scene.n_trans))
    tiles = (-(-scene.n_d * 4 // TILE)) * (-(-scene.n_t * 4 // TILE))
    tile_start = np.r_[0, np.cumsum(np.repeat(tiles, 2))].astype(np.int64)
    lists = [put(a) for a in (scene.d_start, scene.n_d, scene.t_start, scene.n_t, scene.rows, scene.shifts)]
    for kind, product, limit in PRODUCTS:
        table, name = scene.reference_as(KINDS[kind]), f"grouped_scores<{kind}, {product}>"
        results = []
        for correlate, n_score in ((False, scene.n_pix), (True, 77)):
            scores = cupy.empty(int(scene.out_start[-1]), np.float32)
            arguments = (
                put(tile_start), 4, *scene.family, put(scene.image_of), put(scene.psi_of), put(scene.out_start), *lists,
                put(table), np.int64(48), scene.pitch, n_score, put(scene.base), put(scene.power), put(scene.group),
                put(scene.optics), *scene.small(np.cos(scene.psi), np.sin(scene.psi), scene.shift_A), scene.n_trans,
                *scene.small(*scene.q), *((None, None) if correlate else (put(prior), put(prior_start))),
                *scene.small(row_prior, log_shift), correlate, scores,
            )  # fmt: skip
            kernels.launch("fine.cu", name, (int(tile_start[-1]),), arguments, block=128)
            expected = _scores(scene, table.astype(float), n_score, None if correlate else prior, prior_start)
            found, possible = scores.get(), np.isfinite(expected)
            results.append(compare(name, found[possible], expected[possible], limit))
            results.append(compare(name, found < -1e38, ~possible, 0.0))
        yield worst(results)


def _scores(scene: Scene, table: F64, n_score: int, prior: Any, prior_start: NDArray[np.int64]) -> F64:
    """Log weights of all states by the first pixels, or correlations where there is no prior."""
    out = []
    for g in range(4):
        row, number = scene.states(g)
        p = (table[0, row] + 1j * table[1, row])[:, :n_score]
        moved = (scene.base[g] * scene.phases(g, number))[:, :n_score]
        product = (p.conj() @ moved.T).real
        h = (np.abs(p) ** 2 @ scene.power[g, :n_score])[:, None]
        if prior is None:
            out.append(product / np.sqrt(h))
            continue
        n_d, n_t = scene.n_d[g // 2], scene.n_t[g // 2]
        of_pair = prior[prior_start[g // 2] :][: n_d * n_t].reshape(n_d, n_t)
        out.append(product - h / 2 + np.repeat(np.repeat(of_pair, 4, 0), 4, 1))
    return np.concatenate([value.ravel() for value in out])


def selecting(kernels: Kernels) -> Iterator[Outcome]:
    """Halves combined; best score, histogram, threshold and accepted states of segments of different length."""
    cupy, rng = kernels.cupy, np.random.default_rng(12)
    put = cupy.asarray
    yield _halves(kernels, rng)
    start, n = np.array([0, 3000, 3001, 3700], np.int64), 3
    scores = (3 * rng.normal(size=3700)).astype(np.float32)
    on_device = (put(scores), put(start))
    parts = np.split(scores, start[1:-1])
    best = cupy.zeros(n, np.uint64)
    kernels.launch("select.cu", "segment_best", (2, n), (*on_device, best))
    position = 0xFFFFFFFF - (best.get() & np.uint64(0xFFFFFFFF)).astype(np.int64)
    yield compare("segment_best", position, [part.argmax() for part in parts], 0.0)
    weight_of, number_of = cupy.zeros((n, BINS), np.float32), cupy.zeros((n, BINS), np.int32)
    kernels.launch("select.cu", "segment_histogram", (2, n), (*on_device, best, weight_of, number_of))
    below = [part.max() - part for part in parts]
    bins = [np.minimum((b * np.float32(BINS / CUTOFF)).astype(int), BINS - 1)[b < CUTOFF] for b in below]
    weights = [np.exp(-b[b < CUTOFF].astype(float)) for b in below]
    number = np.stack([np.bincount(b, None, BINS) for b in bins])
    weight = np.stack([np.bincount(b, w, BINS) for b, w in zip(bins, weights, strict=True)])
    yield worst([compare("segment_histogram", number_of, number, 0.0),
                 compare("segment_histogram", weight_of, weight, 1e-5)])  # fmt: skip
    last, count = cupy.empty(n, np.int32), cupy.empty(n, np.int64)
    total, top, place = cupy.empty(n, np.float64), cupy.empty(n, np.float32), cupy.empty(n, np.int64)
    arguments = (put(weight.astype(np.float32)), put(number.astype(np.int32)), best, 0.99, 0, False, last, count, total,
                 top, place)  # fmt: skip
    kernels.launch("select.cu", "segment_threshold", (n,), arguments)
    reached = np.cumsum(weight, 1) / weight.sum(1, keepdims=True) > 0.99
    until = reached.argmax(1)
    yield worst([compare("segment_threshold", last, until, 0.0),
                 compare("segment_threshold", count, np.cumsum(number, 1)[np.arange(n), until], 0.0),
                 compare("segment_threshold", place, position, 0.0),
                 compare("segment_threshold", top, [part.max() for part in parts], 0.0),
                 compare("segment_threshold", total, weight.sum(1), 1e-6)])  # fmt: skip
    cursor = put((np.cumsum(count.get()) - count.get()).astype(np.uint64))
    found = cupy.empty(int(count.get().sum()), np.int64)
    kernels.launch("select.cu", "segment_fill", (2, n), (*on_device, top, last, cursor, found))
    yield _filled(found.get(), parts, start)


def _filled(found: NDArray[np.int64], parts: list[NDArray[np.float32]], start: NDArray[np.int64]) -> Outcome:
    """How many states are missing or accepted without right: all that the exact threshold accepts, and a bin more."""
    wrong = found.size - np.unique(found).size
    for first, part in zip(start, parts, strict=False):
        mine = np.zeros(part.size, bool)
        mine[found[(found >= first) & (found < first + part.size)] - first] = True
        threshold = significance_threshold(part.astype(float), 0.99)
        wrong += (~mine & (part >= threshold)).sum() + (
            mine & (part < threshold - 1.01 * CUTOFF / BINS)
        ).sum()
    return Outcome("segment_fill", float(wrong), 0.0)


def _halves(kernels: Kernels, rng: np.random.Generator) -> Outcome:
    """Scores at an angle and half a turn on, from products of real and imaginary parts; two classes of 35 directions."""
    n, n_psi, n_trans, per_class = 2, 3, 4, 35
    n_dir, own = 2 * per_class, np.array([1, 0], np.int32)
    products = rng.normal(size=(n, 2, n_psi, n_trans, n_dir)).astype(np.float32)
    power = rng.uniform(1, 2, (n, n_psi, n_dir)).astype(np.float32)
    log_direction = rng.normal(size=n_dir).astype(np.float32)
    results, put = [], kernels.cupy.asarray
    even, odd = products[:, 0].astype(float), products[:, 1].astype(float)
    both, h = np.stack([even + odd, even - odd], 1), power[:, None, :, None, :].astype(float)
    for correlate, n_centre, only in ((False, 1, None), (True, 1, None), (False, 2, own)):
        log_shift = rng.normal(size=(n, n_centre, n_trans)).astype(np.float32)
        scores = put(products)
        arguments = (scores, put(power), put(log_direction), put(log_shift), n_dir, per_class, n_centre, n_psi, n_trans,
                     None if only is None else put(only), correlate)  # fmt: skip
        kernels.launch("select.cu", "combine_halves", (1, n_psi * n_trans // 2, n), arguments)
        of_row = np.repeat(log_shift[:, [0, n_centre - 1]], per_class, axis=1).swapaxes(1, 2)[:, None, None]
        expected = both / np.sqrt(h) if correlate else both + log_direction + of_row - h / 2
        found = scores.get()
        allowed = np.ones(found.shape, bool)
        if only is not None:
            allowed[:] = (np.arange(n_dir) // per_class == only[:, None])[:, None, None, None]
        results.append(compare("combine_halves", found[allowed], expected[allowed], 1e-5))
        results.append(compare("combine_halves", found < -1e38, ~allowed, 0.0))
    return worst(results)


def checking(kernels: Kernels) -> Iterator[Outcome]:
    """The scores that the check of precision takes for the truth, of maps and of class averages."""
    scene, cupy, n = Scene(kernels), kernels.cupy, 6
    put, rng, plane_radius, radius, padding = scene.put, scene.rng, 21, 17, 2.0
    image, psi = np.array([0, 1, 1, 0, 1, 0], np.int32), np.array([0, 1, 2, 3, 3, 2], np.int32)
    of_class = np.array([0, 1, 0, 1, 1, 0], np.int32)
    shift, matrices = scene.shift_A[:n], scene.matrices[:n]
    planes, curves, scale = random_complex(rng, 2, 43, 24), coefficients(rng, 2), np.array([0.9, 1.1])
    weight, even = rng.uniform(1, 2, (2, scene.n_pix)), rng.normal(size=(2, 4, scene.n_pix))
    unit, q = 1 / 72, scene.q[:, : scene.n_pix]
    volumes, averages = random_complex(rng, 2, 35, 35, 18), random_complex(rng, 2, 35, 18)
    on_whole = averages[:, q[1].astype(int) + radius, q[0].astype(int)]
    results = []
    for planar, references in ((False, volumes), (True, averages)):
        scores = cupy.empty(n, np.float64)
        arguments = (
            put(image), put(psi), *scene.small(shift, matrices.reshape(n, 9)), put(of_class), put(references),
            np.int64(references[0].size), planar, radius, padding, put(planes), np.int64(planes[0].size), plane_radius,
            *scene.small(curves, scale), put(scene.group), put(scene.optics), *scene.small(weight), scene.n_pix,
            *scene.small(even), 4, *scene.small(np.cos(scene.psi), np.sin(scene.psi), *q), unit,
            put(window_polynomials().ravel()), scene.n_pix, scores,
        )  # fmt: skip
        kernels.launch("check.cu", "exact_scores", (n,), arguments)
        expected = []
        for e, (i, j, k) in enumerate(zip(image, psi, of_class, strict=True)):
            o, c, s = scene.group[i], np.cos(scene.psi[j]), np.sin(scene.psi[j])
            own = np.array([[c, s], [-s, c]]) @ q
            at = scene.table["turn"][o].reshape(2, 2) @ own
            f = ctf(own[0] * unit, own[1] * unit, curves[i : i + 1], even_gamma=even[o, j], dtype=np.float64)[
                0
            ]
            f = scale[i] * (f**2 if scene.table["premultiplied"][o] else f)
            moved = sample_plane(planes[i], *at) * np.exp(
                -2j * np.pi * shift[e] @ at * scene.table["cycles"][o]
            )
            section = on_whole[k] if planar else slice_volume(volumes[k], padding, matrices[e : e + 1], *q)[0]
            p = f * section
            expected.append((weight[o] * ((p.conj() * moved).real - np.abs(p) ** 2 / 2)).sum())
        results.append(compare("exact_scores", scores, expected, 1e-5))
    yield worst(results)


SCORE_FAMILIES: dict[str, Family] = {
    "scores of groups": scoring,
    "selection": selecting,
    "check of scores": checking,
}
