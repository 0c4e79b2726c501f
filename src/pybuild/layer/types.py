"""Plain data about layers, without anything that has to be loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pybuild.oci.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Compression:
    """How a layer's blob is compressed; ``level`` -1 is the default of the kind."""

    kind: Literal["gzip", "zstd", "none"] = "gzip"
    level: int = -1


@dataclass(frozen=True, slots=True)
class Layer:
    """A finished layer: its blob's descriptor, the digest and size in bytes of its tar, the number of entries."""

    descriptor: Descriptor
    diff_id: str
    uncompressed_size: int
    entries: int
