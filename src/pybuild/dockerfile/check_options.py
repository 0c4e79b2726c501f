"""What ``# check=`` says: ``skip=RuleA,RuleB`` or ``skip=all``, ``error=true``, ``experimental=…``, joined by ``;``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pybuild.dockerfile.suggest import did_you_mean
from pybuild.dockerfile.text_error import TextError

_COMMENT = re.compile(r"check\s*=\s*(.+)", re.IGNORECASE | re.DOTALL)
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Which rules are silent, whether findings are errors, which experimental rules run."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    error: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False

    def wants(self, rule: str, *, experimental: bool = False) -> bool:
        """Whether findings of a rule are to be told."""
        if experimental and not self.experimental_all and rule.lower() not in self.experimental:
            return False
        return not self.skip_all and rule.lower() not in self.skip


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())


def parse_check(text: str) -> CheckOptions:
    """Read the value of a check directive; ``TextError`` for a key or value that it does not have."""
    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error = False
    for part in text.split(";"):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise TextError(
                f'invalid check option "{part.strip()}"', hint="write skip=RULE, error=true or experimental=RULE"
            )
        if key == "skip":
            skip |= _names(value)
        elif key == "experimental":
            experimental |= _names(value)
        elif key == "error":
            if value not in _TRUE and value not in _FALSE:
                raise TextError(f'failed to parse check option "{part.strip()}"', hint="error takes true or false")
            error = value in _TRUE
        else:
            hint = (
                did_you_mean(key, ("skip", "error", "experimental")) or "the options are skip, error and experimental"
            )
            raise TextError(f'invalid check option "{key}"', hint=hint)
    return CheckOptions(
        skip=skip - {"all"},
        skip_all="all" in skip,
        error=error,
        experimental=experimental - {"all"},
        experimental_all="all" in experimental,
    )


def comment_skips(comments: Iterable[str]) -> CheckOptions:
    """What comments above an instruction switch off for it. One that cannot be read is a comment like any other."""
    skip: frozenset[str] = frozenset()
    skip_all = False
    for comment in comments:
        match = _COMMENT.fullmatch(comment)
        if match is None:
            continue
        try:
            found = parse_check(match[1])
        except TextError:
            continue
        skip |= found.skip
        skip_all = skip_all or found.skip_all
    return CheckOptions(skip=skip, skip_all=skip_all)
