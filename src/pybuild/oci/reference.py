"""Image references, with Docker's rules for what may be left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pybuild.errors import ReferenceError_

DEFAULT_REGISTRY = "index.docker.io"
#: of a host, a repository (255 characters at most, both together) and a tag (128)
NAME_LIMIT = 255 + 1 + 128
#: the names that Docker Hub goes by
HUB_ALIASES = ("index.docker.io", "docker.io", "registry-1.docker.io")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Reference:
    """``registry`` is a host with optional port, ``repository`` a path in it; ``tag`` or ``digest`` may be empty.

    ``typed`` is what the user wrote; it takes no part in comparisons."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""
    typed: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def identifier(self) -> str:
        """What to ask a registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def familiar(self) -> str:
        """As the user typed it, with ``:latest`` where no tag or digest was: what archives and ``Pushing image to`` lines show."""
        if not self.typed:
            return str(self)
        bare = not self.digest and ":" not in self.typed.rpartition("/")[2]
        return f"{self.typed}:{self.tag}" if bare else self.typed

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_reference(text: str) -> Reference:
    """``[HOST[:PORT]/]PATH[:TAG][@DIGEST]``; Docker Hub and ``latest`` where they are left out. ``ReferenceError_`` otherwise."""
    rest, at, digest = text.strip().partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ReferenceError_(f"could not parse reference: {text!r}: {digest!r} is no sha256 digest")
    if len(rest) > NAME_LIMIT:
        raise ReferenceError_(f"could not parse reference: {rest[:60]!r}…: it is longer than {NAME_LIMIT} characters")
    host, slash, path = rest.partition("/")
    if not slash or not (host == "localhost" or any(c in host for c in ".:[")):
        host, path = DEFAULT_REGISTRY, rest
    elif not _HOST.fullmatch(host):
        raise ReferenceError_(f"could not parse reference: {text!r}: {host!r} is no host")
    name, colon, tag = path.rpartition(":")
    if not colon:
        name, tag = path, "" if digest else "latest"
    elif not _TAG.fullmatch(tag):
        raise ReferenceError_(f"could not parse reference: {text!r}: {tag!r} is no tag")
    if host in HUB_ALIASES:
        host = DEFAULT_REGISTRY
        if "/" not in name and name:
            name = f"library/{name}"
    if not _REPOSITORY.fullmatch(name):
        lower = " (it must be lower-case)" if name != name.lower() else ""
        raise ReferenceError_(f"could not parse reference: {text!r}: {name!r} is no repository name{lower}")
    return Reference(host, name, tag, digest, typed=text.strip())
