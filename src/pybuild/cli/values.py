"""The values of flags, with the grammar and the error words of Go's pflag and strconv and of kaniko's own flag types."""

from __future__ import annotations

from typing import Any

from pybuild.cli.flags import Kind

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_BASES = {"0x": 16, "0b": 2, "0o": 8}


def parse_value(kind: Kind, text: str) -> Any:
    """The value of one occurrence of a flag; ``ValueError`` with Go's words when the text is none."""
    match kind:
        case "bool":
            return parse_bool(text)
        case "int":
            return parse_int(text)
        case "duration":
            return parse_seconds(text)
        case "list":
            return [text]
        case "names":
            return parse_names(text)
        case "pairs":
            return parse_pair(text)
        case "map":
            return parse_map(text)
        case _:
            return text


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str) -> int:
    """Go's integers: decimal, ``0x``, ``0o``, ``0b`` or a leading zero for octal; 64 bits."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    prefix = digits[:2].lower()
    base = _BASES.get(prefix, 8 if len(digits) > 1 and digits[0] == "0" else 10)
    bad = ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if not digits or not digits.isascii() or digits[0] in "_+- " or digits != digits.strip():
        raise bad
    try:
        value = int(digits[2:] if prefix in _BASES else digits, base)
    except ValueError:
        raise bad from None
    value = -value if text[0] == "-" else value
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_seconds(text: str) -> float:
    from pybuild.dockerfile.durations import parse_duration

    try:
        return parse_duration(text) / 1e9
    except ValueError:
        unit = "missing unit in" if text.isdecimal() else "invalid"
        raise ValueError(f'time: {unit} duration "{text}"') from None


def parse_names(text: str) -> list[str]:
    """A comma-separated list; double quotes protect commas, as in CSV."""
    if '"' not in text:
        return text.split(",") if text else []
    import csv

    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as e:
        raise ValueError(f"parse error: {e}") from None


def parse_pair(text: str) -> dict[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"invalid argument value. expect key=value, got {text}")
    return {key: value}


def parse_map(text: str) -> dict[str, list[str]]:
    """``key=value;key=value``: all values of a key, in order."""
    found: dict[str, list[str]] = {}
    for part in text.split(";"):
        if part:
            for key, value in parse_pair(part).items():
                found.setdefault(key, []).append(value)
    return found
