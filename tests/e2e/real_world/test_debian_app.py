"""``examples/debian-app``: apt-get and pip in RUN steps, two stages, from a real Debian base to a running container."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pathlib
import stat
import tarfile
from dataclasses import dataclass
from typing import Any

import pytest
import zstandard

from .conftest import EXAMPLE, Builder, Podman, run

pytestmark = [pytest.mark.root, pytest.mark.registry]


@dataclass(frozen=True)
class Pulled:
    """The pushed image, copied by skopeo to an OCI layout. ``new``: layers that the base does not have."""

    reference: str
    output: str
    digest_file: str
    layout: pathlib.Path
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]
    base: dict[str, Any]

    @property
    def new(self) -> list[dict[str, Any]]:
        layers: list[dict[str, Any]] = self.manifest["layers"]
        return layers[len(self.base["layers"]) :]

    def blob(self, descriptor: dict[str, Any]) -> pathlib.Path:
        return blob(self.layout, descriptor["digest"])

    def open_layer(self, descriptor: dict[str, Any]) -> Any:
        """A readable stream of the plain tar."""
        if descriptor["mediaType"].endswith("zstd"):
            return zstandard.open(self.blob(descriptor), "rb")
        return gzip.open(self.blob(descriptor), "rb")


def blob(layout: pathlib.Path, digest: str) -> pathlib.Path:
    return layout / "blobs" / digest.replace(":", "/")


def read_image(layout: pathlib.Path) -> tuple[str, dict[str, Any]]:
    entry = json.loads((layout / "index.json").read_text())["manifests"][0]
    return entry["digest"], json.loads(blob(layout, entry["digest"]).read_text())


@pytest.fixture(scope="module")
def image(
    builder: Builder, debian: str, debian_layout: pathlib.Path, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Pulled:
    reference = f"{registry}/textreport:1.2.0"
    folder = tmp_path_factory.mktemp("pulled")
    output = builder.build(
        f"--context={EXAMPLE}",
        f"--build-arg=BASE={debian}",
        "--build-arg=VERSION=1.2.0",
        f"--destination={reference}",
        f"--digest-file={folder}/digest",
        "--insecure",
        "--insecure-pull",
    )
    layout = folder / "layout"
    run("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"oci:{layout}:textreport")
    digest, manifest = read_image(layout)
    config = json.loads(blob(layout, manifest["config"]["digest"]).read_text())
    written = (folder / "digest").read_text()
    return Pulled(reference, output, written, layout, digest, manifest, config, read_image(debian_layout)[1])


@pytest.fixture(scope="module")
def unpacked(image: Pulled, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The root filesystem as umoci makes it."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    run("umoci", "unpack", "--image", f"{image.layout}:textreport", bundle)
    return bundle / "rootfs"


@pytest.fixture(scope="module")
def pulled(image: Pulled, podman: Podman) -> str:
    podman.pull(image.reference)
    return image.reference


def test_the_program_runs_as_the_image_says(pulled: str, podman: Podman) -> None:
    lines = podman.run(pulled).splitlines()
    assert lines[0] == "tide.txt: 31 words, 22 different"
    assert lines[1].split() == ["6", "the"]
    assert len(lines) == 4


def test_arguments_replace_cmd_and_names_are_not_ascii(pulled: str, podman: Podman) -> None:
    report = json.loads(podman.run(pulled, "--json", "--top", "1", "marée.txt"))
    assert report == {"file": "marée.txt", "words": 16, "most": {"le": 2}}


def test_user_and_working_directory(pulled: str, podman: Podman) -> None:
    script = "id -u; id -g; pwd; stat -c '%U:%G' tide.txt; touch new && echo writable; echo $HOME"
    out = podman.run(pulled, "-c", script, options=("--entrypoint", "sh"))
    assert out.split() == ["10001", "10001", "/home/reader/texts", "reader:reader", "writable", "/home/reader"]


def test_ping_may_use_raw_sockets_without_root(pulled: str, podman: Podman) -> None:
    options = ("--entrypoint", "ping", "--cap-add", "net_raw", "--sysctl", "net.ipv4.ping_group_range=1 0")
    assert "1 received" in podman.run(pulled, "-c", "1", "127.0.0.1", options=options)


def test_config(image: Pulled) -> None:
    config = image.config["config"]
    assert config["User"] == "reader"
    assert config["WorkingDir"] == "/home/reader/texts"
    assert config["Entrypoint"] == ["textreport"]
    assert config["Cmd"] == ["--top", "3", "tide.txt"]
    assert config["Labels"] == {
        "org.opencontainers.image.title": "textreport",
        "org.opencontainers.image.version": "1.2.0",
    }
    assert config["Env"] == [
        "PATH=/opt/textreport/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE=1",
    ]
    steps = [entry for entry in image.config["history"] if not entry.get("empty_layer")]
    assert len(steps) == len(image.manifest["layers"]) == len(image.config["rootfs"]["diff_ids"])


def test_digests(image: Pulled) -> None:
    assert image.digest_file.strip() == image.digest
    for descriptor, diff_id in zip(image.manifest["layers"], image.config["rootfs"]["diff_ids"], strict=True):
        with image.open_layer(descriptor) as plain:
            assert "sha256:" + hashlib.file_digest(plain, "sha256").hexdigest() == diff_id
        assert image.blob(descriptor).stat().st_size == descriptor["size"]


def test_the_base_is_used_as_it_is(image: Pulled) -> None:
    base = image.base["layers"]
    assert [layer["digest"] for layer in image.manifest["layers"][: len(base)]] == [layer["digest"] for layer in base]
    assert len(image.new) == 4  # RUN apt-get, RUN useradd, COPY --from, COPY


def test_layers_have_only_what_the_steps_did(image: Pulled) -> None:
    names = [read_names(image, layer) for layer in image.new]
    for given in ("proc/", "sys/", "dev/", "etc/resolv.conf", "etc/hosts", "etc/hostname", "run/secrets"):
        assert not [name for layer in names for name in layer if name.startswith(given)], given
    assert "usr/bin/ping" in names[0]
    assert "etc/passwd" in names[1]
    assert not [name for name in names[1] if name.startswith("usr/")]
    assert all(name.startswith("opt/") for name in names[2])
    assert {name.rstrip("/") for name in names[3]} >= {"home/reader/texts/tide.txt", "home/reader/texts/marée.txt"}
    assert not [name for name in names[3] if name.endswith(".draft")]
    assert sum(layer["size"] for layer in image.new) < 40_000_000


def read_names(image: Pulled, descriptor: dict[str, Any]) -> list[str]:
    with image.open_layer(descriptor) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        return [member.name + "/" * member.isdir() for member in archive]


def test_packages_are_as_they_were_shipped(unpacked: pathlib.Path) -> None:
    """dpkg knows a checksum of each file of each package. The one difference is what the step itself removed."""
    different = run("dpkg", f"--root={unpacked}", "--verify").splitlines()
    assert [line.split()[-1] for line in different] == ["/var/lib/apt/lists/partial"]
    assert run("dpkg", f"--root={unpacked}", "--audit") == ""
    installed = run(
        "dpkg-query", f"--admindir={unpacked}/var/lib/dpkg", "--show", "--showformat=${Package} ${db:Status-Status}\n"
    )
    assert "python3 installed" in installed.splitlines()
    assert "python3-pip installed" not in installed.splitlines()


def test_modes_owners_and_capabilities(unpacked: pathlib.Path) -> None:
    assert os.getxattr(unpacked / "usr/bin/ping", "security.capability")[:4] == b"\x01\x00\x00\x02"
    text = (unpacked / "home/reader/texts/tide.txt").stat()
    assert (text.st_uid, text.st_gid) == (10001, 10001)
    assert (unpacked / "home/reader").stat().st_uid == 10001
    assert stat.S_IMODE((unpacked / "etc/shadow").stat().st_mode) == 0o640
    assert stat.S_IMODE((unpacked / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((unpacked / "usr/bin/passwd").stat().st_mode) == 0o4755
    assert os.readlink(unpacked / "opt/textreport/bin/python") == "python3"


def test_what_steps_removed_is_gone(unpacked: pathlib.Path) -> None:
    assert list((unpacked / "var/lib/apt/lists").iterdir()) == []
    assert not (unpacked / "src").exists()
    assert not list((unpacked / "var/cache/apt/archives").glob("*.deb"))
