"""Log lines in kaniko's three formats, which people grep: ``text``, ``color`` and ``json``. Each is one line, ended by a newline.

The shapes are logrus's: https://pkg.go.dev/github.com/sirupsen/logrus#TextFormatter
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Literal

Format = Literal["text", "color", "json"]
LEVELS = ("panic", "fatal", "error", "warning", "info", "debug", "trace")
_COLORS = {"info": 36, "warning": 33, "debug": 37, "trace": 37}
_PLAIN = re.compile(r"[A-Za-z0-9._/@^+-]*")
_ESCAPES = {
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}
_WIDTH = 44

#: level, message, seconds since the program began, time of day → the line
Formatter = Callable[[str, str, float, float], str]


def formatter(name: Format, *, timestamp: bool = False) -> Formatter:
    """The formatter of a name. ``timestamp`` puts the time into colour's brackets; the other two always have it."""
    if name == "json":
        return json_line
    if name == "text":
        return text_line
    return color_line_with_time if timestamp else color_line


def color_line(level: str, message: str, elapsed: float, now: float) -> str:
    return colored(level, message, f"{int(elapsed):04d}")


def color_line_with_time(level: str, message: str, elapsed: float, now: float) -> str:
    return colored(level, message, rfc3339(now))


def colored(level: str, message: str, bracket: str) -> str:
    return f"\x1b[{_COLORS.get(level, 31)}m{level[:4].upper()}\x1b[0m[{bracket}] {message.removesuffix(chr(10)):<{_WIDTH}} \n"


def text_line(level: str, message: str, elapsed: float, now: float) -> str:
    return f'time="{rfc3339(now)}" level={level} msg={quoted(message)}\n'


def json_line(level: str, message: str, elapsed: float, now: float) -> str:
    from json import dumps

    text = dumps({"level": level, "msg": message, "time": rfc3339(now)}, separators=(",", ":"), ensure_ascii=False)
    # Go's encoder escapes these three too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


def rfc3339(now: float) -> str:
    """Local time with its offset, whole seconds."""
    local = time.localtime(now)
    offset = local.tm_gmtoff // 60
    zone = "Z" if not offset else f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + zone


def quoted(text: str) -> str:
    """As logrus writes a value: bare when it is made of harmless characters, else as a Go string."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else escaped(c)) for c in text) + '"'


def escaped(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
