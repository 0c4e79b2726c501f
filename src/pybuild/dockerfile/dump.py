"""A parsed file as s-expressions, one line an instruction: ``(name ["--flag"] "argument" …)``. For tests and ``--debug`` output."""

from __future__ import annotations

from collections.abc import Iterable

from pybuild.dockerfile.nodes import Node

_SHORT = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def quote(text: str) -> str:
    """The text in double quotes, escaped as Go's ``strconv.Quote`` does."""
    found = []
    for ch in text:
        if ch in _SHORT:
            found.append(_SHORT[ch])
        elif 0xDC80 <= ord(ch) <= 0xDCFF:
            found.append(f"\\x{ord(ch) - 0xDC00:02x}")
        elif ch.isprintable():
            found.append(ch)
        elif ch < " " or ch == "\x7f":
            found.append(f"\\x{ord(ch):02x}")
        elif ord(ch) < 0x10000:
            found.append(f"\\u{ord(ch):04x}")
        else:
            found.append(f"\\U{ord(ch):08x}")
    return '"' + "".join(found) + '"'


def dump_node(node: Node) -> str:
    """One instruction without its parentheses."""
    parts = [node.key]
    if node.flags:
        parts.append("[" + " ".join(quote(flag) for flag in node.flags) + "]")
    if node.child is not None:
        parts.append(f"({dump_node(node.child)})")
    elif node.key in ("env", "label"):
        separator = "" if node.legacy else "="
        for key, value in zip(node.args[::2], node.args[1::2], strict=True):
            parts += [quote(key), quote(value), quote(separator)]
    else:
        parts += [quote(arg) for arg in node.args]
    return " ".join(parts)


def dump(nodes: Iterable[Node]) -> str:
    """All instructions, a line each."""
    return "\n".join(f"({dump_node(node)})" for node in nodes)
