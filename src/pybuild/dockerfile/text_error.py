"""The error of a small text within an instruction: a word, a port, a duration, a mode."""

from __future__ import annotations

from pybuild.errors import DockerfileError


class TextError(DockerfileError, ValueError):
    """A text that cannot be read. It is a ``ValueError`` too: who knows the place catches it and names the line. ``word`` is the
    part that is wrong, as it stands in the file, for the column."""

    def __init__(self, message: str, word: str = "", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.word = word
