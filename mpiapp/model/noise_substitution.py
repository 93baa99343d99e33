"""Images whose detail is replaced by noise, to see what a refinement makes of it (Chen et al. 2013)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.model.fourier import forward_2d, half_radius, inverse_2d
from mpiapp.model.noise import particle_generator

FloatArray = NDArray[Any]


def randomise_images(
    images: FloatArray, from_shell: float, run_seed: int, particle_ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Replace the phases of images at |k| >= from_shell by random ones; amplitudes are kept.

    The phases are those of white noise, drawn for each particle on its own.

    Parameters
    ----------
    images : (n, L, L)
    from_shell : radius in Fourier pixels of the images
    run_seed, particle_ids : what the random streams depend on

    Returns
    -------
    (n, L, L) float32
    """
    box = images.shape[-1]
    white = np.empty(images.shape, np.float32)
    for image, particle in zip(white, particle_ids, strict=True):
        particle_generator(run_seed, "noise substitution", int(particle)).standard_normal(
            out=image, dtype=np.float32
        )
    transform = forward_2d(images.astype(np.float32), centre=False)
    noise = forward_2d(white, centre=False)
    noise *= np.abs(transform) / np.maximum(np.abs(noise), np.finfo(np.float32).tiny)
    np.copyto(noise, transform, where=half_radius(box, 2) < from_shell)
    return inverse_2d(noise, centre=False).astype(np.float32)


def true_fsc(fsc: FloatArray, fsc_of_noise: FloatArray, from_shell: int) -> NDArray[np.float64]:
    """FSC without the part that noise gets as well: (T - N)/(1 - N) from `from_shell` + 2 on (Chen et al., eq. 4)."""
    from mpiapp.model.fsc import correct_fsc

    return correct_fsc(fsc, fsc_of_noise, from_shell, clip=False)
