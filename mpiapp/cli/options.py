"""A command's argument parser, made from its configuration dataclass."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from mpiapp.cli.console import is_leader
from mpiapp.config.job import JobConfig, unknown_option
from mpiapp.config.option import Option, as_text, options_of
from mpiapp.config.relion_flags import ForeignFlag, judge
from mpiapp.errors import ConfigError

Config = TypeVar("Config", bound=JobConfig)

NUMBER = re.compile(r"-\.?\d")


def parse(config_class: type[Config], argv: Sequence[str], summary: str, example: str) -> Config | None:
    """Turn a command line into a validated-by-type configuration.

    Parameters
    ----------
    config_class : type
        The configuration dataclass.
    argv : sequence of str
        Arguments after the command.
    summary, example : str
        Shown above and below the options in the help.

    Returns
    -------
    JobConfig or None
        None when help was asked for; the leader has printed it.

    Raises
    ------
    ConfigError
        Unknown or refused flag, missing value, wrong type.
    """
    tokens = normalise(argv)
    if any(token in ("-h", "--help") for token in tokens):
        if is_leader():
            print(help_text(config_class, summary, example))
        return None
    parser = _build_parser(config_class)
    namespace, extra = parser.parse_known_args(tokens)
    if extra:
        raise _explain_extra(config_class, extra)
    values: dict[str, Any] = vars(namespace)
    notes: list[str] = values.pop(_NOTES, None) or []
    return config_class.from_options(values, tuple(notes))


def normalise(argv: Sequence[str]) -> list[str]:
    """Flags with underscores for dashes; a negative number is joined to its flag.

    ``--ini-high 30`` becomes ``--ini_high 30`` and ``--perturb -1e-3`` becomes ``--perturb=-1e-3``, which
    argparse would otherwise take for a flag.
    """
    tokens: list[str] = []
    for token in argv:
        if token.startswith("--") and len(token) > 2:
            name, equals, value = token[2:].partition("=")
            tokens.append(f"--{name.replace('-', '_')}{equals}{value}")
        elif NUMBER.match(token) and tokens and tokens[-1].startswith("--") and "=" not in tokens[-1]:
            tokens[-1] += f"={token}"
        else:
            tokens.append(token)
    return tokens


def help_text(config_class: type[JobConfig], summary: str, example: str) -> str:
    """The help page of a command: options by panel, each with unit and default."""
    width = max(72, min(shutil.get_terminal_size((100, 24)).columns, 110))
    lines = [f"usage: mpiapp {config_class.command} [options]", "", *textwrap.wrap(summary, width)]
    panel = ""
    for spec in options_of(config_class):
        if spec.panel != panel:
            panel = spec.panel
            lines += ["", f"{panel}:"]
        lines += _help_entry(spec, width)
    lines += _foreign_entry(config_class, width)
    return "\n".join([*lines, "", "Example:", *(f"  {line}" for line in example.splitlines())])


_NOTES = "_notes"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ")
        raise ConfigError(text.replace(": expected one argument", ": its value is missing"))


class _Store(argparse.Action):
    """Keep a value; of a flag that stands twice the last counts, and a note says so."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        value = self.const if self.nargs == 0 else values
        seen = vars(namespace).get(self.dest, value)
        if seen != value:
            _note(namespace, f"{option_string}: given more than once, the last counts ({as_text(value)})")
        setattr(namespace, self.dest, value)


class _Foreign(argparse.Action):
    """A flag of RELION's that is no option here: note it or refuse it."""

    def __init__(self, *args: Any, flag: ForeignFlag, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.flag = flag

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        _note(namespace, judge(self.flag, values if self.flag.takes_value else None))


def _note(namespace: argparse.Namespace, line: str) -> None:
    setattr(namespace, _NOTES, [*(getattr(namespace, _NOTES, None) or []), line])


def _build_parser(config_class: type[JobConfig]) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for spec in options_of(config_class):
        if spec.kind is bool:
            parser.add_argument(f"--{spec.flag}", dest=spec.name, action=_Store, nargs=0, const=True)
            parser.add_argument(f"--no_{spec.flag}", dest=spec.name, action=_Store, nargs=0, const=False)
        elif spec.bare:
            parser.add_argument(f"--{spec.flag}", dest=spec.name, action=_Store, nargs="?", const="")
        else:
            parser.add_argument(f"--{spec.flag}", dest=spec.name, action=_Store)
    own = set(parser._option_string_actions)
    for flag in config_class.foreign_flags().values():
        if f"--{flag.name}" not in own:
            nargs: Any = "?" if flag.takes_value else 0
            parser.add_argument(f"--{flag.name}", dest=_NOTES, action=_Foreign, flag=flag, nargs=nargs)
    return parser


def _explain_extra(config_class: type[JobConfig], extra: Sequence[str]) -> ConfigError:
    for token in extra:
        if token.startswith("-") and not NUMBER.match(token):
            return unknown_option(config_class, token.partition("=")[0])
    return ConfigError(
        f"unexpected argument {extra[0]}: each value follows its flag; "
        f"see mpiapp {config_class.command} --help"
    )


def _foreign_entry(config_class: type[JobConfig], width: int) -> list[str]:
    lines = []
    flags = config_class.foreign_flags().values()
    ignored = " ".join(f"--{flag.name}" for flag in flags if not flag.refused)
    if ignored:
        lines += ["", "Accepted without effect, so that RELION command lines paste in:"]
        lines += textwrap.wrap(
            ignored, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )
    if any(flag.refused for flag in flags):
        lines += ["", "Flags of RELION's that would change the result and are not implemented are refused."]
    return lines


def _help_entry(spec: Option, width: int) -> list[str]:
    names = f"--{spec.flag}"
    if spec.kind is bool:
        names += f", --no_{spec.flag}" if spec.default else ""
    else:
        names += f" {_metavar(spec)}"
    text = f"{spec.help} {_default(spec)}".strip()
    indent = " " * 34
    wrapped = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    if len(names) > 30:
        return [f"  {names}", *wrapped]
    return [f"  {names:<32}{wrapped[0].strip()}", *wrapped[1:]]


def _metavar(spec: Option) -> str:
    if spec.metavar:
        return spec.metavar
    if spec.choices:
        return "|".join(spec.choices)
    if spec.kind is str:
        return "FILE"
    return spec.unit.upper() if spec.unit else "N"


def _default(spec: Option) -> str:
    if spec.kind is bool:
        return "[on]" if spec.default else ""
    return f"[{as_text(spec.default)}]" if spec.default not in ("", None) else ""
