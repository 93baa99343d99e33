"""How much better an image fits the reference that it is itself part of (its leverage).

A reference holds the noise of every image that it was made of. The image is compared with it again in the next iteration,
where the search comes back to nearly the same orientation, and so fits the class that it was in better than it should: by
several nats when a class has a few hundred images. Classes that are still mixed part slowly or not at all for that.

A reference is a regularised least-squares fit, V = D / (W + 1 / tau2): an image of weight a at an element contributes
the share h = a / (W + 1 / tau2) of its noise N there. In the log-likelihood -|X - V|^2 / (2 sigma2) this is
h |N|^2 / sigma2 = 2 h on average (sigma2 is per component), to first order in h. The shares of all images add up to
W / (W + 1 / tau2): twice the sum over the elements is the number of parameters that the images determine, and each image
has its part of it, as leverages add up to the number of parameters in any linear regression (Hoaglin and Welsch, Am. Stat.
32 (1978) 17). RELION leaves it in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def own_gain(
    data_vs_prior: F64,
    images: F64,
    kept: F64,
    *,
    dimensions: int,
    solvent_share: float,
    order: int,
) -> F64:
    """What an image gains in log-likelihood, on average, by its own share of the reference of its class.

    Parameters
    ----------
    data_vs_prior : (n_class, n_shells) mean of W tau2 by shell.
    images : (n_class,) number of images of each class.
    kept : (n_shells,) what is left of the image's share where it is looked at next (:func:`kept_by_search`); 0 in shells
        that do not count in scores.
    dimensions : of the references, 2 or 3.
    solvent_share : share of the box that the solvent mask leaves, as fewer parameters are free within it.
    order : of the point group; symmetry mates share their parameters.

    Returns
    -------
    (n_class,) nats, 0 for empty classes.
    """
    shell = np.arange(data_vs_prior.shape[1])
    parameters = (4 * np.pi * shell**2 if dimensions == 3 else 2 * np.pi * shell) * solvent_share / order
    determined = (parameters * kept * data_vs_prior / (1 + data_vs_prior)).sum(axis=1)
    return np.where(images >= 1, determined / np.maximum(images, 1), 0.0)


def kept_by_search(n_shells: int, box: int, radius_px: float, turn_deg: float, shift_px: float) -> F64:
    """Correlation, by shell, of what an image adds to a reference and what is looked at a turn and a shift away.

    A turn moves the points of a sphere of radius R by an r.m.s. distance of angle * R * sqrt(2 / 15) along any one axis;
    displacements d leave exp(-(2 pi s d / N)^2 / 2) of shell s.

    Parameters
    ----------
    turn_deg : r.m.s. angle;  shift_px : r.m.s. shift along one axis.

    Returns
    -------
    (n_shells,) in (0, 1].
    """
    square = (np.deg2rad(turn_deg) * radius_px) ** 2 * 2 / 15 + shift_px**2
    return np.asarray(np.exp(-0.5 * (2 * np.pi * np.arange(n_shells) / box) ** 2 * square))


def own_log_weight(gain: F64, class_number: F64, p_max: F64) -> F32 | None:
    """Log weight that takes the gain back from the class that each image was in: (n, n_class), or None without any.

    An image adds to a class as much as it belongs there, for which the weight of its best state is the lower bound.

    Parameters
    ----------
    gain : (n_class,), or empty;  class_number : (n,) counted from 1;  p_max : (n,).
    """
    if not gain.any():
        return None
    of = class_number.astype(int) - 1
    out = np.zeros((of.size, gain.size), np.float32)
    out[np.arange(of.size), of] = -p_max * gain[of]
    return out
