"""The help of a command, made from its flags."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pybuild.cli.flags import Flag

_COLUMN = 34


def usage(program: str, commands: Mapping[str, str]) -> str:
    """The short form that stands under an error."""
    lines = ["Usage:", f"  {program} [flags]"]
    if commands:
        lines.append(f"  {program} [command]")
    return "\n".join([*lines, "", f'Use "{program} --help" for all flags.', ""])


def help_text(program: str, about: str, flags: Iterable[Flag], commands: Mapping[str, str], width: int = 0) -> str:
    """The long form: what the command does, other commands, flags by group. ``width`` 0 is the terminal's."""
    width = width or terminal_width()
    parts = [about, "", "Usage:", f"  {program} [flags]"]
    if commands:
        parts += [f"  {program} [command]", "", "Commands:"]
        parts += [f"  {name:<{_COLUMN - 2}}{meaning}" for name, meaning in commands.items()]
    groups: dict[str, list[Flag]] = {}
    for flag in flags:
        if not flag.hidden:
            groups.setdefault(flag.group, []).append(flag)
    for group, members in groups.items():
        parts += ["", f"{group}:"]
        for flag in members:
            parts += flag_lines(flag, width)
    return "\n".join([*parts, "", "Other:", *entry("  -h, --help", "This text.", width), ""])


def flag_lines(flag: Flag, width: int) -> list[str]:
    left = f"  -{flag.short}, " if flag.short else "      "
    left += f"--{flag.name}" + (f" {flag.value}" if flag.value else "")
    meaning = flag.meaning
    if flag.default:
        meaning += f" (default {flag.default})"
    if flag.variable:
        meaning += f" [${flag.variable}]"
    if flag.status != "works":
        meaning += f" {'No effect' if flag.status == 'accepted' else 'Refused'}: {flag.note}."
    return entry(left, meaning, width)


def entry(left: str, meaning: str, width: int) -> list[str]:
    """One flag: the name, and its meaning wrapped beside or below it."""
    lines = wrapped(meaning, max(20, width - _COLUMN))
    pad = " " * _COLUMN
    first = f"{left:<{_COLUMN - 1}} {lines[0]}" if len(left) < _COLUMN else f"{left}\n{pad}{lines[0]}"
    return [first, *(pad + line for line in lines[1:])]


def wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def terminal_width() -> int:
    """Columns of the terminal, at most 120; 100 when there is none."""
    try:
        return min(120, os.get_terminal_size(1).columns or 100)
    except OSError:
        return 100
