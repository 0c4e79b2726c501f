"""A resolved image: its manifest and config, without its layers' bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pybuild.errors import RegistryError
from pybuild.oci.config import ImageConfig, parse_config
from pybuild.oci.descriptor import Descriptor
from pybuild.oci.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Image:
    """``digest`` is the manifest's; ``layers`` and ``diff_ids`` belong together, in order."""

    digest: str
    manifest: bytes
    media_type: str
    config: ImageConfig
    config_descriptor: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]


def make_image(digest: str, data: bytes, manifest: Manifest, config_bytes: bytes) -> Image:
    """Put the parts together; ``RegistryError`` when the config's diff IDs and the layers do not match in number."""
    config = parse_config(config_bytes)
    diff_ids = tuple(config.diff_ids)
    if len(diff_ids) != len(manifest.layers):
        raise RegistryError(f"the image has {len(manifest.layers)} layers and {len(diff_ids)} diff IDs")
    return Image(digest, data, manifest.media_type, config, manifest.config, manifest.layers, diff_ids)
