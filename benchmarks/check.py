"""What a build left in the registry. A builder that did less would look faster."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import zstandard
from isal import igzip

from benchmarks.registry import Registry


@dataclass(frozen=True)
class Result:
    """``size``: compressed bytes of the layers after the base's. ``layers``: their number. ``files``: regular files in them
    (-1: not counted)."""

    size: int
    layers: int
    files: int


def read_result(registry: Registry, repository: str, tag: str, base_layers: int, *, count: bool) -> Result:
    """Read an image back. ``LookupError`` when there is no manifest, ``ValueError`` when it is not a whole image."""
    manifest = registry.manifest(repository, tag)
    with registry.blob(repository, manifest["config"]["digest"]) as answer:
        answer.read()
    new: list[dict[str, Any]] = manifest["layers"][base_layers:]
    if not new:
        raise ValueError(f"{repository}: nothing was added to the base")
    files = sum(count_files(registry, repository, layer) for layer in new) if count else -1
    return Result(sum(layer["size"] for layer in new), len(new), files)


def count_files(registry: Registry, repository: str, layer: dict[str, Any]) -> int:
    with registry.blob(repository, layer["digest"]) as answer:
        source: Any
        if "zstd" in layer["mediaType"]:
            source = zstandard.ZstdDecompressor().stream_reader(answer, read_across_frames=True)
        else:
            source = igzip.IGzipFile(fileobj=answer)  # type: ignore[no-untyped-call]
        with tarfile.open(fileobj=io.BufferedReader(Reader(source), 1 << 20), mode="r|", bufsize=1 << 20) as archive:
            return sum(1 for member in archive if member.isreg() and "/.wh." not in f"/{member.name}")


class Reader(io.RawIOBase):
    """Any object with ``read`` as a raw stream."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
