"""An instruction's text taken apart: name, flags and arguments, by the shape that each instruction has.

Source of the behaviour: BuildKit's line parsers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pybuild.dockerfile.spaces import BLANKS, SPACE, SPACES
from pybuild.dockerfile.text_error import TextError

HEREDOC_INSTRUCTIONS = frozenset(("add", "copy", "run"))
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Node:
    """``name`` as written; ``args`` by the instruction's shape; ``json`` when they came from a JSON array; ``child`` of ONBUILD.
    ``legacy``: ENV or LABEL without ``=``."""

    name: str
    flags: tuple[str, ...]
    args: tuple[str, ...]
    json: bool = False
    legacy: bool = False
    child: Node | None = None
    rest: str = ""

    @property
    def key(self) -> str:
        return self.name.lower()

    def takes_heredocs(self) -> bool:
        node = self.child if self.key == "onbuild" and self.child is not None else self
        return node.key in HEREDOC_INSTRUCTIONS and not node.json


def split_flags(text: str) -> tuple[tuple[str, ...], str]:
    """Leading words that begin with ``--``, and what follows them. A lone ``--`` ends them. Quotes and ``\\`` are resolved."""
    flags: list[str] = []
    at, end = 0, len(text)
    while True:
        while at < end and text[at] in SPACE:
            at += 1
        if not text.startswith("--", at):
            return tuple(flags), text[at:]
        word: list[str] = []
        quote = ""
        while at < end:
            ch = text[at]
            if not quote and ch in SPACE:
                break
            if not quote and ch in "'\"":
                quote = ch
            elif ch == quote:
                quote = ""
            elif ch == "\\":
                at += 1
                if at == end:
                    break
                word.append(text[at])
            else:
                word.append(ch)
            at += 1
        flag = "".join(word)
        if flag == "--":
            return tuple(flags), text[at:]
        if flag:
            flags.append(flag)


def parse_node(text: str, escape: str, depth: int = 0) -> Node:
    """Take one instruction apart; ``TextError`` where its arguments cannot have the shape they need."""
    parts = BLANKS.split(text.strip(SPACES), maxsplit=1)
    name = parts[0]
    flags, rest = split_flags(parts[1]) if len(parts) == 2 else ((), "")
    rest = rest.strip(SPACES)
    match name.lower():
        case "add" | "copy" | "volume":
            items = json_array(rest)
            if items is not None:
                return Node(name, flags, items, json=True, rest=rest)
            return Node(name, flags, tuple(BLANKS.split(rest)) if rest else (), rest=rest)
        case "run" | "cmd" | "entrypoint" | "shell":
            items = json_array(rest)
            if items is not None:
                return Node(name, flags, items, json=True, rest=rest)
            return Node(name, flags, (rest,) if rest else (), rest=rest)
        case "env" | "label" as key:
            args, legacy = name_values(rest, key.upper(), escape)
            return Node(name, flags, args, legacy=legacy, rest=rest)
        case "arg":
            return Node(name, flags, tuple(shell_words(rest, escape)), rest=rest)
        case "from" | "expose":
            return Node(name, flags, tuple(BLANKS.split(rest)) if rest else (), rest=rest)
        case "maintainer" | "stopsignal" | "user" | "workdir":
            return Node(name, flags, (rest,) if rest else (), rest=rest)
        case "healthcheck":
            return healthcheck(name, flags, rest)
        case "onbuild":
            if not rest:
                return Node(name, flags, ())
            if depth:
                # refused later, whatever it holds
                return Node(name, flags, (rest,), rest=rest)
            child = parse_node(rest, escape, depth + 1)
            return Node(name, flags, (child.name, *child.args), child=child, rest=rest)
        case _:
            # refused later, by name
            return Node(name, flags, ("",), rest=rest)


def json_array(text: str) -> tuple[str, ...] | None:
    """A JSON array of strings; ``None`` when the text is none (it has the shell form then). ``TextError`` when it is an array of
    anything else."""
    if not text.startswith("["):
        return None
    try:
        items = json.loads(text, parse_int=float, parse_constant=_refuse_constant)
    except RecursionError:
        items = [None]
    except ValueError:
        return None
    if not all(isinstance(item, str) for item in items):
        raise TextError(
            "when using JSON array syntax, arrays must be comprised of strings only",
            "[",
            hint='put every item in double quotes: ["a", "1"]',
        )
    return tuple(_SURROGATE.sub("\ufffd", item) for item in items)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def shell_words(text: str, escape: str) -> list[str]:
    """Words separated by blanks that are not quoted or escaped; quotes and escapes stay in them."""
    words: list[str] = []
    word: list[str] = []
    at, end = 0, len(text)
    started = False
    while at < end:
        ch = text[at]
        if ch in SPACE:
            if started or word:
                words.append("".join(word))
                word.clear()
                started = False
            at += 1
            continue
        if ch in "'\"":
            started = True
            close = _quote_end(text, at, ch, escape)
            # an escape character that ends the line within double quotes is dropped
            dangling = close > end
            word.append(text[at : end - 1] if dangling else text[at:close])
            at = close
            continue
        if ch == escape:
            if at + 1 < end:
                word.append(text[at : at + 2])
            at += 2
            continue
        word.append(ch)
        at += 1
    if started or word:
        words.append("".join(word))
    return words


def _quote_end(text: str, at: int, quote: str, escape: str) -> int:
    """Where a quoted part that begins at ``at`` is over; the end of the text when it is not closed, beyond it when an escape
    character is the last one."""
    end = len(text)
    at += 1
    while at < end:
        ch = text[at]
        if ch == quote:
            return at + 1
        at += 2 if ch == escape and quote != "'" else 1
    return at


def name_values(text: str, instruction: str, escape: str) -> tuple[tuple[str, ...], bool]:
    """``name=value`` pairs as a flat list of names and values, or the old form ``name rest of line`` (then the flag is true)."""
    words = shell_words(text, escape)
    if not words:
        return (), False
    if "=" not in words[0]:
        parts = BLANKS.split(text, maxsplit=1)
        if len(parts) < 2:
            raise TextError(
                f"{instruction} must have two arguments", words[0], hint=f"write {instruction} {words[0]}=value"
            )
        return (parts[0], parts[1]), True
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise TextError(
                f"Syntax error - can't find = in {json.dumps(word, ensure_ascii=False)}. Must be of the form: name=value",
                word,
                hint="quote a value that has blanks",
            )
        found += (name, value)
    return tuple(found), False


def healthcheck(name: str, flags: tuple[str, ...], rest: str) -> Node:
    """A type, then a command in JSON or shell form."""
    parts = re.split(f"[{SPACES}]+", rest, maxsplit=1)
    kind = parts[0]
    command = parts[1] if len(parts) == 2 else ""
    if not kind:
        return Node(name, flags, (), rest=rest)
    items = json_array(command)
    if items is not None:
        return Node(name, flags, (kind, *items), json=True, rest=rest)
    return Node(name, flags, (kind, command) if command else (kind,), rest=rest)
