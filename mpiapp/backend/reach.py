"""How far into an image the frequencies of the model reach, as its magnification has it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mpiapp.backend.base import ImagingSetup
from mpiapp.model.particles import OpticsModel
from mpiapp.model.pixels import PixelList, pixel_list


def image_radius(optics: OpticsModel, r_max: int) -> int:
    """Highest frequency of an image that the model plane up to r_max reads, in pixels."""
    # beyond Nyquist the samples have no weight, but they are read
    return int(min(np.ceil(_stretch(optics) * r_max), optics.box - 2))


@lru_cache(maxsize=256)
def _stretch(optics: OpticsModel) -> float:
    """Largest factor between frequencies of the model and of the image."""
    return float(np.linalg.norm(optics.turn, 2))


def map_pixels(setup: ImagingSetup, box: int, pixel_size_A: float, r_max: int) -> PixelList:
    """Pixels of the images of one kind that lie inside the model's sphere, for one optics group of them at least."""
    kind = [o for o in setup.optics if (o.box, o.pixel_size_A) == (box, pixel_size_A)]
    reach = max(_stretch(o) for o in kind) * r_max
    return pixel_list(min(int(np.ceil(reach - 1e-6)), box // 2))
