"""``WWW-Authenticate``: what a registry wants to see (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """``kind`` is ``bearer`` or ``basic``; ``realm`` is for ``bearer`` the address of the token service."""

    kind: Literal["bearer", "basic"]
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(headers: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """All challenges of all headers, scheme and parameters in lower case names; several may stand in one header."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        position = 0
        while position < len(header):
            if header[position] in ", \t":
                position += 1
                continue
            parameter = _PARAMETER.match(header, position)
            if parameter and found:
                value = parameter[3] if parameter[2] is None else _ESCAPE.sub(r"\1", parameter[2])
                found[-1][1].setdefault(parameter[1].lower(), value)
                position = parameter.end()
                continue
            scheme = _SCHEME.match(header, position)
            if scheme is None:
                break
            found.append((scheme[1].lower(), {}))
            position = max(scheme.end(), position + 1)
    return found


def choose_challenge(headers: Iterable[str]) -> Challenge | None:
    """The challenge to answer: Bearer before Basic; ``None`` when there is neither."""
    challenges = parse_challenges(headers)
    for kind, values in challenges:
        if kind == "bearer" and values.get("realm"):
            return Challenge("bearer", values["realm"], values.get("service", ""), values.get("scope", ""))
    for kind, values in challenges:
        if kind == "basic":
            return Challenge("basic", values.get("realm", ""))
    return None
