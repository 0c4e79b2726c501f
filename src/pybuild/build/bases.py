"""Base images: where a FROM or an image's ``--from`` leads, and its layers as streams that can be read while they arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pybuild.errors import UsageError
from pybuild.oci.blobs import BlobStore, GrowingBlob
from pybuild.oci.descriptor import Descriptor
from pybuild.oci.image import Image
from pybuild.oci.platform import Platform
from pybuild.oci.reference import Reference, parse_reference

if TYPE_CHECKING:
    from pybuild.registry.client import Registries

OCI_LAYOUT = "oci-layout://"
DOCKER_IMAGE = "docker-image://"


@dataclass(frozen=True, slots=True)
class LayerSource:
    """One layer that can be read: ``open`` gives a new blocking reader of the compressed bytes (``read(n)``, ``close()``)."""

    descriptor: Descriptor
    diff_id: str
    open: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Base:
    """A resolved image. ``reference`` is where it can be mounted or pulled from, ``None`` for a layout."""

    image: Image
    reference: Reference | None
    layout: str = ""


class Downloads:
    """Layers on their way into the build's store, each blob at most once."""

    def __init__(self, registries: Callable[[], Registries], blobs: BlobStore) -> None:
        self._registries = registries
        self._blobs = blobs
        self._growing: dict[str, GrowingBlob] = {}
        self._lock = threading.Lock()

    def start(self, reference: Reference, descriptor: Descriptor) -> GrowingBlob | None:
        """Begin to fetch a blob unless that was done before; ``None`` when it is in the store already."""
        with self._lock:
            growing = self._growing.get(descriptor.digest)
            if growing is None:
                if self._blobs.has(descriptor.digest):
                    return None
                growing = self._growing[descriptor.digest] = self._registries().download(reference, descriptor, self._blobs)
            return growing

    def sources(self, base: Base) -> list[LayerSource]:
        """The layers of a base, their downloads begun."""
        found = []
        for descriptor, diff_id in zip(base.image.layers, base.image.diff_ids, strict=True):
            found.append(LayerSource(descriptor, diff_id, self._opener(base, descriptor)))
        return found

    def _opener(self, base: Base, descriptor: Descriptor) -> Callable[[], Any]:
        if base.layout:
            from pybuild.oci.layout import open_blob

            layout = base.layout
            return lambda: open_blob(layout, descriptor)
        assert base.reference is not None
        growing = self.start(base.reference, descriptor)
        if growing is not None:
            return growing.open_reader
        return lambda: self._blobs.open(descriptor.digest)


async def resolve_base(name: str, named: str, platform: Platform, registries: Callable[[], Registries]) -> Base:
    """Resolve an image reference, or a named context's value (``named``), for a platform.

    ``oci-layout://DIR[:TAG][@DIGEST]`` and ``docker-image://REFERENCE`` are understood. Raises ``RegistryError``,
    ``ReferenceError_`` or ``UsageError``.
    """
    if named.startswith(OCI_LAYOUT):
        from pybuild.oci.layout import read_image, split_layout_text

        path, selector = split_layout_text(named.removeprefix(OCI_LAYOUT))
        return Base(read_image(path, selector, platform), None, layout=path)
    if named.startswith(DOCKER_IMAGE):
        name = named.removeprefix(DOCKER_IMAGE)
    elif named:
        raise UsageError(
            f"named context {name}={named} is not an image", hint="an image is given as oci-layout://DIR or docker-image://REFERENCE"
        )
    reference = parse_reference(name)
    return Base(await registries().resolve(reference, platform), reference)
