"""What is a git repository among ADD's sources."""

from __future__ import annotations

import re

_GIT = re.compile(r"^(git://|ssh://|git@[^:/]+:|https?://[^?#]+\.git(?:[#?]|$))")


def parse_git_ref(text: str) -> str | None:
    """The text when it names a git repository, else ``None``."""
    return text if _GIT.match(text) else None
