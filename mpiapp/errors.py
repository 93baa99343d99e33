"""Every error that the program raises on purpose, and the exit code that each one ends with."""

from __future__ import annotations


class MpiappError(Exception):
    """Base of all errors whose message is meant for the user (no traceback is shown)."""

    exit_code = 1


class InputError(MpiappError):
    """A file is missing, malformed or inconsistent. The message names file, row, column, value and remedy."""

    exit_code = 2


class ConfigError(MpiappError):
    """A command-line option or its value can not be used. The message names the option and the remedy."""

    exit_code = 2


class DeviceError(MpiappError):
    """A GPU is missing, full or failed."""

    exit_code = 3


class ParallelError(MpiappError):
    """The MPI launch is wrong or a rank failed."""

    exit_code = 4


class StopRequested(MpiappError):
    """A signal or the time limit asked the run to end; the last checkpoint can be continued."""

    exit_code = 75
