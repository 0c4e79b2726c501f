"""Ignore files: reading ``.dockerignore``, and the matcher for what is in it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from pybuild.dockerfile.spaces import SPACES
from pybuild.errors import DockerfileError, Place

if TYPE_CHECKING:
    from pybuild._native.match import Matcher


def read_ignore(data: bytes, file: str = ".dockerignore") -> list[str]:
    """The patterns of an ignore file, in order, cleaned, ``!`` kept in front.

    A byte order mark is dropped; lines with ``#`` in their first column are comments; blanks around a pattern are dropped, a
    leading ``/`` too. ``DockerfileError`` for a lone ``!``. Source: moby's patternmatcher/ignorefile.
    """
    return [pattern for _, pattern in numbered_patterns(data, file)]


def numbered_patterns(data: bytes, file: str) -> list[tuple[int, str]]:
    """``read_ignore`` with the line (1-based) that each pattern stands in."""
    found: list[tuple[int, str]] = []
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            continue
        pattern = line.strip(SPACES)
        if not pattern:
            continue
        invert = pattern.startswith("!")
        if invert:
            pattern = pattern[1:].strip(SPACES)
            if not pattern:
                raise DockerfileError(
                    'illegal exclusion pattern: "!"',
                    place=Place(file, number, 0, line),
                    hint="write a path after the !",
                )
        pattern = clean(pattern)
        if len(pattern) > 1 and pattern.startswith("/"):
            pattern = pattern[1:]
        found.append((number, f"!{pattern}" if invert else pattern))
    return found


def clean(path: str) -> str:
    """The shortest equal path (Go's ``filepath.Clean``)."""
    found = posixpath.normpath(path)
    # normpath keeps two leading slashes
    return found[1:] if found.startswith("//") else found


def ignore_matcher(data: bytes, file: str = ".dockerignore") -> Matcher | None:
    """The matcher for an ignore file's contents, ``None`` when nothing is in it. ``DockerfileError`` names a bad pattern's line."""
    from pybuild._native.match import Matcher

    numbered = numbered_patterns(data, file)
    if not numbered:
        return None
    try:
        return Matcher([pattern for _, pattern in numbered])
    except ValueError:
        for number, pattern in numbered:
            try:
                Matcher([pattern])
            except ValueError as e:
                raise DockerfileError(
                    str(e), place=Place(file, number, 0, pattern), hint="a [ or \\ has to be closed or escaped"
                ) from None
        raise DockerfileError("the patterns cannot be read", place=Place(file, 1)) from None
