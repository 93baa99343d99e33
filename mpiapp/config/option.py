"""What an option is: default, flag, unit, help text, panel and range, kept on the dataclass field itself.

The command line, the Python call, the checks and the list printed at start all read this one place.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mpiapp.errors import ConfigError

Value = bool | int | float | str


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes
    ----------
    name : str
        Field name in the dataclass.
    flag : str
        Name on the command line, without the two dashes.
    kind : type
        bool, int, float or str.
    default : Value
        Value when the option is not given.
    help : str
        One or two sentences for the user.
    panel : str
        Heading it is listed under in the help.
    unit : str
        Unit of the number, empty for counts and names.
    minimum, maximum : float or None
        Closed range of allowed numbers.
    above : float or None
        Open lower bound: the number must be larger.
    special : tuple of float
        Numbers outside the range that have a meaning of their own (-1 for "automatic").
    choices : tuple of str
        The allowed words.
    fixed : bool
        True when a run that is continued can not change it.
    per_call : bool
        True when the option belongs to one call: a continued run does not take over the old value.
    metavar : str
        What stands for the value in the help; derived from unit or type when empty.
    bare : bool
        True when the flag may stand without a value (which then is the empty string).
    """

    name: str
    flag: str
    kind: type
    default: Value | None
    help: str
    panel: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    special: tuple[float, ...] = ()
    choices: tuple[str, ...] = ()
    fixed: bool = False
    per_call: bool = False
    metavar: str = ""
    bare: bool = False


def option(default: Value | None, help: str, panel: str, *, flag: str = "", **rest: Any) -> Any:
    """A dataclass field that is an option; the keywords are the attributes of :class:`Option`."""
    kind = rest.pop("kind", type(default))
    spec = Option(name="", flag=flag, kind=kind, default=default, help=help, panel=panel, **rest)
    return dataclasses.field(default=default, metadata={"option": spec})


def gpu_option(panel: str) -> Any:
    """The option --gpu of every job that computes on devices: None for processors, "" for devices chosen by the program."""
    words = "GPU ids as in RELION (0:1; none: all). Without it: CPUs."
    return option(None, words, panel, kind=str, metavar="[IDS]", bare=True)


def options_of(config: type) -> tuple[Option, ...]:
    """All options of a configuration dataclass, panel by panel, in the order of its fields."""
    found = []
    for field in dataclasses.fields(config):
        spec = field.metadata.get("option")
        if spec is not None:
            found.append(dataclasses.replace(spec, name=field.name, flag=spec.flag or field.name))
    panels = list(dict.fromkeys(spec.panel for spec in found))
    return tuple(sorted(found, key=lambda spec: panels.index(spec.panel)))


def coerce(spec: Option, value: Any) -> Value | None:
    """Turn text from a command line, or a Python object, into the type of the option.

    Raises
    ------
    ConfigError
        The value has the wrong type; the message shows the flag, the value and what was expected.
    """
    if spec.kind is bool:
        return _to_switch(spec, value)
    if value is None and spec.default is None:
        return None
    if spec.kind is str:
        return _to_text(spec, value)
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if spec.kind is float:
            return number
        if number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        expected = "a whole number" if spec.kind is int else "a number"
        raise ConfigError(f"--{spec.flag} {value}: expected {expected}{_in_unit(spec)}") from None
    return int(number)


def check_range(spec: Option, value: Value | None) -> None:
    """Raise ConfigError when a value lies outside the option's range or choices."""
    if spec.choices and value not in spec.choices:
        nearest = suggest(str(value), spec.choices)
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise ConfigError(f"--{spec.flag} {value}: expected one of {', '.join(spec.choices)}{hint}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value in spec.special:
        return
    if (
        value != value
        or (spec.minimum is not None and value < spec.minimum)
        or (spec.maximum is not None and value > spec.maximum)
        or (spec.above is not None and value <= spec.above)
    ):
        raise ConfigError(f"--{spec.flag} {value:g}: expected {allowed_text(spec)} (default {spec.default})")


def allowed_text(spec: Option) -> str:
    """The range of a numeric option in words, e.g. "a number above 0 A, or -1"."""
    words = "a whole number" if spec.kind is int else "a number"
    if spec.minimum is not None and spec.maximum is not None:
        words += f" from {spec.minimum:g} to {spec.maximum:g}"
    elif spec.minimum is not None:
        words += f" of at least {spec.minimum:g}"
    elif spec.above is not None and spec.maximum is not None:
        words += f" above {spec.above:g}, up to {spec.maximum:g}"
    elif spec.above is not None:
        words += f" above {spec.above:g}"
    elif spec.maximum is not None:
        words += f" of at most {spec.maximum:g}"
    words += f" {spec.unit}" if spec.unit else ""
    return words + "".join(f", or {value:g}" for value in spec.special)


def as_text(value: Value | None) -> str:
    """A value as it is shown to the user."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return '""' if value == "" else str(value)


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a misspelt one, or the empty string."""
    by_lower = {word.lower(): word for word in known}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[match[0]] if match else ""


def by_name(options: Iterable[Option]) -> Mapping[str, Option]:
    """Options by field name and by flag (with dashes written as underscores)."""
    table: dict[str, Option] = {}
    for spec in options:
        table[spec.flag.replace("-", "_")] = spec
        table.setdefault(spec.name, spec)
    return table


def _to_switch(spec: Option, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "on", "yes"):
        return True
    if text in ("0", "false", "off", "no"):
        return False
    raise ConfigError(f"--{spec.flag} {value}: a switch is on or off (True or False in Python)")


def _to_text(spec: Option, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike, int)) or isinstance(value, bool):
        raise ConfigError(f"--{spec.flag} {value!r}: expected text or a path")
    text = str(value) if isinstance(value, int) else os.fspath(value)
    # RELION prints "None" for a file that is not given, and scripts pass it back
    return "" if text == "None" and spec.default == "" else str(text)


def _in_unit(spec: Option) -> str:
    return f" ({spec.unit})" if spec.unit else ""
