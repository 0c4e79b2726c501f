"""Ignore patterns (``.dockerignore``, ``--exclude``) and Go's ``filepath.Match``.

The results are those of moby's patternmatcher, oddities of its pattern language included: a pattern is translated to the regular
expression that moby would make of it, and that to an automaton which needs no backtracking. Paths are relative, with ``/``
between components and none at either end; their bytes that are no UTF-8 come as surrogates (``os.fsdecode``).
"""

from collections.abc import Sequence

class Matcher:
    """A list of patterns, compiled. The last one that matches a path or a directory above it decides; ``!`` brings back."""

    #: the patterns in use, cleaned, without the ``!``
    patterns: tuple[str, ...]

    def __init__(self, patterns: Sequence[str]) -> None:
        """Patterns as an ignore file has them, comments removed, in order. ``ValueError`` names a pattern that is malformed."""
    def matches(self, path: str) -> bool:
        """Whether a path is ignored (moby's ``MatchesOrParentMatches``). The root (``""``) never is."""
    def match_below(self, path: str, parent: bytes | None) -> tuple[bool, bytes]:
        """Whether a path is ignored, given the state of its directory (``None`` for an entry of the root), and the state for what is
        below it: moby's ``MatchesUsingParentResults``, which BuildKit walks a context with."""
    def walk_state(self, path: str) -> tuple[bool, bytes]:
        """``match_below`` for each directory from the root to ``path``: the last result."""
    def may_reinclude(self, path: str) -> bool:
        """Whether a ``!`` pattern can match something below this directory. False: an ignored directory need not be entered."""
    @property
    def negations(self) -> bool:
        """Whether any pattern begins with ``!``."""

def go_match(pattern: str, name: str) -> bool:
    """Go's ``filepath.Match``: the whole name; ``*`` and ``?`` do not match ``/``. ``ValueError`` when the pattern is malformed."""

def clean_path(path: str) -> str:
    """Go's ``filepath.Clean``: the shortest equal path, ``.`` for an empty one."""
