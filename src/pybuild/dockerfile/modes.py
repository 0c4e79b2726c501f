"""File modes of ``--chmod``: octal (``755``, ``01777``) or symbolic (``u=rwX,go-w``).

Symbolic modes mean what BuildKit makes of them, which is BSD's setmode(3) with an empty umask: ``X`` looks at the mode that a file
had at first, ``=`` also drops the set-id bits of whom it names, ``s`` and ``t`` have no effect for others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pybuild.dockerfile.text_error import TextError

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_STANDARD = 0o6777
_OTHERS = 0o0007
_STICKY = 0o1000
_SHIFT = {"u": 6, "g": 3, "o": 0}
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
_OPERATION = re.compile(r"([-+=])([rwxXstugo]*)")


@dataclass(frozen=True, slots=True)
class Action:
    """One step: clear or set ``bits``; ``X``: set them when the file is a directory or had an execute bit; ``copy``: give the
    permissions of ``source`` (u, g or o) to those in ``targets``, ``op`` says how."""

    kind: Literal["clear", "set", "X", "copy"]
    bits: int = 0
    source: str = ""
    targets: str = ""
    op: str = ""


@dataclass(frozen=True, slots=True)
class ModeChange:
    """What ``--chmod`` does to a mode: sets it (``octal``) or changes it (``actions``)."""

    octal: int | None = None
    actions: tuple[Action, ...] = ()

    def apply(self, mode: int, is_dir: bool) -> int:
        """The new mode (bits 07777) of a file or directory that has ``mode``."""
        if self.octal is not None:
            return self.octal
        before = mode = mode & 0o7777
        for action in self.actions:
            if action.kind == "clear":
                mode &= ~action.bits
            elif action.kind == "set":
                mode |= action.bits
            elif action.kind == "X":
                if is_dir or before & 0o111:
                    mode |= action.bits
            else:
                mode = _copy(action, mode)
        return mode


def _copy(action: Action, mode: int) -> int:
    value = (mode >> _SHIFT[action.source]) & 0o7
    for who in action.targets:
        if action.op == "=":
            mode &= ~(0o7 << _SHIFT[who])
        if action.op == "-":
            mode &= ~(value << _SHIFT[who])
        else:
            mode |= value << _SHIFT[who]
    return mode


def parse_chmod(text: str) -> ModeChange:
    """Read the value of ``--chmod`` (already expanded); ``TextError`` when it is malformed."""
    if re.fullmatch(r"[0-7]{1,16}", text) and (value := int(text, 8)) <= 0o7777:
        return ModeChange(octal=value)
    clauses = [] if len(text) > 1000 else [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    actions: list[Action] = []
    for clause in clauses or [None]:
        if clause is None:
            raise TextError(
                f"invalid chmod parameter: {text!r}. it should be octal string and between 0 and 07777, or a symbolic mode",
                hint="write it like 755, 0644 or u=rwX,go=rX",
            )
        who = 0
        for letter in clause[1]:
            who |= _WHO[letter]
        for op, letters in _OPERATION.findall(clause[2]):
            who = _operation(actions, who, op, letters)
    return ModeChange(actions=tuple(actions))


def _operation(actions: list[Action], who: int, op: str, letters: str) -> int:
    """Append what one operator does; the mask of whom it is about, for the next operator of the clause."""
    who &= ~_STICKY
    bits = execute = 0
    done = False
    for letter in letters:
        if letter == "r":
            bits |= 0o444
        elif letter == "w":
            bits |= 0o222
        elif letter == "x":
            bits |= 0o111
        elif letter == "X":
            if op != "-":
                execute = 0o111
        elif letter == "s":
            if not who or who & ~_OTHERS:
                bits |= 0o6000
        elif letter == "t":
            if not who or who & ~_OTHERS:
                who |= _STICKY
                bits |= _STICKY
        else:
            _change(actions, who, op, bits)
            _execute(actions, who, execute)
            bits = execute = 0
            done = True
            targets = "".join(w for w in "ugo" if not who or who & (0o4 << _SHIFT[w]))
            actions.append(Action("copy", source=letter, targets=targets, op=op))
    if bits or (op == "=" and not done):
        _change(actions, who, op, bits, force=True)
    _execute(actions, who, execute)
    return who


def _change(actions: list[Action], who: int, op: str, bits: int, *, force: bool = False) -> None:
    if not bits and not force:
        return
    if op == "=":
        actions.append(Action("clear", who or _STANDARD))
    bits &= who or 0o7777
    if bits:
        actions.append(Action("clear" if op == "-" else "set", bits))


def _execute(actions: list[Action], who: int, execute: int) -> None:
    if execute:
        actions.append(Action("X", execute & (who or 0o7777)))
