"""Durations as Go writes them: ``1h2m3.5s``, ``300ms``."""

from __future__ import annotations

import re

from pybuild.dockerfile.text_error import TextError

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_LIMIT = 1 << 63


def parse_duration(text: str) -> int:
    """Nanoseconds; ``TextError`` when the text is no duration. Source: Go's ``time.ParseDuration``."""
    bad = TextError(f"invalid duration {text!r}", hint="write it like 30s, 1m30s or 500ms")
    if len(text) > 200:
        raise bad
    sign, rest = 1, text
    if rest[:1] in ("+", "-"):
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise bad
    total = at = 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            raise bad
        unit = _UNITS[match[3]]
        total += int(match[1] or 0) * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        if total >= _LIMIT:
            raise bad
        at = match.end()
    return sign * total
