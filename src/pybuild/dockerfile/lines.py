"""From bytes to instructions as text: physical lines, parser directives, comments, continuations, here-document bodies.

dockerfile-parse is not used for this: it knows neither here-documents nor comments within continuations as BuildKit reads them.
Source of the behaviour: the Dockerfile reference and BuildKit's parser. Linear in the size of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pybuild.dockerfile.heredocs import Mark
from pybuild.dockerfile.spaces import SPACES
from pybuild.dockerfile.text_error import TextError
from pybuild.errors import DockerfileError, Place

MAX_LINE = 65535
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_KNOWN = frozenset(("syntax", "escape", "check"))
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Logical:
    """An instruction as text: continuation lines joined, comments between them left out. Lines are 1-based."""

    text: str
    start: int
    end: int
    comments: tuple[str, ...] = ()
    #: the bodies of its here-documents, untouched, in the order of their marks
    bodies: list[tuple[Mark, str]] = field(default_factory=list)


@dataclass(slots=True)
class Source:
    """A file's physical lines (with their ends) and what its directives say."""

    file: str
    lines: list[str]
    escape: str = "\\"
    directives: dict[str, str] = field(default_factory=dict)
    #: line of each directive
    directive_lines: dict[str, int] = field(default_factory=dict)
    #: last lines of the instructions that have an empty line in a continuation
    empty_continuations: list[int] = field(default_factory=list)

    def line(self, number: int) -> str:
        """A physical line without its end; ``""`` beyond the file."""
        return self.lines[number - 1].rstrip("\r\n") if 0 < number <= len(self.lines) else ""

    def place(self, number: int, column: int | None = None) -> Place:
        return Place(self.file, number, column, self.line(number))

    def find(self, start: int, end: int, text: str) -> Place:
        """The place of ``text`` within some lines, with its column, as a word of its own if it is one somewhere; the first of the
        lines when it is nowhere."""
        numbers = range(start, min(end, len(self.lines)) + 1) if text else ()
        for pattern in (rf"(?<!\S){re.escape(text)}(?!\S)", re.escape(text)):
            for number in numbers:
                found = re.search(pattern, self.line(number))
                if found is not None:
                    return self.place(number, found.start())
        return self.place(start)


def decode_lines(data: bytes, file: str) -> list[str]:
    """Physical lines with their ends; bytes that are no UTF-8 survive as surrogates. A byte order mark is dropped."""
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    last = lines.pop()
    found = [line + "\n" for line in lines]
    if last:
        found.append(last)
    return found


def check_length(source: Source, number: int) -> None:
    """A line longer than BuildKit accepts is an error here too."""
    line = source.lines[number - 1]
    if len(line) > MAX_LINE // 4 and len(line.encode("utf-8", "surrogateescape").rstrip(b"\n")) > MAX_LINE:
        place = Place(source.file, number, None, line[:60] + "…")
        raise DockerfileError(
            f"dockerfile line greater than max allowed size of {MAX_LINE}", place=place, hint="split the line"
        )


def read_directive(source: Source, number: int, line: str) -> bool:
    """Take in a line that may be a parser directive; false when it is none, which ends them."""
    if not line.startswith("#"):
        return False
    match = _DIRECTIVE.fullmatch(line[1:].lstrip(SPACES))
    if match is None:
        return False
    name, value = match[1].lower(), match[2]
    if name not in _KNOWN:
        return False
    if name in source.directive_lines:
        raise DockerfileError(
            f"only one {name} parser directive can be used",
            place=source.place(number),
            hint=f"the first one is in line {source.directive_lines[name]}",
        )
    if name == "escape":
        if value not in ("\\", "`"):
            raise DockerfileError(
                f"invalid escape token {value!r} does not match ` or \\",
                place=source.find(number, number, value),
                hint="use \\ or `",
            )
        source.escape = value
    source.directives[name] = value
    source.directive_lines[name] = number
    return True


def read_shebang_directives(source: Source) -> None:
    """``syntax`` and ``check`` also count below a first line that begins with ``#!`` (``escape`` does not)."""
    if not source.lines or not source.lines[0].startswith("#!"):
        return
    below = Source(source.file, source.lines, directive_lines=dict(source.directive_lines))
    for number in range(2, len(source.lines) + 1):
        try:
            if not read_directive(below, number, source.line(number)):
                break
        except DockerfileError:
            break
    for name in ("syntax", "check"):
        if name in below.directives and name not in source.directives:
            source.directives[name] = below.directives[name]
            source.directive_lines[name] = below.directive_lines[name]


def continuation(line: str, escape: str) -> str | None:
    """The line without its continuation character, ``None`` when it has none: the escape character as the last one but blanks,
    not itself escaped."""
    trimmed = line.rstrip(" \t")
    if not trimmed.endswith(escape) or trimmed[-2:-1] == escape:
        return None
    return trimmed[:-1]


def read_logical(data: bytes, file: str, marks: Callable[[str], list[Mark]]) -> tuple[Source, list[Logical]]:
    """Split a file into instructions. ``marks`` tells which here-documents an instruction's text begins.

    Raises ``DockerfileError`` for bad directives, lines that are too long and here-documents without an end.
    """
    source = Source(file, decode_lines(data, file))
    lines = source.lines
    total = len(lines)
    found: list[Logical] = []
    comments: list[str] = []
    directives = True
    at = 0
    while at < total:
        at += 1
        check_length(source, at)
        line = lines[at - 1].rstrip("\r\n").lstrip(SPACES)
        if directives:
            directives = read_directive(source, at, line)
            if directives:
                continue
        if not line:
            comments.clear()
            continue
        if line[0] == "#":
            comment = line[1:].strip(SPACES)
            if comment:
                comments.append(comment)
            else:
                comments.clear()
            continue
        start = at
        escape = source.escape
        parts: list[str] = []
        empty = False
        rest = continuation(line, escape)
        parts.append(line if rest is None else rest)
        while rest is not None and at < total:
            at += 1
            check_length(source, at)
            line = lines[at - 1].rstrip("\r\n")
            content = line.lstrip(SPACES)
            if not content:
                empty = True
                continue
            if content[0] == "#":
                continue
            rest = continuation(line, escape)
            parts.append(line if rest is None else rest)
        if empty:
            source.empty_continuations.append(at)
        logical = Logical("".join(parts), start, at, tuple(comments))
        comments.clear()
        if not logical.text.strip(SPACES):
            # nothing but continuation characters
            raise DockerfileError("unknown instruction: a line without one", place=source.place(start))
        if "<<" in logical.text:
            try:
                wanted = marks(logical.text)
            except TextError as e:
                raise DockerfileError(e.message, place=source.place(start), hint=e.hint) from None
            for mark in wanted:
                at = read_body(source, logical, mark, at)
            logical.end = at
        found.append(logical)
    read_shebang_directives(source)
    return source, found


def read_body(source: Source, logical: Logical, mark: Mark, at: int) -> int:
    """Read a here-document's body that begins after line ``at``; the line of its end mark."""
    lines = source.lines
    first = at
    while at < len(lines):
        at += 1
        line = lines[at - 1].rstrip("\r\n")
        if mark.chomp:
            line = line.lstrip("\t")
        if line == mark.name:
            logical.bodies.append((mark, "".join(lines[first : at - 1])))
            return at
        check_length(source, at)
    raise DockerfileError(
        f"unterminated heredoc: no line {mark.name!r} ends it",
        place=source.find(logical.start, first, "<<"),
        hint=unterminated_hint(source, mark, first),
    )


def unterminated_hint(source: Source, mark: Mark, first: int) -> str:
    """Why the end mark was not recognised, when there is something like it."""
    for number in range(first + 1, len(source.lines) + 1):
        line = source.line(number)
        if line.strip() == mark.name:
            how = " or write <<- for leading tabs" if not mark.chomp and line.lstrip("\t") == mark.name else ""
            return f"line {number} has blanks beside it: the end mark must stand alone{how}"
    return f"put {mark.name} on a line of its own after the body"
