"""The one tree of errors. Each says what happened, where, why, and what to try.

Exit status (documented in docs/exit-codes.md): a failed RUN ends with the command's own status (128 + n for a
signal), an interrupt with 130 or 143, everything else with 1, as kaniko's executor does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text an error lies: file name as the user wrote it, 1-based lines, 0-based column or None, the line itself."""

    file: str
    line: int
    column: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class PybuildError(Exception):
    """Base of everything that a user may be shown. ``hint`` is the way out; ``place`` the line it is about."""

    exit_code = 1

    def __init__(self, message: str, *, place: Place | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text} ({self.hint})" if self.hint else text


class UsageError(PybuildError):
    """A command line, a configuration value or a combination of them that cannot be used."""


class DockerfileError(PybuildError):
    """The Dockerfile (or an ignore file) cannot be read or says something that cannot be."""


class ContextError(PybuildError):
    """The build context is missing, empty where it must not be, or unsafe."""


class ReferenceError_(PybuildError):
    """A text that is no image reference, digest or platform."""


class RegistryError(PybuildError):
    """A registry answered with an error, with something malformed, or not at all."""


class AuthError(RegistryError):
    """A registry refused the credentials, or wants some and none were found."""


class TLSError(RegistryError):
    """A TLS connection was refused or could not be verified."""


class NotFoundError(RegistryError):
    """The image, manifest or blob does not exist in the registry."""


class DigestError(PybuildError):
    """Bytes that do not have the digest or size that they must have."""


class ArchiveError(PybuildError):
    """A tar or compressed stream that is truncated, malformed or unsafe."""


class RunError(PybuildError):
    """A RUN instruction's command failed. ``exit_code`` is the command's status, 128 + n when signal n ended it."""

    def __init__(self, message: str, *, exit_code: int, place: Place | None = None, hint: str = "") -> None:
        super().__init__(message, place=place, hint=hint)
        self.exit_code = exit_code


class IsolationError(PybuildError):
    """This place does not permit what the step needs."""


class StorageError(PybuildError):
    """Writing failed: no space, no permission, an input/output error."""


class OutputError(PybuildError):
    """An image, layout, archive or digest file could not be written."""


class Interrupted(PybuildError):
    """The build was ended by a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"build interrupted by signal {signum}")
        self.exit_code = 128 + signum
