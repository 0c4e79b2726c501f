"""Platforms, and the entry of an index for one."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.errors import ReferenceError_
from pybuild.oci.descriptor import OCI_MANIFEST, Descriptor
from pybuild.oci.platform import Platform, host_platform, of_json, parse_platform, select


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/s390x", "linux/s390x"),
        ("windows/amd64", "windows/amd64"),
        ("arm64", "linux/arm64"),
        (" linux/amd64 ", "linux/amd64"),
    ],
)
def test_parsing(text: str, found: str) -> None:
    assert str(parse_platform(text)) == found


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "a/b/c/d", "linux/amd64/", "linux amd64", "linux/amd64,linux/arm64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ReferenceError_, match="Invalid platform"):
        parse_platform(text)


def test_an_operating_system_alone_is_this_machine() -> None:
    assert parse_platform("linux") == host_platform()


def test_left_out_in_a_document() -> None:
    assert of_json({}) == Platform("linux", "amd64")
    assert of_json({"os": "linux", "architecture": "arm", "variant": None}) == Platform("linux", "arm", "v7")


def entry(text: str, **more: Any) -> Descriptor:
    """An entry whose size is only there to tell it from others."""
    os_name, architecture, variant = (*text.split("/"), "")[:3]
    platform = {"os": os_name, "architecture": architecture, **({"variant": variant} if variant else {})}
    return Descriptor(OCI_MANIFEST, "sha256:" + "0" * 64, 1, more.get("annotations", {}), {**platform, **more.get("platform", {})})


def chosen(wanted: str, *entries: Descriptor) -> int | None:
    found = select(entries, parse_platform(wanted))
    return next((i for i, e in enumerate(entries) if e is found), None)


@pytest.mark.parametrize(
    ("wanted", "there", "position"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v1"], 0),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64/v2", ["linux/amd64/v3"], None),
        ("linux/arm64", ["linux/arm", "linux/arm64/v8"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/arm/v5", ["linux/arm/v7", "linux/arm/v6"], None),
        ("linux/arm64", ["linux/arm/v7"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", [], None),
    ],
)
def test_the_entry_for_a_platform(wanted: str, there: list[str], position: int | None) -> None:
    assert chosen(wanted, *(entry(t) for t in there)) == position


def test_attestations_are_never_chosen() -> None:
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    attested = entry("linux/amd64", annotations=about)
    assert chosen("linux/amd64", attested, entry("linux/amd64")) == 1
    assert chosen("linux/amd64", attested, entry("unknown/unknown", annotations=about)) is None


def test_an_entry_without_a_platform_is_linux_amd64() -> None:
    bare = Descriptor(OCI_MANIFEST, "sha256:" + "0" * 64, 1)
    assert chosen("linux/amd64", entry("linux/arm64"), bare) == 1
    assert chosen("linux/arm64", bare) is None


def test_the_version_of_the_operating_system() -> None:
    entries = [entry("windows/amd64", platform={"os.version": v}) for v in ("10.0.1", "10.0.2")]
    assert select(entries, Platform("windows", "amd64", "", "10.0.2")) is entries[1]
    assert select(entries, Platform("windows", "amd64", "", "10.0.3")) is None
    assert select(entries, Platform("windows", "amd64")) is entries[0]
