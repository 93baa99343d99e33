"""Local resolution: FSC within a small soft sphere that moves through the map, corrected by random phases.

Cardone, Heymann and Steven, J. Struct. Biol. 184 (2013) 226. Around each point a window a little larger than the sphere
is cut out, so that its transforms are short. A window of L pixels has shells 1/(L a) apart, about as wide as what the
sphere blurs; the whole box has finer ones that are not independent. The crossing of the threshold is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mpiapp.model.arrays import module_of, to_host
from mpiapp.model.filters import lowpass_weight, shell_weights
from mpiapp.model.fourier import axis_frequencies
from mpiapp.model.fsc import correct_fsc, first_shell_below
from mpiapp.model.masks import background_weight, soft_sphere
from mpiapp.model.radial import radii, shell_of_squares
from mpiapp.model.sharpen import fsc_weight

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
THRESHOLD = 0.143
MARGIN = (
    1.15  # of the window beyond the sphere, so that what a filter wraps round lies where the mask is nearly 0
)


@dataclass(frozen=True)
class Window:
    """What all windows of one size share.

    Attributes
    ----------
    box : L
    mask : (L, L, L) soft sphere about element L/2; None for windows that are whole maps, whose sphere moves
    order : flat indices of the stored half transform, sorted by shell, shells 0 .. L/2
    starts : where each shell begins in `order`
    squares : |k|^2 of the half transform
    shell : round(|k|) of the same, L/2 + 1 beyond the last shell
    """

    box: int
    mask: F32 | None
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    squares: NDArray[np.int32]
    shell: NDArray[np.int32]


def window_box(radius: float, edge: float) -> int:
    """Even edge, good for FFTs, of windows around a sphere of `radius` with a soft edge, all in pixels."""
    wanted = int(np.ceil(2 * (radius + edge) * MARGIN))
    box = int(scipy.fft.next_fast_len(wanted, real=True))
    while box % 2:
        box = int(scipy.fft.next_fast_len(box + 1, real=True))
    return box


def make_window(box: int, radius: float, edge: float, *, moving: bool = False, xp: Any = np) -> Window:
    """Tables of windows; `moving` for windows that are whole maps. Those that arrays meet are of the module `xp`."""
    k2 = axis_frequencies(box).astype(np.int32) ** 2
    squares = k2[:, None, None] + k2[:, None] + k2[: box // 2 + 1]
    shell = np.minimum(shell_of_squares(box), box // 2 + 1).astype(np.int32)[squares]
    order = np.argsort(shell.ravel(), kind="stable")
    starts = np.searchsorted(shell.ravel()[order], np.arange(box // 2 + 2))
    mask = None if moving else soft_sphere(box, radius, edge, xp)
    return Window(box, mask, order[: starts[-1]], starts[:-1], xp.asarray(squares), xp.asarray(shell))


def sphere_at(box: int, point: tuple[int, int, int], radius: float, edge: float) -> F32:
    """Soft sphere about a voxel (z, y, x) of a whole map, (box, box, box) float32."""
    squares = [(np.arange(box) - centre) ** 2 for centre in point]
    r = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    return np.float32(1) - background_weight(r, radius, edge)


def sample_points(box: int, step: int, radius: float) -> NDArray[np.int64]:
    """Voxels (z, y, x) of a grid that begins at the first voxel, inside the sphere N/2 - radius: (n, 3)."""
    axis = np.arange(0, box, step)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    inside = ((grid - box // 2) ** 2).sum(1) < max(box / 2 - radius, 0) ** 2
    return grid[inside]


def pair_fsc(first: NDArray[Any], second: NDArray[Any], window: Window) -> F64:
    """FSC of two half transforms of a window: (L/2 + 1,) float64 with FSC(0) = 1."""
    sums = _shell_sums(first, second, window)
    norm = np.sqrt(sums[1] * sums[2])
    curve = np.divide(sums[0], norm, out=np.zeros_like(norm), where=norm > 0)
    curve[0] = 1.0
    return curve


def _shell_sums(first: NDArray[Any], second: NDArray[Any], window: Window) -> F64:
    """Sums of Re(a b*), |a|^2 and |b|^2 over the shells: (3, L/2 + 1)."""
    arrays = module_of(first)
    here = arrays.xp is np
    # sorted sums are the fast way on a processor, not on a device
    a, b = (values.ravel()[window.order] if here else values.ravel() for values in (first, second))
    products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
    if here:
        return np.stack([np.add.reduceat(values.astype(np.float64), window.starts) for values in products])
    index, n = window.shell.ravel(), window.box // 2 + 1
    return np.asarray(to_host(arrays.xp.stack([arrays.bincount(index, values, n) for values in products])))


def local_curve(halves: F32, random: F32, mask: F32, window: Window, random_from: float) -> F64:
    """Corrected FSC inside a sphere.

    Parameters
    ----------
    halves, random : (2, L, L, L) both half maps in the window, and those with random phases
    mask : (L, L, L) the sphere
    random_from : shell of the window from which phases are random

    Returns
    -------
    (L/2 + 1,) float64
    """
    fft = module_of(halves).fft
    f = fft.rfftn(halves * mask, axes=(1, 2, 3))
    g = fft.rfftn(random * mask, axes=(1, 2, 3))
    return correct_fsc(
        pair_fsc(f[0], f[1], window), pair_fsc(g[0], g[1], window), int(random_from), clip=False
    )


def crossing(curve: F64, size_A: float, lowest_A: float, *, whole_shells: bool = False) -> float:
    """Resolution in A where a curve falls through 0.143, but no lower than `lowest_A`.

    Interpolated between two shells, or that of the last one above with `whole_shells`.
    """
    below = first_shell_below(curve, THRESHOLD)
    place = float((curve.size if below < 0 else below) - 1)
    if below > 0 and not whole_shells:
        place += (curve[below - 1] - THRESHOLD) / (curve[below - 1] - curve[below])
    return lowest_A if place <= 0 else min(size_A / place, lowest_A)


def filtered_window(
    part: F32, curve: F64, resolution_A: float, size_A: float, window: Window, edge: float
) -> F32:
    """Part of the map weighted by the local FSC and low-passed at the local resolution: (L, L, L) float32."""
    arrays = module_of(part)
    radius = radii(window.box)
    weights = shell_weights(radius, fsc_weight(curve)) * lowpass_weight(radius, size_A / resolution_A, edge)
    transform = arrays.fft.rfftn(part, axes=(0, 1, 2))
    transform *= arrays.xp.asarray(weights.astype(np.float32))[window.squares]
    filtered: F32 = arrays.fft.irfftn(transform, s=part.shape, axes=(0, 1, 2))
    return filtered.astype(np.float32, copy=False)
