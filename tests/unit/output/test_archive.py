"""Docker archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from pybuild.oci.descriptor import DOCKER_CONFIG, DOCKER_LAYER_GZIP, Descriptor
from pybuild.output.archive import write_archive

TAR = bytes(10240)
LAYERS = [gzip.compress(TAR + bytes(10240 * i), mtime=0) for i in range(2)]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = json.dumps(
    {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [sha256(gzip.decompress(x)) for x in LAYERS]},
    }
).encode()
STORED = {sha256(data): data for data in (CONFIG, *LAYERS)}


def write(path: Path, tags: list[str], layers: list[bytes] | None = None) -> None:
    write_archive(
        str(path),
        Descriptor(DOCKER_CONFIG, sha256(CONFIG), len(CONFIG)),
        [Descriptor(DOCKER_LAYER_GZIP, sha256(x), len(x)) for x in (LAYERS if layers is None else layers)],
        tags,
        lambda digest: io.BytesIO(STORED[digest]),
    )


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = {}
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None and member.mtime == 0
            found[member.name] = content.read()
        return found


def test_what_is_in_it(tmp_path: Path) -> None:
    write(tmp_path / "new/a.tar", ["me/app:v1", "me/app:v2", "me/app:v1"])
    found = contents(tmp_path / "new/a.tar")
    names = [f"{sha256(x).removeprefix('sha256:')}.tar.gz" for x in LAYERS]
    assert list(found) == [sha256(CONFIG), *names, "manifest.json"]
    assert [found[n] for n in names] == LAYERS
    assert json.loads(found["manifest.json"]) == [{"Config": sha256(CONFIG), "RepoTags": ["me/app:v1", "me/app:v2"], "Layers": names}]
    assert os.listdir(tmp_path / "new") == ["a.tar"]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("tag", ["localhost:5000/me/app:v1", "app:latest"])
def test_skopeo_reads_it(tag: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tar", ["other/app:1", tag])
    said = subprocess.run(["skopeo", "inspect", f"docker-archive:{tmp_path}/a.tar:{tag}"], check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["Labels"], len(found["Layers"])) == ({"a": "b"}, 2)
    listed = subprocess.run(["skopeo", "list-tags", f"docker-archive:{tmp_path}/a.tar"], check=True, capture_output=True)
    assert len(json.loads(listed.stdout)["Tags"]) == 2


def test_without_a_tag_it_has_a_name_that_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [])
    assert json.loads(contents(tmp_path / "a.tar")["manifest.json"])[0]["RepoTags"] == ["docker.io/unset-repo/unset-image-name:latest"]


def test_a_layer_that_comes_twice_is_stored_once(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [], [LAYERS[0], LAYERS[1], LAYERS[0]])
    found = contents(tmp_path / "a.tar")
    assert len(found) == 4
    assert len(json.loads(found["manifest.json"])[0]["Layers"]) == 3


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, ["x:1"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failure_leaves_the_older_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"old")
    short = Descriptor(DOCKER_CONFIG, sha256(CONFIG), len(CONFIG) + 1)
    with pytest.raises(OSError):
        write_archive(str(path), short, [], [], lambda digest: io.BytesIO(STORED[digest]))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.tar"]


def test_into_a_pipe(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", ["x:1"])
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write(tmp_path / "pipe", ["x:1"])
    reader.join()
    assert found == [(tmp_path / "a.tar").read_bytes()]
