"""OCI layouts: read as a source, written as an output."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.errors import DigestError, NotFoundError, RegistryError
from pybuild.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.oci.layout import Readable, blob_path, open_verified, read_image, split_layout_text, write_layout
from pybuild.oci.manifest import manifest_bytes
from pybuild.oci.platform import parse_platform

AMD64, ARM64 = parse_platform("linux/amd64"), parse_platform("linux/arm64")
LAYER = bytes(1024)
Blobs = list[tuple[str, Callable[[], Readable]]]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(mark: str, layer: bytes = LAYER) -> tuple[bytes, Blobs]:
    config = json.dumps({"os": "linux", "architecture": "amd64", "author": mark, "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]}}).encode()
    made = manifest_bytes(
        OCI_MANIFEST, Descriptor(OCI_CONFIG, sha256(config), len(config)), (Descriptor(OCI_LAYER, sha256(layer), len(layer)),), {}
    )
    return made, [(sha256(config), lambda: io.BytesIO(config)), (sha256(layer), lambda: io.BytesIO(layer))]


def write(out: Path, mark: str = "one", layer: bytes = LAYER) -> str:
    made, blobs = image(mark, layer)
    write_layout(str(out), made, OCI_MANIFEST, blobs)
    return sha256(made)


def author(out: Path, selector: str = "", platform: str = "linux/amd64") -> Any:
    return read_image(str(out), selector, parse_platform(platform)).config.document["author"]


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    out = tmp_path / "new/out"
    digest = write(out)
    found = read_image(str(out), "", AMD64)
    assert (found.digest, found.diff_ids, found.media_type) == (digest, (sha256(LAYER),), OCI_MANIFEST)
    with open_verified(str(out), found.layers[0]) as f:
        assert f.read(1 << 20) == LAYER
    assert json.loads((out / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert os.listdir(tmp_path / "new") == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755
    assert {p.stat().st_mode & 0o777 for p in out.rglob("*") if p.is_file()} == {0o644}


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_it(tmp_path: Path) -> None:
    digest = write(tmp_path / "out")
    said = subprocess.run(["skopeo", "inspect", f"oci:{tmp_path}/out"], check=True, capture_output=True)
    assert json.loads(said.stdout)["Digest"] == digest


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_image_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "one", b"1" * 1024)
    (out / "notes").write_text("mine")
    (out / "blobs/sha256/readme").write_text("mine")
    write(out, "two", b"2" * 1024)
    assert author(out) == "two"
    found = contents(out)
    assert found.pop("notes") == found.pop("blobs/sha256/readme") == b"mine"
    write(tmp_path / "fresh", "two", b"2" * 1024)
    assert found == contents(tmp_path / "fresh")


def broken() -> Readable:
    raise OSError(28, "No space left on device")


def test_a_failure_leaves_no_new_directory(tmp_path: Path) -> None:
    made, blobs = image("one")
    with pytest.raises(OSError, match="No space"):
        write_layout(str(tmp_path / "out"), made, OCI_MANIFEST, [*blobs, (sha256(b"?"), broken)])
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_the_older_image(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "one")
    before = contents(out)
    made, blobs = image("two", b"2" * 1024)
    with pytest.raises(OSError, match="No space"):
        write_layout(str(out), made, OCI_MANIFEST, [*blobs, (sha256(b"?"), broken)])
    assert contents(out) == before


def test_blobs_from_files_are_copied_whole(tmp_path: Path) -> None:
    layer = os.urandom(3 << 20)
    (tmp_path / "layer").write_bytes(layer)
    made, blobs = image("one", layer)
    blobs[1] = (sha256(layer), lambda: open(tmp_path / "layer", "rb", buffering=0))  # noqa: SIM115
    write_layout(str(tmp_path / "out"), made, OCI_MANIFEST, blobs)
    assert Path(blob_path(str(tmp_path / "out"), sha256(layer))).read_bytes() == layer


def add_blob(out: Path, data: bytes) -> str:
    Path(blob_path(str(out), sha256(data))).write_bytes(data)
    return sha256(data)


def index_of(out: Path, **marks: dict[str, Any]) -> list[dict[str, Any]]:
    """Images put into a layout; their descriptors with something added."""
    entries = []
    for mark, more in marks.items():
        made, blobs = image(mark)
        for _, opener in blobs:
            with opener() as f:
                add_blob(out, f.read(1 << 20))
        entries.append({"mediaType": OCI_MANIFEST, "digest": add_blob(out, made), "size": len(made), **more})
    (out / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return entries


def tagged(tag: str) -> dict[str, Any]:
    return {"annotations": {"org.opencontainers.image.ref.name": tag}}


def test_tags_and_digests_select(tmp_path: Path) -> None:
    write(tmp_path)
    entries = index_of(tmp_path, one=tagged("v1"), two=tagged("v2"))
    assert (author(tmp_path, "v1"), author(tmp_path, "v2")) == ("one", "two")
    assert author(tmp_path, entries[1]["digest"]) == "two"
    with pytest.raises(NotFoundError, match="has no image v3") as caught:
        read_image(str(tmp_path), "v3", AMD64)
    assert "v1, v2" in str(caught.value.hint)


def test_platforms_select_also_in_nested_indexes(tmp_path: Path) -> None:
    write(tmp_path)
    entries = index_of(
        tmp_path,
        one={"platform": {"os": "linux", "architecture": "amd64"}},
        two={"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        about={
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        },
    )
    for _ in range(2):
        assert (author(tmp_path), author(tmp_path, platform="linux/arm64")) == ("one", "two")
        with pytest.raises(NotFoundError, match="linux/s390x"):
            author(tmp_path, platform="linux/s390x")
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        nested = {"mediaType": OCI_INDEX, "digest": add_blob(tmp_path, data), "size": len(data)}
        (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [nested]}))
    assert author(tmp_path, entries[1]["digest"]) == "two"


def test_damage_is_found(tmp_path: Path) -> None:
    digest = write(tmp_path)
    place = Path(blob_path(str(tmp_path), digest))
    data = place.read_bytes()
    place.write_bytes(data[:-1] + b" ")
    with pytest.raises(DigestError, match="digest"):
        author(tmp_path)
    place.write_bytes(data + b" ")
    with pytest.raises(DigestError, match="size"):
        author(tmp_path)
    place.unlink()
    with pytest.raises(NotFoundError, match="No such file"):
        author(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifests": 1}', '{"manifests": [1]}', '{"manifests": [{"size": 1}]}'])
def test_malformed_layouts(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises((RegistryError, DigestError)):
        author(tmp_path)


def test_no_layout_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no OCI layout"):
        author(tmp_path)
    (tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    with pytest.raises(NotFoundError, match="has no image"):
        author(tmp_path)


def test_directories_with_selectors(tmp_path: Path) -> None:
    plain, colon = tmp_path / "plain", tmp_path / "a:b"
    plain.mkdir()
    colon.mkdir()
    digest = sha256(b"")
    assert split_layout_text(str(plain)) == (str(plain), "")
    assert split_layout_text(f"{plain}:v1") == (str(plain), "v1")
    assert split_layout_text(f"{plain}@{digest}") == (str(plain), digest)
    assert split_layout_text(f"{plain}:v1@{digest}") == (str(plain), digest)
    assert split_layout_text(str(colon)) == (str(colon), "")
    assert split_layout_text(f"{colon}:v1") == (str(colon), "v1")
