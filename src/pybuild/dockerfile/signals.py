"""Signals of STOPSIGNAL: names with or without ``SIG``, or numbers."""

from __future__ import annotations

from pybuild.dockerfile.suggest import closest
from pybuild.dockerfile.text_error import TextError

_NAMES = [
    "ABRT",
    "ALRM",
    "BUS",
    "CHLD",
    "CLD",
    "CONT",
    "FPE",
    "HUP",
    "ILL",
    "INT",
    "IO",
    "IOT",
    "KILL",
    "PIPE",
    "POLL",
    "PROF",
    "PWR",
    "QUIT",
    "SEGV",
    "STKFLT",
    "STOP",
    "SYS",
    "TERM",
    "TRAP",
    "TSTP",
    "TTIN",
    "TTOU",
    "URG",
    "USR1",
    "USR2",
    "VTALRM",
    "WINCH",
    "XCPU",
    "XFSZ",
    "RTMIN",
    "RTMAX",
]
NAMES = frozenset([*_NAMES, *(f"RTMIN+{n}" for n in range(1, 16)), *(f"RTMAX-{n}" for n in range(1, 15))])


def check_signal(text: str) -> None:
    """``TextError`` unless the text names a signal: a number from 1 up, or a name in any case (``SIGTERM``, ``term``, ``RTMIN+3``)."""
    if text.isascii() and text.isdigit():
        if int(text[-9:]) == 0:
            raise TextError(f"invalid signal: {text}", hint="signals begin at 1")
        return
    name = text.upper().removeprefix("SIG")
    if name not in NAMES:
        near = closest(name, _NAMES)
        hint = f"did you mean SIG{near}?" if near else "write a number or a name like SIGTERM"
        raise TextError(f"invalid signal: {text}", hint=hint)
