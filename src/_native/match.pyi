"""Patterns: ignore files as moby's patternmatcher reads them, and Go's ``filepath.Match``. Linear in pattern times path."""

from collections.abc import Sequence

class Matcher:
    """Patterns in order; the last that matches a path or a directory above it decides, ``!`` brings back."""

    texts: tuple[str, ...]
    n_patterns: int
    has_negation: bool
    def __init__(self, patterns: Sequence[str]) -> None:
        """``ValueError`` with the pattern when one is malformed."""
    def matches(self, path: str) -> bool:
        """Whether the path (relative, ``/`` between components) is excluded."""
    def may_reinclude(self, path: str) -> bool:
        """Whether a ``!`` pattern could match something below this directory."""

def go_match(pattern: str, name: str) -> bool:
    """Go's ``filepath.Match``: ``*`` and ``?`` do not cross ``/``; ``ValueError`` when the pattern is malformed."""
