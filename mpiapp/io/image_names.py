"""Image names `000123@path/stack.mrcs`: splitting them, and finding the folder that the paths start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpiapp.errors import InputError
from mpiapp.io.columns import Columns
from mpiapp.io.star_table import numbered

_OTHER_FORMATS = {
    **dict.fromkeys((".spi", ".stk", ".vol", ".xmp"), "SPIDER"),
    **dict.fromkeys((".img", ".hed"), "IMAGIC"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".hdf", ".h5"), "HDF5"),
    **dict.fromkeys((".eer",), "EER movie"),
}
_SAMPLE = 50


@dataclass(frozen=True)
class ImageNames:
    """Where each particle's image lies.

    `stacks` (paths as written, in order of appearance), `stack_index` (n,) int32 into them, `image_index`
    (n,) int64 0-based; -1 stands for the number 0 in the file, which `check_particles` refuses.
    """

    stacks: list[str]
    stack_index: npt.NDArray[np.int32]
    image_index: npt.NDArray[np.int64]


def split_names(table: Columns) -> ImageNames:
    """Split column rlnImageName.

    A name without number is an image file of its own. The `>` that cryoSPARC puts before paths is taken away.

    Raises
    ------
    InputError
        A name is empty, its number is no number, or the file format is not read.
    """
    parts = [name.rpartition("@") for name in table.text("rlnImageName")]
    numbers = _numbers(table, [head for head, _, _ in parts])
    files = [tail.lstrip(">") for _, _, tail in parts]
    codes, names = numbered(files)
    _check_formats(table, names, codes)
    return ImageNames(names, codes, numbers - 1)


def _numbers(table: Columns, heads: list[str]) -> npt.NDArray[np.int64]:
    try:
        return np.array([int(head) if head else 1 for head in heads], dtype=np.int64)
    except (ValueError, OverflowError):
        row = next(i for i, head in enumerate(heads) if head and not (head.isdecimal() and len(head) < 19))
        name = table.text("rlnImageName")[row]
        raise InputError(
            f"{table.where(row)}, column rlnImageName: '{name}' does not begin with an image number; "
            f"expected 000001@stack.mrcs."
        ) from None


def _check_formats(table: Columns, names: list[str], codes: npt.NDArray[np.integer]) -> None:
    for index, name in enumerate(names):
        suffix = Path(name).suffix.lower()
        if name and suffix not in _OTHER_FORMATS:
            continue
        row = int(np.flatnonzero(codes == index)[0])
        if not name:
            raise InputError(
                f"{table.where(row)}, column rlnImageName: the name is empty; expected 000001@stack.mrcs."
            )
        raise InputError(
            f"{table.where(row)}, column rlnImageName: {name} is a {_OTHER_FORMATS[suffix]} file; only MRC "
            f"stacks (.mrcs) are read: convert it (relion_stack_create --i {table.path.name} --o converted)."
        )


def find_base(stacks: Sequence[str], star_path: Path, root: Path | None) -> tuple[Path, list[str]]:
    """Folder that relative image names start from.

    `root` if given; else the working directory, else the folder of the STAR file or one of the folders above
    it (RELION's names start at the project folder): the first one where most of the stacks are found.

    Returns
    -------
    base
        Absolute path.
    notices
        Remarks for the user: which folder, if it is not the working directory; mixed kinds of names.

    Raises
    ------
    InputError
        `root` is no folder.
    """
    relative = [stack for stack in stacks if not Path(stack).is_absolute()]
    notices = []
    if relative and len(relative) < len(stacks):
        notices.append(
            f"{star_path}: {len(relative)} stacks have relative names ({relative[0]}), "
            f"{len(stacks) - len(relative)} have absolute ones; both are read."
        )
    if root is not None:
        if not root.is_dir():
            raise InputError(
                f"{root}: the folder of the images (--root; reconstruct: --img) does not exist; correct it."
            )
        return root.resolve(), notices
    here = Path.cwd()
    folder = star_path.resolve().parent
    sample = relative[:: max(1, len(relative) // _SAMPLE)]
    candidates = [here, folder, *folder.parents]
    found = [sum((base / stack).is_file() for stack in sample) for base in candidates]
    best = candidates[int(np.argmax(found))]
    if best != here and relative:
        notices.append(f"{star_path}: image names start from the folder {best}, not the working directory.")
    return best, notices
