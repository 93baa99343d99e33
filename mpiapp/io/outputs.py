"""Every output file name is made here, as RELION names them, and nowhere else.

A run has a *root* (RELION's ``--o``), for example ``Refine3D/job001/run``. Files of an iteration carry
``_itNNN``, those of a half set ``_half1`` or ``_half2``, those of a class ``_class001``; the final files of a
converged run carry no iteration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mpiapp.errors import ConfigError, InputError

_ITERATION = re.compile(r"^(?P<stem>.+)_it(?P<iteration>\d{3,})_[^/]*$")
_FINAL = re.compile(r"^(?P<stem>.+)_(?:optimiser|model|data|sampling)\.star$")


@dataclass(frozen=True)
class OutputNames:
    """Names of the files that a run writes.

    Parameters
    ----------
    root : str
        RELION's output root ``folder/prefix``. A root that ends in ``/`` names a folder; the files in it then
        begin with ``run``, as in RELION's own job folders.
    """

    root: str

    def __post_init__(self) -> None:
        if not self.root.strip():
            raise ConfigError("--o is empty: give an output root such as Refine3D/job001/run")
        if self.root.endswith("/"):
            object.__setattr__(self, "root", self.root + "run")

    # ---- state of the run, RELION's STAR files -------------------------------------------------------------

    def data(self, iteration: int | None) -> Path:
        """Particles with their poses; the final file when `iteration` is None."""
        return self._path(iteration, "data.star")

    def model(self, iteration: int | None, half: int | None = None) -> Path:
        """Spectra, noise, scales and names of the maps of one half set (`half` None: of all particles)."""
        return self._path(iteration, f"{_half_tag(half)}model.star")

    def optimiser(self, iteration: int | None) -> Path:
        """Options and state of the run: the file that ``--continue`` takes."""
        return self._path(iteration, "optimiser.star")

    def sampling(self, iteration: int | None) -> Path:
        """Angular and translational sampling."""
        return self._path(iteration, "sampling.star")

    # ---- maps ----------------------------------------------------------------------------------------------

    def half_map(self, iteration: int, half: int, class_number: int = 1) -> Path:
        """Reference map of one half set after an iteration (regularised, flattened)."""
        return self._path(iteration, f"{_half_tag(half)}{_class_tag(class_number)}.mrc")

    def class_map(self, iteration: int | None, class_number: int = 1) -> Path:
        """Reference map from all particles, of a classification or of the final iteration."""
        return self._path(iteration, f"{_class_tag(class_number)}.mrc")

    def final_map(self, class_number: int = 1) -> Path:
        """Map of a converged run, from all particles."""
        return self.class_map(None, class_number)

    def unfil(self, half: int, class_number: int = 1, iteration: int | None = None) -> Path:
        """Half map without regularisation, the input of postprocessing."""
        return self._path(iteration, f"{_half_tag(half)}{_class_tag(class_number)}_unfil.mrc")

    def angular_distribution(self, iteration: int | None, half: int | None, class_number: int = 1) -> Path:
        """Distribution of the viewing directions as cylinders for ChimeraX."""
        return self._path(iteration, f"{_half_tag(half)}{_class_tag(class_number)}_angdist.bild")

    def classes_stack(self, iteration: int) -> Path:
        """Class averages of a 2D classification."""
        return self._path(iteration, "classes.mrcs")

    # ---- what RELION does not have -------------------------------------------------------------------------

    def checkpoint(self, iteration: int) -> Path:
        """Exact state after an iteration (HDF5)."""
        return self._path(iteration, "checkpoint.h5")

    def partial_checkpoint(self, iteration: int) -> Path:
        """Sums of an iteration that a signal or the time limit cut short (HDF5)."""
        return self._path(iteration, "partial.h5")

    @property
    def log(self) -> Path:
        """Log of the leader: what the terminal shows, with times."""
        return Path(f"{self.root}.log")

    def rank_log(self, rank: int) -> Path:
        """Debug log of one rank."""
        return Path(f"{self.root}_rank{rank:04d}.log")

    # ---- plots; each has its numbers beside it as .csv -----------------------------------------------------

    def fsc_plot(self, iteration: int | None = None) -> Path:
        """Fourier shell correlation."""
        return self._path(iteration, "fsc.png")

    def slices_plot(self, iteration: int | None = None, class_number: int = 1) -> Path:
        """Central slices and projections of a map."""
        return self._path(iteration, f"{_class_tag(class_number)}_slices.png")

    def angular_plot(self, iteration: int | None = None, class_number: int = 1) -> Path:
        """Distribution of the viewing directions."""
        return self._path(iteration, f"{_class_tag(class_number)}_angdist.png")

    def classes_plot(self, iteration: int) -> Path:
        """Classes sorted by size."""
        return self._path(iteration, "classes.png")

    @property
    def class_sizes_plot(self) -> Path:
        """Class sizes against the iteration."""
        return Path(f"{self.root}_class_sizes.png")

    @property
    def progress_plot(self) -> Path:
        """Resolution, sampling, accuracies and time against the iteration."""
        return Path(f"{self.root}_progress.png")

    @property
    def memory_plot(self) -> Path:
        """Device memory against box and classes."""
        return Path(f"{self.root}_memory.png")

    @property
    def script(self) -> Path:
        """Script that opens the final map and the viewing directions in ChimeraX."""
        return Path(f"{self.root}.cxc")

    # ---- relations between roots ---------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Folder of all files."""
        return Path(self.root).parent

    def continued(self, iteration: int) -> OutputNames:
        """Names of a run that continues this one from `iteration` under a new root (RELION's ``_ctN``)."""
        return OutputNames(f"{self.root}_ct{iteration}")

    @classmethod
    def from_file(cls, path: str | Path) -> tuple[OutputNames, int | None]:
        """Root and iteration behind the name of an output file, for example of an optimiser file.

        Returns
        -------
        names : OutputNames
        iteration : int, or None for a final file

        Raises
        ------
        InputError
            When the name is not one that this class makes.
        """
        text = str(path)
        found = _ITERATION.match(text)
        if found:
            return cls(found["stem"]), int(found["iteration"])
        found = _FINAL.match(text)
        if found:
            return cls(found["stem"]), None
        raise InputError(
            f"{text}: not the name of a run's file; expected something like "
            "Refine3D/job001/run_it012_optimiser.star"
        )

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Checkpoints of this run that exist: (iteration, path), in order of the iteration."""
        pattern = re.compile(re.escape(Path(self.root).name) + r"_it(\d{3,})_checkpoint\.h5")
        if not self.folder.is_dir():
            return []
        found = ((pattern.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match[1]), path) for match, path in found if match)

    def _path(self, iteration: int | None, ending: str) -> Path:
        if iteration is None:
            return Path(f"{self.root}_{ending}")
        if iteration < 0:
            raise ValueError(f"an iteration can not be negative: {iteration}")
        return Path(f"{self.root}_it{iteration:03d}_{ending}")


@dataclass(frozen=True)
class PostprocessNames:
    """Names of the files of a post-processing or local-resolution job, from its root (RELION's ``--o``)."""

    root: str

    def __post_init__(self) -> None:
        if not self.root.strip():
            raise ConfigError("--o is empty: give an output root such as PostProcess/job003/postprocess")
        if self.root.endswith("/"):
            object.__setattr__(self, "root", self.root + "postprocess")

    def map(self, *, masked: bool = False, half: int | None = None) -> Path:
        """Sharpened map; of one half, or multiplied by the mask."""
        half_tag = f"_half{half}" if half else ""
        return self.file(f"{half_tag}{'_masked' if masked else ''}.mrc")

    def file(self, ending: str) -> Path:
        """Any other file: root and ending, for example ``.star`` or ``_fsc.xml``."""
        return Path(self.root + ending)

    @property
    def star(self) -> Path:
        """Summary and curves: what refinement of CTFs and of movies reads."""
        return self.file(".star")

    @property
    def automask(self) -> Path:
        """Mask that was made from the average map."""
        return self.file("_automask.mrc")

    @property
    def emdb_xml(self) -> Path:
        """FSC for a deposition in the EMDB."""
        return self.file("_fsc.xml")

    @property
    def fsc_text(self) -> Path:
        """FSC as two columns of text."""
        return self.file("_fsc.dat")

    @property
    def fsc_plot(self) -> Path:
        """FSC curves."""
        return self.file("_fsc.png")

    @property
    def guinier_plot(self) -> Path:
        """Guinier plot."""
        return self.file("_guinier.png")

    @property
    def slices_plot(self) -> Path:
        """Slices through the sharpened map."""
        return self.file("_slices.png")

    @property
    def local_resolution(self) -> Path:
        """Local resolution in A at every voxel."""
        return self.file("_locres.mrc")

    @property
    def locally_filtered(self) -> Path:
        """Map filtered to its local resolution."""
        return self.file("_locres_filtered.mrc")

    @property
    def local_fscs(self) -> Path:
        """FSC curves of the points sampled."""
        return self.file("_locres_fscs.star")

    @property
    def cones_plot(self) -> Path:
        """Resolution by direction."""
        return self.file("_cones.png")

    @property
    def script(self) -> Path:
        """Script that opens the result in ChimeraX."""
        return self.file(".cxc")

    @property
    def local_script(self) -> Path:
        """The same, coloured by local resolution."""
        return self.file("_locres.cxc")

    @property
    def histogram(self) -> Path:
        """Histogram of local resolutions within the mask."""
        return self.file("_locres_histogram.png")

    @property
    def local_slices(self) -> Path:
        """Central slices coloured by local resolution."""
        return self.file("_locres_slices.png")

    @property
    def log(self) -> Path:
        """What the terminal showed, with times."""
        return self.file(".log")


def _half_tag(half: int | None) -> str:
    if half is None:
        return ""
    if half not in (1, 2):
        raise ValueError(f"half sets are numbered 1 and 2, not {half}")
    return f"half{half}_"


def _class_tag(class_number: int) -> str:
    if class_number < 1:
        raise ValueError(f"classes are numbered from 1, not {class_number}")
    return f"class{class_number:03d}"
