"""What the configurations of all jobs share: building from flags, listing, storing, continuing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from mpiapp.config.option import Value, as_text, by_name, check_range, coerce, options_of, suggest
from mpiapp.config.relion_flags import ForeignFlag, flag_table, judge
from mpiapp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Base of the configuration dataclasses, whose fields are made with :func:`~mpiapp.config.option.option`.

    Attributes
    ----------
    given : frozenset of str
        Fields that the user named, as opposed to defaults that applied.
    notes : tuple of str
        Lines for the user about flags that were accepted without effect.
    """

    command: ClassVar[str] = ""
    # flags of RELION's program that are no options here, as in relion_flags.py: reason -> names
    ignored_flags: ClassVar[Mapping[str, str]] = {}
    refused_flags: ClassVar[Mapping[str, str]] = {}

    given: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Self:
        """Build a configuration from values by flag or field name, as the command line and Python calls do.

        Parameters
        ----------
        options : mapping
            RELION's flag names (``i``, ``ref``, ``healpix_order``...) or field names; dashes count as
            underscores; text is converted. RELION's other flags are noted or refused.
        notes : tuple of str
            Lines to put before those about flags without effect.

        Raises
        ------
        ConfigError
            Unknown name, wrong type, or a flag that is refused.
        """
        known, foreign = by_name(options_of(cls)), cls.foreign_flags()
        values: dict[str, Any] = {}
        lines = list(notes)
        for key, value in options.items():
            name = key.lstrip("-").replace("-", "_")
            if name in known:
                values[known[name].name] = coerce(known[name], value)
            elif name in foreign:
                lines.append(judge(foreign[name], value))
            elif name.startswith("no_") and name[3:] in known and known[name[3:]].kind is bool:
                spec = known[name[3:]]
                values[spec.name] = not coerce(spec, value)
            else:
                raise unknown_option(cls, key)
        return cls(**values, given=frozenset(values), notes=tuple(lines))

    @classmethod
    def foreign_flags(cls) -> dict[str, ForeignFlag]:
        """Flags of RELION's program that are no options here, by name."""
        options = options_of(cls)
        own = {spec.flag for spec in options} | {f"no_{spec.flag}" for spec in options if spec.kind is bool}
        flags = flag_table(cls.ignored_flags, cls.refused_flags)
        return {name: flag for name, flag in flags.items() if name not in own}

    def validate(self) -> Self:
        """Check ranges and combinations of options; files are checked where they are read.

        Returns
        -------
        This object, so that calls can be chained.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        for spec in options_of(type(self)):
            check_range(spec, getattr(self, spec.name))
        self.check_combinations()
        return self

    def check_combinations(self) -> None:
        """Raise ConfigError for options that are missing or contradict each other; each job has its own."""

    def describe(self) -> list[tuple[str, str, str]]:
        """Every option as (flag, value, "given" or "default"), in the order of the help."""
        return [
            (
                f"--{spec.flag}",
                as_text(getattr(self, spec.name)),
                "given" if self.is_given(spec.name) else "default",
            )
            for spec in options_of(type(self))
        ]

    def command_line(self) -> str:
        """The command line that stands for these options, whether they came from one or from Python."""
        given = [(f, v) for f, v, origin in self.describe() if origin == "given"]
        switches = {"on": "{}", "off": "--no_{}"}
        words = [
            switches[value].format(flag if value == "on" else flag[2:])
            if value in switches
            else f"{flag} {shlex.quote(value)}"
            for flag, value in given
        ]
        return " ".join([f"mpiapp {self.command}", *words])

    def is_given(self, name: str) -> bool:
        """Whether the user set this field, by name or by a value that is not the default."""
        default = type(self).__dataclass_fields__[name].default
        return name in self.given or bool(getattr(self, name) != default)

    def to_dict(self) -> dict[str, Value | None]:
        """All options by field name, as plain values that JSON can hold (for checkpoints)."""
        return {spec.name: getattr(self, spec.name) for spec in options_of(type(self))}

    def continued_from(self, stored: Mapping[str, Any]) -> Self:
        """The options of a run that goes on: stored values, overridden by those given now.

        Parameters
        ----------
        stored : mapping
            :meth:`to_dict` of the run before; names this version does not know are left out.

        Raises
        ------
        ConfigError
            An option was given that a continued run can not change.
        """
        values: dict[str, Any] = {}
        for spec in options_of(type(self)):
            now = getattr(self, spec.name)
            if spec.name not in stored or spec.per_call:
                values[spec.name] = now
                continue
            before = coerce(spec, stored[spec.name])
            # "automatic" on the new command line keeps what the first run chose
            given = self.is_given(spec.name) and not (spec.fixed and now in spec.special)
            if given and spec.fixed and now != before:
                raise ConfigError(
                    f"--{spec.flag} {as_text(now)}: the run that is continued had {as_text(before)}, and "
                    "this can not change on the way; leave it out, or start a new run without --continue"
                )
            values[spec.name] = now if given else before
        return type(self)(**values, given=self.given, notes=self.notes)


def unknown_option(config: type[JobConfig], text: str) -> ConfigError:
    """The error for a name that is no option, with the nearest one that is."""
    options = options_of(config)
    known = [spec.flag for spec in options]
    known += [f"no_{spec.flag}" for spec in options if spec.kind is bool and spec.default]
    name = text.lstrip("-").replace("-", "_")
    nearest = suggest(name, known) or suggest(name, config.foreign_flags())
    dashes = "--" if text.startswith("-") else ""
    hint = f"did you mean {dashes}{nearest}?" if nearest else f"see mpiapp {config.command} --help"
    return ConfigError(f"unknown option {text}; {hint}")
