"""The error of a small text within an instruction: a word, a port, a duration, a mode."""

from __future__ import annotations

from pybuild.errors import DockerfileError


class TextError(DockerfileError, ValueError):
    """A text that cannot be read. It is a ``ValueError`` too: who knows the place catches it and names the line."""
