"""What one pass of an expectation step keeps on the device: pixels, in-plane angles, shifts, optics weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpiapp.backend.arguments import make_optics, make_pixels
from mpiapp.backend.base import HalfModel, ImagingSetup
from mpiapp.backend.gpu_kernels import MOST_ROWS, Kernels, Precision, blocks
from mpiapp.backend.memory import row_length
from mpiapp.model.interpolation import window_polynomials
from mpiapp.model.pixels import pixel_list

OPTICS = np.dtype([("turn", "f4", 4), ("cycles", "f4"), ("premultiplied", "f4")])
# a shell whose reference is weaker than this fraction of the strongest is not scaled up further
WEAKEST_SHELL = 1e-4


@dataclass
class Pass:
    """Constant device arrays of the coarse or of the fine pass."""

    kernels: Kernels
    precision: Precision
    n_pix: int
    n_score: int  # pixels that count in the scores, the first of all
    pitch: int
    qx: Any  # (pitch,) pixels of the model plane
    qy: Any
    shell: Any  # (n_pix,) int32
    unit: float  # 1/A in a pixel
    balance: Any  # (n_pix,) typical size of the reference: slices are divided, images multiplied by it
    inverse_balance: Any
    optics: Any  # (n_optics,) OPTICS
    score_weight: Any  # (n_optics, n_pix)
    gamma_even: Any  # (n_optics, n_psi, n_pix) or None
    cosine: Any  # (n_psi,)
    sine: Any
    shift_A: Any  # (n_trans, 2)
    window: Any  # (16,)
    correlation_weight: (
        float  # of every pixel in a cross-correlation; it leaves the square root of it in the scores
    )

    @property
    def n_psi(self) -> int:
        """In-plane angles of the pass."""
        return int(self.cosine.size)

    @property
    def n_trans(self) -> int:
        """Shifts of the pass."""
        return int(self.shift_A.shape[0])

    def slices(self, volumes: Any, of_class: Any, padding: float, matrices: Any) -> Any:
        """Slices of volumes (n_class, ...) as a table (2, rows, pitch): real parts, imaginary parts."""
        cupy, rows = self.kernels.cupy, len(matrices)
        out = cupy.empty((2, rows, self.pitch), self.precision.dtype)
        y = min(rows, 32768)
        grid = (blocks(self.pitch), y, blocks(rows, max(y, 1)))
        arguments = (volumes, of_class, volumes.shape[-1] - 1, padding, matrices, self.qx, self.qy,
                     self.inverse_balance, self.n_pix, self.pitch, np.int64(rows), out)  # fmt: skip
        self.kernels.launch("slicing.cu", f"slice_directions<{self.precision.kernel}>", grid, arguments)
        return out

    def averages(self, planes: Any, of_class: Any) -> Any:
        """Class averages (n_class, 2 R + 1, R + 1) as a table: they lie on whole frequencies."""
        cupy, radius = self.kernels.cupy, planes.shape[-1] - 1
        x, y = (q[: self.n_pix].astype(np.int32) for q in (self.qx, self.qy))
        values = planes[:, y + radius, x][of_class] * self.inverse_balance
        out = cupy.zeros((2, len(of_class), self.pitch), self.precision.dtype)
        out[0, :, : self.n_pix], out[1, :, : self.n_pix] = values.real, values.imag
        return out

    def slice_power(self, table: Any) -> Any:
        """|P|^2 of a table: (rows, pitch) float32."""
        out = self.kernels.cupy.empty(table.shape[1:], np.float32)
        arguments = (table, np.int64(out.size), out)
        self.kernels.launch(
            "slicing.cu", f"slice_power<{self.precision.kernel}>", (blocks(out.size),), arguments
        )
        return out

    def turned(self, images: Any, image_of: Any, psi_of: Any) -> tuple[Any, Any]:
        """Images turned in their plane and weighted: rows (n, pitch) complex64, and weights of |P|^2 (n, pitch)."""
        cupy, n = self.kernels.cupy, int(image_of.size)
        base = cupy.empty((n, self.pitch), np.complex64)
        power = cupy.empty((n, self.pitch), np.float32)
        arguments = (image_of, psi_of, n, images.planes, np.int64(images.planes[0].size), images.plane_radius,
                     images.ctf, images.scale, images.group, self.optics, self.score_weight, self.n_pix,
                     self.gamma_even, self.n_psi, self.cosine, self.sine, self.qx, self.qy, self.unit, self.balance,
                     self.window, self.n_pix, self.pitch, base, power)  # fmt: skip
        self.kernels.launch("inplane.cu", "turn_rows", (blocks(self.pitch), min(n, MOST_ROWS)), arguments)
        return base, power


def make_pass(
    kernels: Kernels,
    precision: Precision,
    setup: ImagingSetup,
    model: HalfModel,
    radius: int,
    psi_deg: NDArray[np.float64],
    shifts_A: NDArray[np.float64],
    correlate: bool,
    spectrum: NDArray[np.float64],
    score_radius: int | None = None,
) -> Pass:
    """Constants of one pass.

    Parameters
    ----------
    spectrum : (n_shells,) tau2 of the reference, for the balance of both sides of the products.
    score_radius : highest frequency that counts in the scores; None for all.
    """
    put = kernels.cupy.asarray
    pixels = make_pixels(setup, radius)
    optics = make_optics(setup, model, pixels, psi_deg, correlate)
    weight = optics.score_weight
    common = 1.0
    if correlate:
        # weights of 1 would be far below the range of half precision; a correlation sees the root of a common factor
        common = 1.0 / float(np.median(model.sigma2[:, 1 : radius + 1]))
        weight = weight * np.float32(common)
    typical = np.sqrt(2 * spectrum)
    typical = np.maximum(typical, max(WEAKEST_SHELL * float(typical[1:].max(initial=0)), 1e-30))
    balance = typical[np.minimum(pixels.shell, typical.size - 1)].astype(np.float32)
    n_pix = pixels.qx.size
    n_score = n_pix if score_radius is None else int(pixel_list(radius).prefix(score_radius))
    pitch = row_length(radius)
    table = np.zeros(len(setup.optics), OPTICS)
    table["turn"] = optics.turn.reshape(-1, 4)
    table["cycles"] = optics.cycles
    table["premultiplied"] = [o.premultiplied for o in setup.optics]
    psi = np.deg2rad(psi_deg)
    padded = np.zeros((2, pitch), np.float32)
    padded[0, :n_pix], padded[1, :n_pix] = pixels.qx, pixels.qy
    return Pass(
        kernels, precision, n_pix, n_score, pitch, put(padded[0]), put(padded[1]), put(pixels.shell),
        1.0 / (setup.box * setup.pixel_size_A), put(balance), put(1 / balance), put(table.view(np.uint8)),
        put(np.ascontiguousarray(weight, np.float32)),
        put(optics.gamma_even) if optics.gamma_even.size else None,
        put(np.cos(psi).astype(np.float32)), put(np.sin(psi).astype(np.float32)),
        put(np.ascontiguousarray(shifts_A, np.float32)), put(window_polynomials().ravel()), common,
    )  # fmt: skip
