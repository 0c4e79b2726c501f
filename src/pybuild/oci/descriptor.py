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
        raise DigestError(f"not a sha256 digest: {str(digest)[:100]!r}")
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
    if not isinstance(value, dict):
        raise RegistryError("malformed descriptor in a manifest: no JSON object")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise RegistryError(f"malformed descriptor in a manifest: its size is {size!r}"[:200])
    media_type, platform, urls = value.get("mediaType") or "", value.get("platform"), value.get("urls") or ()
    if not isinstance(media_type, str) or not isinstance(platform, dict | None) or not isinstance(urls, list | tuple):
        raise RegistryError("malformed descriptor in a manifest: media type, platform or urls are of the wrong kind")
    return Descriptor(
        media_type,
        check_digest(value.get("digest", "")),
        size,
        string_map(value.get("annotations")),
        platform,
        tuple(str(u) for u in urls),
    )


def string_map(value: Any) -> dict[str, str]:
    """Annotations; ``RegistryError`` when they are no JSON object."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RegistryError("malformed annotations in a manifest")
    return {str(k): str(v) for k, v in value.items()}
