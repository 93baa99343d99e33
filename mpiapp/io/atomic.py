"""Files that are either complete or absent: temporary name, sync, rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import NamedTemporaryFile

from mpiapp.errors import InputError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_file(path: str | Path, n_bytes: int | None = None) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; at the end of the block it takes its real name.

    A crash or a full disk at any moment leaves the file that was there before, untouched. The data are on the
    disk (fsync of file and folder) before the block is left. Missing folders are made.

    Parameters
    ----------
    path : path
        The name that the file shall have.
    n_bytes : int, optional
        Size of the file, for the message when it does not fit.

    Raises
    ------
    InputError
        When the file can not be written: the folder can not be made, no permission, no space (with what is
        left and the remedy).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        _remove(temporary)  # first, so that the free space in the message is what the user will find
        raise InputError(_describe(path, error, n_bytes)) from error
    finally:
        _remove(temporary)


def check_writable(path: str | Path) -> None:
    """Make the folder of a file that is going to be written, and see that files can be made there.

    Raises
    ------
    InputError
        They can not, or the name is that of a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file with --o")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise InputError(f"{path}: can not be written: {nearest} is no folder; give another name with --o")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp"):
            pass
    except OSError as error:
        raise InputError(f"{_describe(path, error, None)}; give another name with --o") from error


def remove_abandoned(root: str | Path) -> None:
    """Remove what a killed run left of files ``<root>_*`` that it was writing: temporary ones, never finished ones."""
    root = Path(root)
    for path in root.parent.glob(f".{escape(root.name)}_*.tmp"):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems can not sync a folder; the rename is then as safe as they make it.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


def _describe(path: Path, error: OSError, n_bytes: int | None) -> str:
    size = f" of {n_bytes / 1e6:,.1f} MB" if n_bytes else ""
    if error.errno in _NO_SPACE:
        return (
            f"{path}: no space for this file{size} ({os.strerror(error.errno)}): {_free_space(path.parent)}; "
            "a quota or a limit on file sizes counts as well. What was there before is untouched; "
            "make space and repeat"
        )
    return f"{path}: can not be written: {os.strerror(error.errno) if error.errno else error}"


def _free_space(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB are free on the file system of {folder}"
    except OSError:
        return f"the free space of {folder} is unknown"
