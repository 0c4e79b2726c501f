"""Manifests, configs and descriptors: what is read, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.errors import DigestError, PybuildError, RegistryError
from pybuild.oci.config import new_config, parse_config
from pybuild.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    from_json,
)
from pybuild.oci.image import make_image
from pybuild.oci.manifest import Index, Manifest, manifest_bytes, parse_manifest
from pybuild.oci.platform import parse_platform

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CONFIG = {"mediaType": OCI_CONFIG, "digest": A, "size": 2}
LAYER = {"mediaType": OCI_LAYER_GZIP, "digest": B, "size": 3}


def manifest(**changes: Any) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER], **changes}
    return json.dumps({k: v for k, v in document.items() if v is not None}).encode()


def test_written_manifests_are_read_again() -> None:
    config, layer = Descriptor(OCI_CONFIG, A, 2), Descriptor(OCI_LAYER_GZIP, B, 3, {"b": "2", "a": "1"})
    data = manifest_bytes(OCI_MANIFEST, config, (layer, layer), {"z": "ü", "y": ""})
    assert data == manifest_bytes(OCI_MANIFEST, config, (layer, layer), {"y": "", "z": "ü"})
    assert parse_manifest(data, OCI_MANIFEST) == Manifest(OCI_MANIFEST, config, (layer, layer), {"z": "ü", "y": ""})


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_the_kind_may_be_said_by_either_side(kind: str) -> None:
    for own, said in ((kind, kind), (kind, ""), (None, kind), (kind, "text/plain"), (kind, f"{kind}; charset=utf-8")):
        assert parse_manifest(manifest(mediaType=own), said).media_type == kind
    assert parse_manifest(manifest(mediaType=None)).media_type == OCI_MANIFEST


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_indexes(kind: str) -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": A, "size": 9, "platform": {"os": "linux", "architecture": "arm64"}}
    found = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode())
    assert found == Index(kind, (Descriptor(OCI_MANIFEST, A, 9, platform={"os": "linux", "architecture": "arm64"}),))


@pytest.mark.parametrize(
    ("data", "said", "why"),
    [
        (b"", "", "no JSON"),
        (b"<html>", "", "no JSON"),
        (b"\xff\xfe", "", "no JSON"),
        (b"[" * 100_000, "", "no JSON"),
        (b"[]", "", "object"),
        (manifest(schemaVersion=1), "", "schema 1"),
        (manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (manifest(schemaVersion=3), "", "schemaVersion"),
        (manifest(schemaVersion=None), "", "schemaVersion"),
        (manifest(manifests=[]), "", "ambiguous"),
        (manifest(), DOCKER_MANIFEST, "ambiguous"),
        (manifest(), OCI_INDEX, "ambiguous"),
        (manifest(mediaType=None), OCI_INDEX, "manifests"),
        (manifest(mediaType="text/plain"), "", "text/plain"),
        (manifest(mediaType=7), "", "7"),
        (manifest(layers=None), "", "layers"),
        (manifest(layers={}), "", "layers"),
        (manifest(layers=[1]), "", "descriptor"),
        (manifest(config=None), "", "descriptor"),
        (manifest(annotations=[]), "", "annotations"),
        (manifest(config={**CONFIG, "size": -1}), "", "size"),
        (manifest(config={**CONFIG, "size": "2"}), "", "size"),
        (manifest(config={**CONFIG, "size": True}), "", "size"),
        (manifest(config={**CONFIG, "size": 2.5}), "", "size"),
        (manifest(config={**CONFIG, "size": 1 << 63}), "", "size"),
        (manifest(config={**CONFIG, "digest": "sha256:../../etc/passwd"}), "", "digest"),
        (manifest(config={**CONFIG, "digest": None}), "", "digest"),
        (manifest(config={**CONFIG, "digest": A + "\n"}), "", "digest"),
        (manifest(config={**CONFIG, "platform": "linux"}), "", "platform"),
    ],
)
def test_refused(data: bytes, said: str, why: str) -> None:
    with pytest.raises(PybuildError, match=why) as caught:
        parse_manifest(data, said)
    assert isinstance(caught.value, RegistryError | DigestError)


def test_descriptors_keep_urls_and_platform() -> None:
    document = {"mediaType": "x", "digest": A, "size": 0, "urls": ["https://example.com/a"], "annotations": {"k": "v"}, "platform": {"os": "linux"}}
    assert from_json(document).to_json() == document


def test_configs_keep_what_is_not_known() -> None:
    document = {"os": "linux", "architecture": "arm64", "x": {"y": [1]}, "rootfs": {"type": "layers", "diff_ids": [A]}, "history": None}
    config = parse_config(json.dumps(document).encode())
    other = config.copy()
    other.append_diff_id(B)
    other.append_history({"created_by": "RUN \udcff"})
    other.section["Cmd"] = ["<&>"]
    assert config.diff_ids == [A]
    found = json.loads(other.to_bytes())
    assert found["x"] == {"y": [1]}
    assert found["rootfs"] == {"type": "layers", "diff_ids": [A, B]}
    assert found["history"] == [{"created_by": "RUN \ufffd"}]
    assert found["config"] == {"Cmd": ["<&>"]}


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"\xff", b'{"config": []}', b'{"rootfs": 1}', b'{"history": {}}', b'{"rootfs": {"diff_ids": "abc"}}', b'{"rootfs": {"diff_ids": [1]}}'],
)
def test_what_is_no_config(data: bytes) -> None:
    with pytest.raises(RegistryError, match="config"):
        parse_config(data)


def test_a_config_from_scratch() -> None:
    found = json.loads(new_config(parse_platform("linux/arm/v6")).to_bytes())
    assert (found["os"], found["architecture"], found["variant"], found["rootfs"]["diff_ids"]) == ("linux", "arm", "v6", [])


def test_layers_and_diff_ids_must_match() -> None:
    parsed = parse_manifest(manifest())
    assert isinstance(parsed, Manifest)
    image = make_image(A, manifest(), parsed, json.dumps({"rootfs": {"diff_ids": [B]}}).encode())
    assert (image.diff_ids, image.layers[0].digest, image.config_descriptor.digest) == ((B,), B, A)
    with pytest.raises(RegistryError, match="1 layers and 0 diff IDs"):
        make_image(A, manifest(), parsed, b"{}")
