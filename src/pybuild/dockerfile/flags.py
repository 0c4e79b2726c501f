"""Flags of instructions: ``--name``, ``--name=value``.

Source of the grammar: BuildKit. Boolean: ``--x`` or ``--x=true|false`` in any case. A flag with a value needs ``=``. Only the
flags that are lists may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pybuild.dockerfile.suggest import did_you_mean
from pybuild.dockerfile.text_error import TextError

Kind = Literal["bool", "string", "list"]

FLAGS: Mapping[str, Mapping[str, Kind]] = {
    "from": {"platform": "string"},
    "add": {
        "chown": "string",
        "chmod": "string",
        "link": "bool",
        "keep-git-dir": "bool",
        "checksum": "string",
        "unpack": "bool",
        "exclude": "list",
    },
    "copy": {
        "from": "string",
        "chown": "string",
        "chmod": "string",
        "link": "bool",
        "parents": "bool",
        "exclude": "list",
    },
    "run": {"mount": "list", "network": "string", "security": "string", "device": "list"},
    "healthcheck": {
        "interval": "string",
        "timeout": "string",
        "start-period": "string",
        "start-interval": "string",
        "retries": "string",
    },
}
#: these take none, and do not look whether some were given (as BuildKit)
UNCHECKED = frozenset(("arg", "stopsignal"))


class Flags:
    """The flags of one instruction, checked."""

    __slots__ = ("lists", "values")

    def __init__(self, values: dict[str, str], lists: dict[str, list[str]]) -> None:
        self.values = values
        self.lists = lists

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def true(self, name: str) -> bool:
        return self.values.get(name) == "true"

    def choice(self, name: str) -> bool | None:
        """A boolean flag that may be absent."""
        value = self.values.get(name)
        return None if value is None else value == "true"

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(self.lists.get(name, ()))


_NONE = Flags({}, {})


def parse_flags(instruction: str, words: Sequence[str]) -> Flags:
    """Check an instruction's flags (``instruction`` in lower case); ``TextError`` for anything that it does not take."""
    if not words:
        return _NONE
    known = FLAGS.get(instruction, {})
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        shown = f"--{name}"
        kind = known.get(name)
        if kind is None:
            hint = did_you_mean(shown, [f"--{k}" for k in known])
            if not hint:
                hint = f"{instruction.upper()} takes " + (", ".join(f"--{k}" for k in known) if known else "no flags")
            raise TextError(f"unknown flag: {shown}", shown, hint=hint)
        if kind == "list":
            if not equals:
                raise TextError(f"missing a value on flag: {shown}", shown, hint=f"write {shown}=VALUE")
            lists.setdefault(name, []).append(value)
            continue
        if name in values:
            raise TextError(f"duplicate flag specified: {shown}", shown, hint="give it once")
        if kind == "string":
            if not equals:
                raise TextError(f"missing a value on flag: {shown}", shown, hint=f"write {shown}=VALUE")
            values[name] = value
            continue
        if equals and not value:
            raise TextError(f"missing a value on flag: {shown}", shown, hint=f"write {shown} or {shown}=true")
        lower = value.lower() or "true"
        if lower not in ("true", "false"):
            raise TextError(
                f"expecting boolean value for flag {shown}, not: {value}", shown, hint="it takes true or false"
            )
        values[name] = lower
    return Flags(values, lists)
