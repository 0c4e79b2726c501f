"""Manifests and indexes: read with every check that the image specification and its security notes ask for, and written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pybuild.errors import RegistryError
from pybuild.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    from_json,
    string_map,
)

SCHEMA1 = ("application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws")
MANIFEST_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Index:
    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | Index:
    """A manifest or index from its bytes. ``media_type`` is what the server or descriptor said; where it names an image format it has
    to be the document's own.

    Raises ``RegistryError`` for anything else, schema 1 and ambiguous documents (CVE-2021-41190) included.
    """
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise RegistryError(f"the manifest is no JSON: {e}") from None
    if not isinstance(document, dict):
        raise RegistryError("the manifest is no JSON object")
    said = media_type.partition(";")[0].strip()
    if document.get("schemaVersion") == 1 or said in SCHEMA1:
        raise RegistryError(
            f'unsupported MediaType: "{said if said in SCHEMA1 else SCHEMA1[1]}": the image has a schema 1 manifest',
            hint="such images are obsolete; pull and push it again with a current client",
        )
    if document.get("schemaVersion") != 2:
        raise RegistryError(f"the manifest's schemaVersion is {document.get('schemaVersion')!r}, not 2")
    if "layers" in document and "manifests" in document:
        raise RegistryError("the manifest is ambiguous: it has layers and manifests")
    known = said if said in (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST) else ""
    own = document.get("mediaType") or ""
    if known and own and own != known:
        raise RegistryError(f"the manifest is ambiguous: it was given as {known} and calls itself {str(own)[:100]}")
    found = own or known
    if not found:
        found = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    if found in (OCI_INDEX, DOCKER_LIST):
        if not isinstance(document.get("manifests"), list):
            raise RegistryError("the index has no list of manifests")
        return Index(found, tuple(from_json(m) for m in document["manifests"]))
    if found not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise RegistryError(f"{found} is no image manifest")
    if not isinstance(document.get("layers"), list):
        raise RegistryError("the manifest has no list of layers")
    layers = tuple(from_json(item) for item in document["layers"])
    return Manifest(found, from_json(document.get("config")), layers, string_map(document.get("annotations")))


def manifest_bytes(media_type: str, config: Descriptor, layers: tuple[Descriptor, ...], annotations: dict[str, str]) -> bytes:
    """A manifest as it is stored."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
