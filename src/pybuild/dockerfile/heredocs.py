"""Here-documents: which words of a line begin one, and what their bodies become.

Source: the Dockerfile reference and BuildKit's parser: digits, ``<<``, ``-``, blanks, a name. A quote anywhere in the name keeps
the body from being expanded; ``-`` drops leading tabs from the body and the end mark. ``<<<`` begins none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.words import process

_WORD = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)", re.ASCII)
_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a here-document's word says: the end mark, whether the body is expanded and loses its tabs, the file descriptor."""

    name: str
    expand: bool
    chomp: bool
    fd: int = 0


def parse_mark(word: str) -> Mark | None:
    """Read one word (quotes and escapes still in it); ``None`` when it begins no here-document. ``TextError`` when it is malformed."""
    match = _WORD.fullmatch(word)
    if match is None or not match[3]:
        return None
    plain = process(match[3], {}, skip_unset=True).words
    if len(plain) != 1:
        return None
    raw = process(match[3], {}, skip_unset=True, raw_quotes=True).words
    if len(raw) != 1:
        return None
    expand = _quotes(plain[0]) == _quotes(raw[0])
    return Mark(plain[0], expand, match[2] == "-", int(match[1][-9:] or 0))


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def try_mark(word: str) -> Mark | None:
    """``parse_mark``, with a malformed word taken as no here-document."""
    if "<<" not in word:
        return None
    try:
        return parse_mark(word)
    except TextError:
        return None


def marks_of_line(line: str) -> list[Mark]:
    """The here-documents that an instruction's line begins, in order. A line that cannot be split into words begins none."""
    try:
        words = process(line, {}, raw_quotes=True, raw_escapes=True, skip_unset=True).words
    except TextError:
        return []
    return [mark for word in words if "<<" in word and (mark := parse_mark(word)) is not None]


def chomp(body: str) -> str:
    """The body without the tabs that lines begin with (``<<-``)."""
    return _TABS.sub("", body)
