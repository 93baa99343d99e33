"""Maps whose detail is replaced by noise of the same power: amplitudes stay, phases become random (Chen et al. 2013)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.arrays import in_slabs, module_of
from mpiapp.model.fourier import axis_frequencies, forward_3d, inverse_3d

FloatArray = NDArray[Any]
ComplexArray = NDArray[Any]
_TURN = np.float32(2 * np.pi / 2**32)


def randomise_transform(
    transform: ComplexArray, from_shell: float, rng: np.random.Generator, *, workers: int = 1
) -> ComplexArray:
    """Replace the phases of a half transform at |k| >= from_shell by random ones and keep every amplitude.

    The phases are uniform and have the symmetry of a real map, so that no amplitude is lost on the planes that hold
    their values twice. They are a hash of the place in the transform: the same on a device, and in any number of threads.

    Parameters
    ----------
    transform : (N, N, N//2 + 1) complex
    from_shell : radius in Fourier pixels
    rng : generator; take an independent one for each half
    workers : threads

    Returns
    -------
    New array of the same shape.
    """
    xp = module_of(transform).xp
    box, n_x = transform.shape[1:]
    keys = xp.asarray(rng.integers(2**32, size=(2, box), dtype=np.uint32))
    k2 = axis_frequencies(box) ** 2
    z2, plane = xp.asarray(k2), xp.asarray(k2[:, None] + np.arange(n_x) ** 2)
    places = xp.arange(box * n_x, dtype=np.uint32).reshape(box, n_x)
    twice = (0, n_x - 1) if box % 2 == 0 else (0,)
    faces = [_antisymmetric(_angles(keys, places[:, x : x + 1])[..., 0], xp) for x in twice]
    out = xp.empty_like(transform)

    def work(part: slice) -> None:
        angle = _angles(keys[:, part], places)
        for x, face in zip(twice, faces, strict=True):
            angle[..., x] = face[part]
        old, new = transform[part], out[part]
        amplitude = abs(old)
        new.real, new.imag = amplitude * xp.cos(angle), amplitude * xp.sin(angle)
        xp.copyto(new, old, where=z2[part, None, None] + plane < from_shell**2)

    in_slabs(work, transform, workers)
    return out


def _angles(keys: NDArray[np.uint32], places: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Uniform angles of some planes, by their keys (2, n), at places (y, x) in each: (n, y, x)."""
    value = places + keys[0, :, None, None]
    _mix(value)
    value ^= keys[1, :, None, None]
    _mix(value)
    angles: NDArray[np.float32] = value.astype(np.float32)
    angles *= _TURN
    return angles


def _mix(value: NDArray[np.uint32]) -> None:
    """Hash of 32-bit numbers in place (xor-shift and multiply, constants found by C. Wellons' hash prospector)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        value ^= value >> np.uint32(shift)
        if factor > 1:
            value *= np.uint32(factor)


def _antisymmetric(angle: NDArray[np.float32], xp: Any) -> NDArray[np.float32]:
    """Angles of a plane that is its own mirror image: angle(-k) = -angle(k); a difference of two uniform ones."""
    return angle - xp.roll(angle[::-1, ::-1], (1, 1), axis=(0, 1))  # type: ignore[no-any-return]


def randomise_phases(
    volume: FloatArray, from_shell: float, rng: np.random.Generator, *, workers: int = 1
) -> NDArray[np.float32]:
    """`randomise_transform` of a map: (z, y, x) to (z, y, x) float32."""
    transform = forward_3d(volume, centre=False, workers=workers)
    mixed = randomise_transform(transform, from_shell, rng, workers=workers)
    return inverse_3d(mixed, centre=False, workers=workers).astype(np.float32, copy=False)
