"""Patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}``: ``*`` any text, ``?`` any character, neither across a line end; ``\\*``
``\\?`` ``\\\\`` are themselves. Matched without backtracking.

Between two stars stands a run of single characters. The earliest place of each run leaves most room for the next, so one pass
finds the shortest match; the longest differs in the last run alone, which goes to its last place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

#: a character of a run: the text it must be, or None for any but a line end
Run = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Runs of single characters with a star between each two."""

    runs: tuple[Run, ...]

    def reversed(self) -> Pattern:
        return Pattern(tuple(tuple(reversed(run)) for run in reversed(self.runs)))


@lru_cache(maxsize=256)
def compile_pattern(text: str) -> Pattern:
    """Read a pattern; ``ValueError`` for an escape that means nothing."""
    runs: list[Run] = []
    run: list[str | None] = []
    at = 0
    while at < len(text):
        ch = text[at]
        at += 1
        if ch == "*":
            runs.append(tuple(run))
            run = []
        elif ch == "?":
            run.append(None)
        elif ch == "\\":
            following = text[at : at + 1]
            if following in ("}", "/") and following:
                # escaped because of where the pattern stands, not for the pattern
                continue
            if following not in ("*", "?", "\\"):
                raise ValueError(f"invalid escape '\\{following}'")
            run.append(following)
            at += 1
        else:
            run.append(ch)
    runs.append(tuple(run))
    return Pattern(tuple(runs))


@lru_cache(maxsize=256)
def _matcher(run: Run) -> re.Pattern[str]:
    """A run as a regular expression; it has no repetition, so nothing to go back for."""
    return re.compile("".join("." if ch is None else re.escape(ch) for ch in run))


def _line_end(text: str, start: int) -> int:
    """Where a star that begins at ``start`` has to end at the latest."""
    found = text.find("\n", start)
    return len(text) if found < 0 else found


def _earliest(run: Run, text: str, start: int) -> int:
    """The end of the run's first place at or after ``start`` that a star can reach, -1 when there is none."""
    if not run:
        return start
    last = _line_end(text, start)
    if all(ch is not None for ch in run):
        word = "".join(ch for ch in run if ch is not None)
        at = text.find(word, start, last + len(word))
        return -1 if at < 0 else at + len(word)
    found = _matcher(run).search(text, start, last + len(run))
    return -1 if found is None else found.end()


def _latest(run: Run, text: str, start: int) -> int:
    """The end of the run's last place that a star from ``start`` can reach, -1 when there is none."""
    last = _line_end(text, start)
    if not run:
        return last
    if all(ch is not None for ch in run):
        word = "".join(ch for ch in run if ch is not None)
        at = text.rfind(word, start, last + len(word))
        return -1 if at < 0 else at + len(word)
    matcher = _matcher(run)
    for at in range(last, start - 1, -1):
        found = matcher.match(text, at)
        if found is not None:
            return found.end()
    return -1


def match_at(pattern: Pattern, text: str, start: int, *, longest: bool) -> int:
    """The end of the shortest or longest match that begins at ``start``, -1 when there is none."""
    first = _matcher(pattern.runs[0]).match(text, start)
    if first is None:
        return -1
    at = first.end()
    middle = pattern.runs[1:-1] if longest else pattern.runs[1:]
    for run in middle:
        at = _earliest(run, text, at)
        if at < 0:
            return -1
    if longest and len(pattern.runs) > 1:
        return _latest(pattern.runs[-1], text, at)
    return at


def remove_prefix(pattern: Pattern, text: str, *, longest: bool) -> str:
    """``${v#p}`` and ``${v##p}``."""
    end = match_at(pattern, text, 0, longest=longest)
    return text[end:] if end > 0 else text


def remove_suffix(pattern: Pattern, text: str, *, longest: bool) -> str:
    """``${v%p}`` and ``${v%%p}``."""
    end = match_at(pattern.reversed(), text[::-1], 0, longest=longest)
    return text[: len(text) - end] if end > 0 else text


def replace(pattern: Pattern, text: str, replacement: str, *, everywhere: bool, limit: int) -> str:
    """``${v/p/r}`` and ``${v//p/r}``: the first (every) longest match from the left. ``ValueError`` beyond ``limit`` characters."""
    found: list[str] = []
    size = 0
    at = 0
    copied = 0
    after_match = -1
    finder = _matcher(pattern.runs[0])
    while at <= len(text):
        first = finder.search(text, at)
        if first is None:
            break
        start = first.start()
        end = match_at(pattern, text, start, longest=True)
        if end < 0:
            if len(pattern.runs) > 1:
                # what follows the first run is not on this line: no later start on it can do better
                at = max(start + 1, _line_end(text, first.end()) - len(pattern.runs[0]) + 1)
            else:
                at = start + 1
            continue
        if end == start and start == after_match:
            # an empty match right after another match does not count
            at = start + 1
            continue
        found.append(text[copied:start])
        found.append(replacement)
        size += start - copied + len(replacement)
        if size > limit:
            raise ValueError("the result is too long")
        copied = after_match = end
        at = end if end > start else end + 1
        if not everywhere:
            break
    found.append(text[copied:])
    return "".join(found)
