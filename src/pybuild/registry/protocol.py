"""The paths and scopes of the distribution protocol."""

from __future__ import annotations

from pybuild.oci.descriptor import check_digest
from pybuild.oci.reference import Reference


def pull_scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


def push_scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull,push"


def blob_path(reference: Reference, digest: str) -> str:
    return f"/v2/{reference.repository}/blobs/{check_digest(digest)}"


def uploads_path(reference: Reference) -> str:
    return f"/v2/{reference.repository}/blobs/uploads/"


def manifest_path(reference: Reference, identifier: str) -> str:
    from urllib.parse import quote

    return f"/v2/{reference.repository}/manifests/{quote(identifier, safe=':')}"
