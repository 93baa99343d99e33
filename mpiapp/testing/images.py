"""Images of simulated particles: projection, shift, CTF, aberrations, noise, normalisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpiapp.testing.draws import ParticleTruth, draw_particles, white_noise
from mpiapp.testing.maps import disc
from mpiapp.testing.noise import colour, noise_filter
from mpiapp.testing.objects import SimulatedObjects
from mpiapp.testing.optics import SimulatedOptics, aberration_phase, contrast_transfer, magnified
from mpiapp.testing.projections import FourierSampler, image_frequencies, to_images

# particles that the noise level is measured on: micrographs of a group, particles of each
PROBE_MICROGRAPHS = 32
PROBE_PARTICLES = 4

Images = NDArray[np.float32]


class ImageSimulator:
    """Makes images of particles, in pieces of any size.

    Parameters
    ----------
    objects : maps with their configuration
    optics : one entry an optics group

    Attributes
    ----------
    noise_sigma : standard deviation of the noise of each optics group, on the scale of the maps
    """

    def __init__(self, objects: SimulatedObjects, optics: list[SimulatedOptics]) -> None:
        self.config = objects.config
        self.optics = optics
        self.pixel_size_A = objects.pixel_size_A
        self._samplers = [FourierSampler(volume) for volume in objects.volumes]
        self.noise_sigma = [self._calibrated(group) for group in range(len(optics))]

    def clean(self, truth: ParticleTruth) -> Images:
        """Images without noise of particles of one optics group, (n, box, box) float32, scale of the map.

        A pixel is the sum over the voxels along the view, whatever the pixel size of the group. The CTF acts
        on the image in its box, as refinement models it: what it delocalises beyond an edge comes in on the
        other.
        """
        optics = self.optics[int(truth.group[0])]
        box = optics.box
        fx, fy = image_frequencies(box)
        inside = fx**2 + fy**2 < 0.25
        fx, fy = fx[inside], fy[inside]
        values = self._slices(truth, optics, fx, fy)
        turns = np.outer(truth.shift_A[:, 0], fx) + np.outer(truth.shift_A[:, 1], fy)
        values = values * np.exp(-2j * np.pi * turns / optics.pixel_size_A)
        if self.config.ctf:
            values = values * self._transfer(truth, optics, fx, fy)
        values *= truth.scale[:, None]
        full = np.zeros((len(truth), box, box // 2 + 1), np.complex64)
        full[:, inside] = values
        return to_images(full, box)

    def noisy(self, truth: ParticleTruth) -> tuple[Images, NDArray[np.float64]]:
        """Images with noise and normalisation, and the standard deviation that each was divided by, (n,)."""
        images = self.clean(truth)
        group = int(truth.group[0])
        if self.config.snr == 0:
            return images, np.ones(len(truth))
        noise = self.noise(truth.number, group)
        noise += images
        if not self.config.normalise:
            return noise, np.ones(len(truth))
        return self._normalised(noise, group)

    def noise(self, numbers: NDArray, group: int) -> Images:
        """Noise of particles of one optics group, (n, box, box) float32, scale of the map."""
        config, optics = self.config, self.optics[group]
        noise = white_noise(config, numbers, optics.box)
        if config.noise_amplitude > 0:
            gain = noise_filter(
                optics.box, optics.pixel_size_A, config.noise_amplitude, config.noise_corner_A
            )
            noise = colour(noise, gain)
        noise *= np.float32(self.noise_sigma[group])
        return noise

    def particle_disc(self, group: int) -> NDArray[np.bool_]:
        """Pixels of the particle's circle in images of a group, (box, box) bool."""
        optics = self.optics[group]
        return disc(optics.box, self.config.diameter_A / 2 / optics.pixel_size_A)

    def _slices(
        self, truth: ParticleTruth, optics: SimulatedOptics, fx: NDArray, fy: NDArray
    ) -> NDArray[np.complex64]:
        """Transforms of the projections at image frequencies in cycles per pixel, (n, m)."""
        from mpiapp.model.rotations import euler_to_matrix

        ratio = self.pixel_size_A / optics.pixel_size_A
        plane = np.stack(magnified(optics, fx * ratio, fy * ratio), axis=1)
        rotations = euler_to_matrix(truth.rot_deg, truth.tilt_deg, truth.psi_deg)
        values = np.empty((len(truth), len(fx)), np.complex64)
        for index, sampler in enumerate(self._samplers):
            rows = np.flatnonzero(truth.class_index == index)
            if len(rows):
                values[rows] = sampler.slices(rotations[rows], plane)
        # a coarser pixel covers more of the plane: the sum over it is kept per pixel of the map
        return values * np.float32(ratio**2)

    def _transfer(
        self, truth: ParticleTruth, optics: SimulatedOptics, fx: NDArray, fy: NDArray
    ) -> NDArray[np.complex64]:
        sx, sy = fx / optics.pixel_size_A, fy / optics.pixel_size_A
        ctf = contrast_transfer(
            optics,
            sx,
            sy,
            truth.defocus_u_A,
            truth.defocus_v_A,
            truth.defocus_angle_deg,
            truth.phase_shift_deg,
            self.config.ctf_bfactor_A2,
        )
        return np.asarray(ctf * np.exp(1j * aberration_phase(optics, sx, sy)), dtype=np.complex64)

    def _calibrated(self, group: int) -> float:
        """Standard deviation of the noise that gives the SNR asked for.

        Measured on particles that do not depend on how many are made: the first few of the first micrographs.
        """
        if self.config.snr == 0:
            return 0.0
        first = (np.arange(PROBE_MICROGRAPHS) * len(self.optics) + group) * self.config.per_micrograph
        per_micrograph = np.arange(min(PROBE_PARTICLES, self.config.per_micrograph))
        truth = draw_particles(self.config, (first[:, None] + per_micrograph).ravel())
        inside = self.particle_disc(group)
        signal = self.clean(truth)[:, inside].var(axis=1, dtype=np.float64).mean()
        return float(np.sqrt(signal / self.config.snr))

    def _normalised(self, images: Images, group: int) -> tuple[Images, NDArray[np.float64]]:
        """Background (outside the particle) to mean 0 and standard deviation 1, image by image."""
        outside = images[:, ~self.particle_disc(group)]
        mean = outside.mean(axis=1, dtype=np.float64)
        spread = outside.std(axis=1, dtype=np.float64)
        images -= mean.astype(np.float32)[:, None, None]
        images /= spread.astype(np.float32)[:, None, None]
        return images, spread
