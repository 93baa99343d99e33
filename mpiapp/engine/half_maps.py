"""The two half maps of a post-processing job and its mask, read and checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpiapp.config.postprocess import PostprocessConfig
from mpiapp.errors import InputError
from mpiapp.io.maps_in import InputMap, load_alike
from mpiapp.model.masks import check_mask

F32 = NDArray[np.float32]


def load_halves(config: PostprocessConfig) -> tuple[InputMap, F32, F32 | None]:
    """Read half map 1, half map 2 and the mask, where one is given.

    Returns
    -------
    half map 1 with its pixel size, half map 2 and the mask (z, y, x)

    Raises
    ------
    InputError
        A file can not be used, both halves are the same map, or the mask is empty.
    """
    given = [config.mask] if config.mask else []
    half1, (half2, *masks) = load_alike([config.half1, config.second_half(), *given], config.angpix)
    middle = len(half2) // 2  # maps that differ do so there: the whole is looked at if need be
    if np.array_equal(half1.density[middle], half2[middle]) and np.array_equal(half1.density, half2):
        raise InputError(
            f"{config.second_half()}: is the same map as {config.half1}; give the two independent half maps."
        )
    if not masks:
        return half1, half2, None
    check_mask(masks[0], half2.shape, config.mask)
    check_not_empty(masks[0], config.mask)
    return half1, half2, masks[0]


def check_not_empty(mask: F32, name: str) -> None:
    """Refuse a mask without a voxel above a half."""
    if not (mask > 0.5).any():
        raise InputError(f"{name}: the mask is empty; lower its threshold.")
