"""Which images share a noise spectrum in a classification: those of one optics group at about the same defocus.

What the references do not explain of the signal (heterogeneity that is not sorted yet, uncertain poses, what the prior
takes away) counts as noise, and it comes with the square of the CTF. One spectrum for all defoci makes images too sure of
themselves at the frequencies where their CTF is strong, so classes separate late or not at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
# Images that a spectrum is estimated from, at least, and spectra in all, at most, unless there are more optics groups
LEAST_IMAGES, MOST_GROUPS = 50, 32


def noise_groups(optics: I32, defocus_A: F64, n_optics: int) -> tuple[I32, I32]:
    """Divide the images of every optics group into equal parts by defocus.

    Parameters
    ----------
    optics : (n,) optics group of each image, from 0;  defocus_A : (n,) mean of the two defoci.

    Returns
    -------
    (n,) noise group of each image, from 0;  (n_groups,) optics group of each noise group, in ascending order.
    """
    group = np.zeros(optics.size, np.int32)
    of: list[int] = []
    most = max(1, MOST_GROUPS // n_optics)
    for g in range(n_optics):
        rows = np.flatnonzero(optics == g)
        parts = int(np.clip(rows.size // LEAST_IMAGES, 1, most))
        order = rows[np.argsort(defocus_A[rows], kind="stable")]
        group[order] = len(of) + np.arange(rows.size) * parts // max(rows.size, 1)
        of += [g] * parts
    return group, np.array(of, np.int32)


def mean_spectra(sigma2: F64, noise_group: I32, index: NDArray[np.integer], n: int) -> F64:
    """Mean noise spectra of images that are numbered in another way: (n, n_shells), 0 where there is no image.

    Parameters
    ----------
    sigma2 : (n_groups, n_shells);  noise_group, index : (n_images,) number of each image in both ways.
    """
    count = np.zeros((n, len(sigma2)))
    np.add.at(count, (index, noise_group), 1)
    return np.asarray(count @ sigma2 / np.maximum(count.sum(axis=1, keepdims=True), 1))
