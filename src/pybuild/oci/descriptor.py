"""Descriptors and media types of the OCI image specification and of Docker's image manifest version 2, schema 2."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pybuild.errors import DigestError, RegistryError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_digest(digest: str) -> str:
    """The digest itself; ``DigestError`` when it is no sha256 digest. What passes is safe as a file name's part."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise DigestError(f"not a sha256 digest: {digest!r}")
    return digest


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is: media type, digest (``sha256:`` and 64 hex digits), size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    platform: dict[str, Any] | None = None
    urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            found["urls"] = list(self.urls)
        if self.annotations:
            found["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform:
            found["platform"] = self.platform
        return found


def from_json(value: Any) -> Descriptor:
    """A descriptor from a manifest; ``RegistryError`` or ``DigestError`` when it is malformed."""
    if not isinstance(value, dict) or not isinstance(value.get("size"), int) or value["size"] < 0:
        raise RegistryError("malformed descriptor in a manifest")
    return Descriptor(
        str(value.get("mediaType", "")),
        check_digest(value.get("digest", "")),
        value["size"],
        {str(k): str(v) for k, v in (value.get("annotations") or {}).items()},
        value.get("platform"),
        tuple(str(u) for u in value.get("urls") or ()),
    )
