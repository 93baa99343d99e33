"""Logging: rank 0 speaks to the terminal and to ``<root>.log``; other ranks warn, or keep a debug log."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from mpiapp.config.job import JobConfig

NAME = "mpiapp"
TIMES = "%Y-%m-%d %H:%M:%S"


def setup(
    verb: int = 1,
    *,
    rank: int = 0,
    log_file: Path | None = None,
    rank_log_file: Path | None = None,
    append: bool = False,
) -> logging.Logger:
    """Prepare the program's logger; calling it again replaces what it set before.

    Parameters
    ----------
    verb : int
        0 shows warnings only, 1 the normal lines, 2 adds a debug log of each rank.
    rank : int
        Rank of this process. Only rank 0 writes information to stdout and `log_file`; warnings of other ranks
        go to stderr with the rank in front.
    log_file : Path, optional
        Log of the leader, with times. Its folder must exist.
    rank_log_file : Path, optional
        Debug log of this rank, written when `verb` is 2.
    append : bool
        Go on in an existing log file, as a continued run does.

    Returns
    -------
    logging.Logger
        The logger named "mpiapp"; modules log to ``logging.getLogger("mpiapp")`` or children of it.
    """
    logger = logging.getLogger(NAME)
    close()
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verb > 1 else logging.INFO)
    mode = "a" if append else "w"
    if rank == 0:
        logger.addHandler(_console(sys.stdout, logging.INFO if verb else logging.WARNING, "%(message)s"))
        if log_file is not None:
            logger.addHandler(_file(log_file, mode, logging.INFO, _Marked("%(asctime)s %(message)s", TIMES)))
    else:
        logger.addHandler(_console(sys.stderr, logging.WARNING, f"rank {rank}: %(message)s"))
    if verb > 1 and rank_log_file is not None:
        form = f"%(asctime)s rank {rank} %(levelname)s %(name)s: %(message)s"
        logger.addHandler(_file(rank_log_file, mode, logging.DEBUG, logging.Formatter(form, TIMES)))
    return logger


def close() -> None:
    """Flush and take away the handlers that :func:`setup` made."""
    logger = logging.getLogger(NAME)
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)


def emit(lines: Iterable[str], level: int = logging.INFO) -> None:
    """Log several lines (for instance those of :mod:`mpiapp.report.lines`)."""
    logger = logging.getLogger(NAME)
    for line in lines:
        logger.log(level, line)


def warn(text: str) -> None:
    """Log a warning."""
    logging.getLogger(NAME).warning("%s", text)


def to_file(text: str) -> None:
    """Write a line to the log file only: what the terminal is shown in another way."""
    record = logging.LogRecord(NAME, logging.ERROR, __file__, 0, text, None, None)
    for handler in logging.getLogger(NAME).handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)


def options(config: JobConfig, width: int = 110) -> list[str]:
    """Lines that show every option of a run: those given, and every default that applied."""
    shown = config.describe()
    lines = []
    for heading, kind in (("Options given:", "given"), ("Defaults that apply:", "default")):
        words = " ".join(_unbroken(f"{flag} {value}") for flag, value, origin in shown if origin == kind)
        wrapped = textwrap.wrap(words, width - 3, break_long_words=False, break_on_hyphens=False)
        lines += [f" {heading}", *(f"   {line.replace(_NO_BREAK, ' ')}" for line in wrapped)]
    return lines + [f" Note: {note}" for note in config.notes]


class Collected(logging.Handler):
    """Warnings for another process, which shows them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def take_all(self) -> None:
        """All warnings of the program go here and nowhere else."""
        logger = logging.getLogger(NAME)
        logger.addHandler(self)
        logger.propagate = False


_NO_BREAK = "\x1f"


def _unbroken(text: str) -> str:
    """Keep a flag and its value on one line."""
    return text.replace(" ", _NO_BREAK)


class _Console(logging.StreamHandler[TextIO]):
    """Plain console output with warnings marked."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"WARNING: {text}" if record.levelno >= logging.WARNING else text


def _console(stream: TextIO, level: int, form: str) -> logging.Handler:
    handler = _Console(stream)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(form))
    return handler


class _LogFile(logging.FileHandler):
    """A log file that may fill the disk: the run itself goes on, or ends with a message of its own."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the log is incomplete, instead of a traceback for each line."""
        if self.level <= logging.CRITICAL:
            self.setLevel(logging.CRITICAL + 1)
            sys.stderr.write(f"WARNING: the log {self.baseFilename} can not be written any more\n")


class _Marked(logging.Formatter):
    """Warnings are marked as on the console."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno == logging.WARNING:
            record.message = f"WARNING: {record.message}"
        return super().formatMessage(record)


def _file(path: Path, mode: str, level: int, formatter: logging.Formatter) -> logging.Handler:
    handler = _LogFile(path, mode=mode, encoding="utf-8")
    handler.setLevel(level)
    handler.setFormatter(formatter)
    return handler
