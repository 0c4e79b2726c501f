"""An image's config as the whole JSON document: what is not known here survives."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from pybuild.errors import RegistryError
from pybuild.oci.platform import Platform

_SURROGATE = re.compile("[\ud800-\udfff]")


class ImageConfig:
    """The document (``document``), and typed ways to the parts that a build changes."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    @property
    def section(self) -> dict[str, Any]:
        """The ``config`` section, made when it is missing."""
        found = self.document.get("config")
        if not isinstance(found, dict):
            found = self.document["config"] = {}
        return found

    @property
    def diff_ids(self) -> list[str]:
        rootfs = self.document.get("rootfs")
        return list((rootfs.get("diff_ids") if isinstance(rootfs, dict) else None) or ())

    def append_diff_id(self, diff_id: str) -> None:
        self.document["rootfs"] = {"type": "layers", "diff_ids": [*self.diff_ids, diff_id]}

    def append_history(self, item: dict[str, Any]) -> None:
        self.document["history"] = [*(self.document.get("history") or ()), item]

    def copy(self) -> ImageConfig:
        return ImageConfig(copy.deepcopy(self.document))

    def to_bytes(self) -> bytes:
        """The document as it is stored: the same for the same content, whatever the order it was made in.

        What is no Unicode (bytes of a Dockerfile that are no UTF-8) becomes U+FFFD, as Go's encoder writes it."""
        text = json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return _SURROGATE.sub("\ufffd", text).encode()


def parse_config(data: bytes) -> ImageConfig:
    """The config from its bytes; ``RegistryError`` when it is no image config."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise RegistryError(f"the image's config is no JSON: {e}") from None
    if not isinstance(document, dict):
        raise RegistryError("the image's config is no JSON object")
    for key, kind in (("config", dict), ("rootfs", dict), ("history", list)):
        if not isinstance(document.get(key), kind | None):
            raise RegistryError(f"the image's config is malformed: {key} is no JSON {'array' if kind is list else 'object'}")
    diff_ids = (document.get("rootfs") or {}).get("diff_ids") or ()
    if not isinstance(diff_ids, list | tuple) or not all(isinstance(d, str) for d in diff_ids):
        raise RegistryError("the image's config is malformed: rootfs.diff_ids is no list of digests")
    return ImageConfig(document)


def new_config(platform: Platform) -> ImageConfig:
    """The config of an image from scratch."""
    document: dict[str, Any] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    if platform.variant:
        document["variant"] = platform.variant
    return ImageConfig(document)
