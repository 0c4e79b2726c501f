"""Platforms: operating system, architecture and variant, normalised as containerd does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pybuild.errors import ReferenceError_
from pybuild.oci.descriptor import Descriptor

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
_PART = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Platform:
    """``linux/arm/v7`` and the like; ``variant`` is empty where it is the architecture's usual one."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)


def normalise(os_name: str, architecture: str, variant: str, os_version: str = "") -> Platform:
    arch = architecture.lower()
    arch, implied = _ARCHITECTURES.get(arch, (arch, ""))
    variant = variant.lower() or implied
    if arch == "arm64" and variant in ("8", "v8"):
        variant = ""
    if arch == "arm" and variant in ("", "7"):
        variant = "v7"
    elif arch == "arm" and variant in ("5", "6", "8"):
        variant = f"v{variant}"
    if arch == "amd64" and variant == "v1":
        variant = ""
    return Platform(os_name.lower(), arch, variant, os_version)


def parse_platform(text: str) -> Platform:
    """``OS/ARCH[/VARIANT]``, or one of the two alone; ``ReferenceError_`` for anything else."""
    parts = text.strip().split("/")
    if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(p) for p in parts):
        raise ReferenceError_(f"Invalid platform: {text!r}", hint="write it as os/arch or os/arch/variant")
    if len(parts) == 1:
        host = host_platform()
        if parts[0].lower() in ("linux", "windows", "darwin", "freebsd"):
            return Platform(parts[0].lower(), host.architecture, host.variant)
        return normalise(host.os, parts[0], "")
    return normalise(parts[0], parts[1], parts[2] if len(parts) == 3 else "")


def host_platform() -> Platform:
    """The platform that this process runs on."""
    return normalise("linux", os.uname().machine, "")


def of_json(value: dict[str, Any]) -> Platform:
    """The platform in a descriptor or a config; one that is left out is ``linux/amd64``, as everywhere."""
    if not value:
        return Platform("linux", "amd64")
    return normalise(
        str(value.get("os", "")), str(value.get("architecture", "")), str(value.get("variant") or ""), str(value.get("os.version") or "")
    )


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an entry of an index is about another entry (BuildKit's provenance and SBOM), not an image to run."""
    kind = descriptor.annotations.get("vnd.docker.reference.type", "")
    return kind == "attestation-manifest" or (descriptor.platform or {}).get("os") == "unknown"


def select(descriptors: Iterable[Descriptor], wanted: Platform) -> Descriptor | None:
    """The entry of an index for a platform, ``None`` when there is none; attestations never.

    Exact first. Then, for a variant (``arm/v7``), the nearest lesser one that the processor runs too; without a variant, whatever
    the index has for the architecture."""
    candidates = [(of_json(d.platform or {}), d) for d in descriptors if not is_attestation(d)]
    same = [
        (p, d)
        for p, d in candidates
        if (p.os, p.architecture) == (wanted.os, wanted.architecture) and (not wanted.os_version or p.os_version == wanted.os_version)
    ]
    for p, d in same:
        if p.variant == wanted.variant:
            return d
    if not wanted.variant:
        return same[0][1] if same else None
    lesser = [(p, d) for p, d in same if p.variant < wanted.variant]
    return max(lesser, key=lambda item: item[0].variant)[1] if lesser else None
