"""Self-test of the kernels that sum over accepted states: decoding, sums by shell, back-projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.gpu_back_projection import ENTRY
from mpiapp.backend.gpu_kernels import Kernels, blocks
from mpiapp.backend.gpu_selftest import Family, Outcome, compare, worst
from mpiapp.backend.gpu_selftest_images import KINDS, coefficients, optics_table, random_complex
from mpiapp.backend.gpu_selftest_scores import Scene
from mpiapp.model.ctf import ctf
from mpiapp.model.projection import insert_slices

F64 = NDArray[np.float64]
PADDING = 2.0
RADIUS = 2 * Scene.radius + 2
# of the grid of a map and of that of a class average
SHAPES = ((2 * RADIUS + 1, 2 * RADIUS + 1, RADIUS + 1, 4), (2 * RADIUS + 1, RADIUS + 1, 4))


def summing(kernels: Kernels) -> Iterator[Outcome]:
    """Accepted states decoded, sums of the reference by shell, back-projection both ways."""
    scene, cupy = Scene(kernels), kernels.cupy
    put, rng, total = scene.put, scene.rng, int(scene.out_start[-1])
    found = np.sort(rng.permutation(total)[:150]).astype(np.int64)
    scores, top = rng.normal(size=total).astype(np.float32), np.array([2.0, 3.0], np.float32)
    whole = np.array([5.0, 8.0])
    still, still_optics = optics_table()
    entries, orientation = cupy.empty((150, 8), np.float32), cupy.empty((150, 6), np.float32)
    listed, child, shift = (cupy.empty(150, np.int32) for _ in range(3))
    arguments: tuple[Any, ...] = (
        put(found), 150, put(scene.out_start), 4, *scene.family, put(scene.image_of), put(scene.psi_of),
        put(scene.d_start), put(scene.t_start), put(scene.n_t), put(scene.rows), put(scene.shifts), put(scores),
        put(top), put(whole), put(scene.group), put(scene.optics), put(still_optics),
        *scene.small(np.cos(scene.psi), np.sin(scene.psi), scene.shift_A, scene.matrices.reshape(-1, 9)), entries,
        orientation, listed, child, shift,
    )  # fmt: skip
    kernels.launch("sums.cu", "decode_entries", (1,), arguments)
    state = _decoded(scene, found, scores, top, whole, still)
    got = np.ascontiguousarray(entries.get()).view(ENTRY)[:, 0]
    whole_numbers = [(got["row"], "row"), (got["base"], "base"), (got["image"], "image"), (shift.get(), "shift"),
                     (listed.get(), "listed"), (child.get(), "child")]  # fmt: skip
    results = [compare("decode_entries", a, state[name], 0.0) for a, name in whole_numbers]
    results += [
        compare("decode_entries", got[name], state[name], 1e-5) for name in ("weight", "turned", "still")
    ]
    yield worst([*results, compare("decode_entries", orientation, state["orientation"], 1e-6)])
    exact = np.zeros(150, ENTRY)
    for name in ENTRY.names or ():
        exact[name] = state[name]
    start = np.searchsorted(state["image"], [0, 1, 2]).astype(np.int32)
    on_device = (put(start), put(exact.view(np.float32).reshape(150, 8)))
    yield from _reference_sums(scene, on_device, state)
    yield from _projections(scene, on_device, state, still, still_optics)


def _decoded(
    scene: Scene, found: Any, scores: Any, top: Any, whole: Any, still: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Entries of accepted states by the lists of their groups."""
    columns: dict[str, list[Any]] = {}
    for position in found:
        g = int(np.searchsorted(scene.out_start, position, side="right")) - 1
        row, number = scene.states(g)
        d, t = divmod(int(position - scene.out_start[g]), number.size)
        i, o = scene.image_of[g], scene.group[scene.image_of[g]]
        c, s = np.cos(scene.psi[scene.psi_of[g]]), np.sin(scene.psi[scene.psi_of[g]])
        turn, spin = scene.table["turn"][o].reshape(2, 2), np.array([[c, s], [-s, c]])
        values = {
            "row": row[d], "base": g, "image": i, "shift": number[t], "listed": scene.d_start[g // 2] + d // 4,
            "child": d % 4 * 2 + g % 2, "weight": np.exp(scores[position] - float(top[i])) / whole[i],
            "turned": spin.T @ turn.T @ scene.shift_A[number[t]] * scene.table["cycles"][o],
            "still": scene.shift_A[number[t]] * still["cycles"][o],
            "orientation": (still["turn"][o].reshape(2, 2).T @ spin @ scene.matrices[row[d]][:2]).ravel(),
        }  # fmt: skip
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return {name: np.array(column) for name, column in columns.items()}


def _reference_sums(scene: Scene, on_device: Any, state: dict[str, NDArray[Any]]) -> Iterator[Outcome]:
    cupy, n_shell = scene.kernels.cupy, scene.radius + 1
    for kind, dtype in KINDS.items():
        table, name = scene.reference_as(dtype), f"reference_sums<{kind}>"
        cross, square = (cupy.zeros((2, n_shell), np.float32) for _ in range(2))
        shell = scene.pixels.shell.astype(np.int32)
        arguments = (*on_device, scene.put(table), np.int64(48), scene.pitch, scene.put(scene.base), scene.put(scene.power),
                     *scene.small(*scene.q), scene.put(shell), scene.n_pix, n_shell, cross, square)  # fmt: skip
        grid = (blocks(scene.n_pix, 128), 2)
        scene.kernels.launch("sums.cu", name, grid, arguments, block=128, shared=8 * (n_shell + 2))
        expected = np.zeros((2, 2, n_shell))
        for e, (row, g, i) in enumerate(zip(state["row"], state["base"], state["image"], strict=True)):
            p = table[0, row].astype(float) + 1j * table[1, row]
            moved = scene.base[g] * scene.phases(g, state["shift"][e : e + 1])[0]
            for k, value in enumerate(((p.conj() * moved).real, scene.power[g] * np.abs(p) ** 2)):
                by_shell = np.bincount(shell, value[: scene.n_pix], n_shell + 1)[:n_shell]
                expected[k, i] += state["weight"][e] * by_shell
        yield worst([compare(name, cross, expected[0], 1e-5), compare(name, square, expected[1], 1e-5)])


def _projections(
    scene: Scene, on_device: Any, state: dict[str, NDArray[Any]], still: NDArray[Any], optics: Any
) -> Iterator[Outcome]:
    """Every accepted state's image into the grids of two classes, of maps and of averages; and into slices."""
    cupy, put, rng, n = scene.kernels.cupy, scene.put, scene.rng, scene.n_pix
    rows, curves = random_complex(rng, 2, n), coefficients(rng, 2)
    scale, inverse = np.array([0.9, 1.1]), rng.uniform(1, 2, (2, n))
    k = scene.q[:, :n]
    place, s = np.stack([0.98 * k, 1.02 * k]), np.stack([k / 72, k / 60])
    of_class = rng.integers(0, 2, 48).astype(np.int32)
    number = rng.integers(0, 60, len(state["row"])).astype(np.int32)
    # states of one image and orientation come together, so they have one number
    number = number[
        np.unique(np.stack([state["row"], state["base"]]), axis=1, return_inverse=True)[1].ravel()
    ]
    expected = [np.zeros((2, *shape)) for shape in SHAPES]
    slices, in_slices = cupy.zeros((60, n, 4), np.float32), np.zeros((60, n, 4))
    for e, i in enumerate(state["image"]):
        o, w = scene.group[i], state["weight"][e]
        f = ctf(s[o, 0], s[o, 1], curves[i : i + 1], dtype=np.float64)[0]
        premultiplied = bool(still["premultiplied"][o])
        value = rows[i] * np.exp(-2j * np.pi * state["still"][e] @ k) * inverse[o] * w
        value = value if premultiplied else value * scale[i] * f
        power = scale[i] * f**2 * inverse[o] * w * (1.0 if premultiplied else scale[i])
        in_slices[number[e]] += _packed(value, power)
        for grid, inserted in zip(
            expected, _inserted(value, power, state["orientation"][e], place[o]), strict=True
        ):
            grid[of_class[state["row"][e]]] += inserted
    results = []
    first = (*on_device, put(state["orientation"].astype(np.float32)), put(rows),
             *scene.small(*k, place[:, 0], place[:, 1], s[:, 0], s[:, 1]), None, *scene.small(inverse), n,
             *scene.small(curves))  # fmt: skip
    last = (*scene.small(scale), put(scene.group), put(optics), put(of_class), RADIUS, PADDING)
    known = np.concatenate(
        [ctf(s[o, 0], s[o, 1], curve[None]) for o, curve in zip(scene.group, curves, strict=True)]
    )
    # the CTF computed by the kernel, and given
    for planar, contrasts, truth in zip((0, 1), (None, put(known)), expected, strict=True):
        grid = cupy.zeros(truth.shape, np.float32)
        arguments = (*first, contrasts, *last, planar, grid, None, None)
        scene.kernels.launch("sums.cu", "back_project", (blocks(n, 128), 2), arguments, block=128)
        results.append(compare("back_project", grid, truth, 1e-5))
    arguments = (*first, None, *last, 0, None, put(number), slices)
    scene.kernels.launch("sums.cu", "back_project", (blocks(n, 128), 2), arguments, block=128)
    yield worst([*results, compare("back_project", slices, in_slices, 1e-5)])
    yield _slices_inserted(scene, still, optics, place[0])


def _slices_inserted(scene: Scene, still: NDArray[Any], optics: Any, place: F64) -> Outcome:
    """Sums of orientations into the grids of two classes, of maps and of averages."""
    cupy, put, rng, n = scene.kernels.cupy, scene.put, scene.rng, scene.n_pix
    sums, power, psi = random_complex(rng, 6, n), rng.uniform(1, 2, (6, n)), scene.psi[:2]
    of_class, matrices, results = np.array([1, 0, 1], np.int32), scene.matrices[:3], []
    expected = [np.zeros((2, *shape)) for shape in SHAPES]
    for row in range(6):
        c, s = np.cos(psi[row % 2]), np.sin(psi[row % 2])
        turned = still["turn"][0].reshape(2, 2).T @ np.array([[c, s], [-s, c]]) @ matrices[row // 2][:2]
        for grid, inserted in zip(
            expected, _inserted(sums[row], power[row], turned.ravel(), place), strict=True
        ):
            grid[of_class[row // 2]] += inserted
    for planar, truth in enumerate(expected):
        grid = cupy.zeros(truth.shape, np.float32)
        arguments = (*scene.small(_packed(sums, power), matrices.reshape(3, 9), np.cos(psi), np.sin(psi)), 3, 2,
                     put(optics), *scene.small(*place), n, put(of_class), RADIUS, PADDING, planar, grid)  # fmt: skip
        scene.kernels.launch("sums.cu", "insert_slices", (blocks(n, 128), 4), arguments, block=128)
        results.append(compare("insert_slices", grid, truth, 1e-5))
    return worst(results)


def _packed(value: Any, power: Any) -> F64:
    """Sums as the kernels keep them: real, imaginary, weight, nothing."""
    return np.stack([value.real, value.imag, power, np.zeros_like(power)], -1)


def _inserted(value: Any, power: Any, rows: F64, at: F64) -> tuple[F64, F64]:
    """One slice in an empty grid of a map, and in one of an average, which has no z."""
    matrix = np.concatenate([rows, np.zeros(3)]).reshape(1, 3, 3)
    flat = matrix * np.array([1.0, 1.0, 0.0])
    grids = [
        _packed(*insert_slices(value[None], power[None], RADIUS, PADDING, m, *at)) for m in (matrix, flat)
    ]
    return grids[0], grids[1][RADIUS]


SUM_FAMILIES: dict[str, Family] = {"sums": summing}
