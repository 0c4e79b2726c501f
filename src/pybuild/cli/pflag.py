"""Reading a command line as Go's pflag does, which kaniko's users have in their scripts.

``--name value``, ``--name=value``, ``-n value``, ``-n=value``, ``-nvalue``; a boolean takes a value only after ``=``; flags and
arguments may be mixed; ``--`` ends the flags. The words of the errors are pflag's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pybuild.cli.flags import Flag
from pybuild.cli.values import parse_value
from pybuild.errors import UsageError


class HelpWanted(Exception):
    """``--help`` or ``-h`` was given."""


@dataclass(slots=True)
class Values:
    """What a command line says: the value of every flag, which flags were given, the arguments, and warnings to print."""

    values: dict[str, Any]
    given: set[str] = field(default_factory=set)
    arguments: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        return str(self.values[name])

    def on(self, name: str) -> bool:
        return bool(self.values[name])

    def number(self, name: str) -> int:
        return int(self.values[name])

    def seconds(self, name: str) -> float:
        return float(self.values[name])

    def texts(self, name: str) -> list[str]:
        return list(self.values[name])

    def pairs(self, name: str) -> dict[str, str]:
        return dict(self.values[name])

    def multi(self, name: str) -> dict[str, list[str]]:
        return {key: list(found) for key, found in self.values[name].items()}


class FlagTable:
    """The flags of a command by every name that they have."""

    def __init__(self, flags: Iterable[Flag]) -> None:
        self.flags = tuple(flags)
        self.long = {name: flag for flag in self.flags for name in (flag.name, *flag.old)}
        self.short = {flag.short: flag for flag in self.flags if flag.short}

    def defaults(self) -> Values:
        return Values(
            {flag.name: parse_value(flag.kind, flag.default) if flag.default else empty(flag) for flag in self.flags}
        )

    def takes_next(self, word: str) -> bool:
        """Whether the word after this one is its value, for finding the first argument. Unknown flags are taken to have one."""
        if word.startswith("--"):
            flag = self.long.get(word[2:])
            return "=" not in word and (flag is None or flag.kind != "bool")
        for i, letter in enumerate(word[1:], 1):
            flag = self.short.get(letter)
            if flag is None or flag.kind != "bool":
                return i == len(word) - 1 and letter != "h"
        return False


def empty(flag: Flag) -> Any:
    """The value of a flag without default that was not given."""
    match flag.kind:
        case "bool":
            return False
        case "int":
            return 0
        case "duration":
            return 0.0
        case "list" | "names":
            return []
        case "pairs" | "map":
            return {}
        case _:
            return ""


def first_argument(words: Sequence[str], table: FlagTable) -> int:
    """The position of the first word that is neither a flag nor a flag's value, -1 when there is none."""
    i = 0
    while i < len(words):
        word = words[i]
        if word == "--":
            return -1
        if not word.startswith("-") or word == "-":
            return i
        i += 2 if table.takes_next(word) else 1
    return -1


def parse(words: Sequence[str], table: FlagTable) -> Values:
    """Read a command line. ``UsageError`` in pflag's words; ``HelpWanted`` at ``--help``."""
    found = table.defaults()
    pending = list(words)
    while pending:
        word = pending.pop(0)
        if word == "--":
            found.arguments += pending
            break
        if not word.startswith("-") or word == "-":
            found.arguments.append(word)
        elif word.startswith("--"):
            long_flag(word, pending, table, found)
        else:
            short_flags(word, pending, table, found)
    return found


def long_flag(word: str, pending: list[str], table: FlagTable, found: Values) -> None:
    name, equals, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise UsageError(f"bad flag syntax: {word}")
    flag = table.long.get(name)
    if flag is None:
        if name == "help":
            raise HelpWanted
        raise UsageError(f"unknown flag: --{name}", hint=nearest(name, table))
    if not equals:
        if flag.kind == "bool":
            value = "true"
        elif pending:
            value = pending.pop(0)
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    put(flag, name, value, found)


def short_flags(word: str, pending: list[str], table: FlagTable, found: Values) -> None:
    letters = word[1:]
    while letters:
        letter, rest = letters[0], letters[1:]
        flag = table.short.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpWanted
            raise UsageError(f"unknown shorthand flag: {letter!r} in {word}", hint=two_dashes(word, table))
        if rest.startswith("="):
            put(flag, flag.name, rest[1:], found)
            return
        if flag.kind == "bool":
            put(flag, flag.name, "true", found)
            letters = rest
            continue
        if rest:
            value = rest
        elif pending:
            value = pending.pop(0)
        else:
            raise UsageError(f"flag needs an argument: {letter!r} in {word}")
        put(flag, flag.name, value, found)
        return


def put(flag: Flag, name: str, text: str, found: Values) -> None:
    """Set a flag, or add to it; a list's first value replaces the default."""
    try:
        value = parse_value(flag.kind, text)
    except ValueError as e:
        raise UsageError(f'invalid argument "{text}" for "{flag.title}" flag: {e}') from None
    if flag.kind in ("list", "names"):
        before = found.values[flag.name] if flag.name in found.given else []
        found.values[flag.name] = [*before, *value]
    elif flag.kind == "pairs":
        found.values[flag.name] = {**found.values[flag.name], **value}
    elif flag.kind == "map":
        add_to_map(found.values[flag.name], value)
    else:
        found.values[flag.name] = value
    if flag.reason and name != flag.name:
        found.warnings.append(f"Flag --{name} has been deprecated, {flag.reason}")
    elif name in flag.renamed:
        found.warnings.append(f"Flag --{name} is deprecated. Use: --{flag.name}")
    found.given.add(flag.name)


def add_to_map(target: dict[str, list[str]], more: dict[str, list[str]]) -> None:
    for key, values in more.items():
        target.setdefault(key, []).extend(values)


def nearest(name: str, table: FlagTable) -> str:
    """A hint with the flag that was most likely meant."""
    from pybuild.dockerfile.suggest import closest

    shown = [n for n, flag in table.long.items() if not flag.hidden]
    found = closest(name, shown) or next((n for n in shown if n.startswith(name)), "")
    return f"did you mean --{found}?" if found else ""


def two_dashes(word: str, table: FlagTable) -> str:
    """A hint for those who wrote a long name with one dash."""
    name = word[1:].partition("=")[0]
    return f"did you mean --{name}? Long names have two dashes" if name in table.long else ""
