"""Which media types an image's manifest, config and new layers have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pybuild.layer.types import Compression
from pybuild.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)


@dataclass(frozen=True, slots=True)
class LayerMediaTypes:
    """The media types of an image, and how its new layers are compressed."""

    manifest: str
    config: str
    layer: str
    compression: Compression


def media_types(base_manifest: str, wanted: Compression, image_format: Literal["", "docker", "oci"]) -> LayerMediaTypes:
    """New parts of an image follow its base (``base_manifest`` is that manifest's media type, ``""`` for scratch) unless a format
    is asked for. zstd exists only as an OCI layer: on a docker image it becomes gzip.
    """
    docker = image_format == "docker" or (not image_format and base_manifest == DOCKER_MANIFEST)
    if docker:
        kept = wanted if wanted.kind == "gzip" else Compression("gzip", -1)
        return LayerMediaTypes(DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER_GZIP, kept)
    layer = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "none": OCI_LAYER}[wanted.kind]
    return LayerMediaTypes(OCI_MANIFEST, OCI_CONFIG, layer, wanted)
