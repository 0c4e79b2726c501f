"""What a build gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """A layer of the result: its blob's digest and size in bytes, and whether it came with the base."""

    digest: str
    size: int
    from_base: bool


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The image: the digest and bytes of its manifest, its config document, its layers, where it was pushed to."""

    digest: str
    manifest: bytes
    media_type: str
    config: dict[str, Any]
    layers: tuple[LayerSummary, ...]
    pushed: tuple[str, ...] = ()
