"""Images into a real registry and back; skopeo reads what was pushed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pathlib
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from pybuild.errors import DigestError, NotFoundError, RegistryError
from pybuild.events import Event, Log, Progress, Span
from pybuild.oci.blobs import BlobStore, GrowingBlob
from pybuild.oci.descriptor import DOCKER_LIST, OCI_INDEX, Descriptor
from pybuild.oci.platform import Platform, parse_platform
from pybuild.oci.reference import Reference
from pybuild.registry.client import Registries
from pybuild.registry.options import RegistryOptions

from .support import (
    AMD64,
    QUICK,
    SampleImage,
    Served,
    clean_environment,
    digest_of,
    push_sample,
    random_bytes,
    sample_image,
)

pytestmark = pytest.mark.registry
T = TypeVar("T")


def with_registries(
    home: pathlib.Path, work: Callable[[Registries], Awaitable[T]], options: RegistryOptions = QUICK, events: list[Event] | None = None
) -> T:
    async def run() -> T:
        async with Registries(options, (events if events is not None else []).append, clean_environment(home)) as registries:
            return await work(registries)

    return asyncio.run(run())


async def fetch(registries: Registries, reference: Reference, descriptor: Descriptor, store: BlobStore) -> bytes:
    growing = registries.download(reference, descriptor, store)
    path = await asyncio.to_thread(growing.wait)
    return pathlib.Path(path).read_bytes()


@pytest.mark.parametrize("docker", [False, True])
def test_pushed_image_is_read_back_by_skopeo_and_by_us(plain: Served, home: pathlib.Path, tmp_path: pathlib.Path, docker: bool) -> None:
    image = sample_image([3_000_000, 17, 0], seed=os.urandom(8), docker=docker)
    reference = plain.reference(f"round/trip{int(docker)}:1")
    events: list[Event] = []

    async def work(registries: Registries) -> None:
        await registries.check_push(reference)
        await push_sample(registries, reference, image)
        found = await registries.resolve(reference, AMD64)
        assert (found.digest, found.manifest, found.media_type) == (image.digest, image.manifest, image.media_type)
        assert found.config.document["x-unknown"] == {"kept": True}
        store = BlobStore(str(tmp_path / "store"))
        for layer in found.layers:
            assert await fetch(registries, reference, layer, store) == image.blobs[layer.digest]
            assert store.has(layer.digest)
        assert os.listdir(tmp_path / "store" / "tmp") == []

    with_registries(home, work, events=events)
    done = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"], check=True, capture_output=True)
    assert done.stdout == image.manifest
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"dir:{tmp_path}/copy"], check=True, capture_output=True
    )
    for digest, data in image.blobs.items():
        assert (tmp_path / "copy" / digest.removeprefix("sha256:")).read_bytes() == data
    spans = [e for e in events if isinstance(e, Span)]
    assert {s.what for s in spans} == {"upload", "download"}
    assert any(isinstance(e, Progress) and e.done == e.total == 3_000_000 for e in events)


def test_index_is_resolved_by_platform(plain: Served, home: pathlib.Path) -> None:
    platforms = [parse_platform(t) for t in ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")]
    images = [sample_image([10], seed=str(p).encode(), platform=p) for p in platforms]
    unknown = sample_image([11], seed=b"attestation")
    repository = "multi/platform"

    def entry(image: SampleImage, platform: Platform | None) -> dict[str, object]:
        found: dict[str, object] = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}
        if platform is None:
            found["platform"] = {"os": "unknown", "architecture": "unknown"}
            found["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
        else:
            found["platform"] = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
        return found

    async def work(registries: Registries) -> None:
        for image in (*images, unknown):
            await push_sample(registries, Reference(plain.host, repository), image)
        inner = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(images[1], platforms[1])]}).encode()
        await registries.put_manifest(Reference(plain.host, repository), inner, OCI_INDEX)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                entry(unknown, None),
                *(entry(i, p) for i, p in zip(images, platforms, strict=True) if p.architecture != "arm64"),
                {"mediaType": OCI_INDEX, "digest": digest_of(inner), "size": len(inner), "platform": {"os": "linux", "architecture": "arm64"}},
            ],
        }
        data = json.dumps(document).encode()
        reference = plain.reference(f"{repository}:1")
        await registries.put_manifest(reference, data, OCI_INDEX)
        for platform, image in zip(platforms, images, strict=True):
            assert (await registries.resolve(reference, platform)).digest == image.digest
        assert (await registries.resolve(reference, parse_platform("linux/arm/v8"))).digest == images[2].digest
        pinned = replace(reference, digest=digest_of(data))
        assert (await registries.resolve(pinned, AMD64)).digest == images[0].digest
        with pytest.raises(NotFoundError, match=r"no child with platform linux/s390x in index .*it has: linux/amd64, linux/arm/v6, .*linux/arm64"):
            await registries.resolve(reference, parse_platform("linux/s390x"))

    with_registries(home, work)


def test_docker_list_made_by_others(plain: Served, home: pathlib.Path) -> None:
    image = sample_image([5], seed=b"list", docker=True)
    reference = plain.reference("multi/list:1")

    async def work(registries: Registries) -> None:
        await push_sample(registries, replace(reference, tag=""), image)
        platform = {"os": "linux", "architecture": "amd64"}
        child = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest), "platform": platform}
        data = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [child]}).encode()
        await registries.put_manifest(reference, data, DOCKER_LIST)
        assert (await registries.resolve(reference, AMD64)).digest == image.digest

    with_registries(home, work)


def test_missing_image_and_missing_registry(plain: Served, home: pathlib.Path) -> None:
    with pytest.raises(NotFoundError, match=f"image {plain.host}/not/there:1 was not found in registry {plain.host}: MANIFEST_UNKNOWN"):
        with_registries(home, lambda r: r.resolve(plain.reference("not/there:1"), AMD64))
    with pytest.raises(RegistryError, match=r"cannot reach registry 127\.0\.0\.1:1: .*refused"):
        with_registries(home, lambda r: r.resolve(Reference("127.0.0.1:1", "x", "1"), AMD64))


def test_blob_that_is_there_is_not_sent_again(plain: Served, home: pathlib.Path) -> None:
    image = sample_image([100_000], seed=os.urandom(8))
    reference = plain.reference("skip/existing:1")
    with_registries(home, lambda r: push_sample(r, reference, image))

    def never() -> io.BytesIO:
        raise AssertionError("the blob is read though it is there")

    async def again(registries: Registries) -> None:
        assert await registries.upload_blob(reference, image.layers[0], never) == "existed"

    with_registries(home, again)


def test_blob_is_mounted_from_another_repository(plain: Served, home: pathlib.Path) -> None:
    image = sample_image([100_000], seed=os.urandom(8))
    source, missing, target = plain.reference("mount/source:1"), plain.reference("mount/nothing:1"), plain.reference("mount/target:1")

    def never() -> io.BytesIO:
        raise AssertionError("the blob is read though it can be mounted")

    async def work(registries: Registries) -> None:
        await push_sample(registries, source, image)
        assert await registries.upload_blob(target, image.layers[0], never, [missing, source]) == "mounted"
        assert await registries.has_blob(target, image.layers[0])
        other = plain.reference("mount/other:1")
        opener = lambda: io.BytesIO(image.blobs[image.layers[0].digest])  # noqa: E731
        assert await registries.upload_blob(other, image.layers[0], opener, [missing]) == "uploaded"

    with_registries(home, work)
    digest = image.layers[0].digest
    assert plain.get(f"/v2/mount/target/blobs/{digest}") == (200, image.blobs[digest])


def test_several_tags_and_repositories(plain: Served, home: pathlib.Path) -> None:
    image = sample_image([2_000_000, 5], seed=os.urandom(8))
    names = ["several/a:1", "several/a:2", "several/b:1"]

    async def work(registries: Registries) -> None:
        await asyncio.gather(*(push_sample(registries, plain.reference(name), image) for name in names))

    with_registries(home, work)
    for name in names:
        assert plain.whole_image(*name.split(":")) == image.blobs


def test_upload_follows_a_blob_that_is_still_being_written(plain: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = random_bytes(os.urandom(8), 5_000_000)
    descriptor = Descriptor("application/octet-stream", digest_of(data), len(data))
    reference = plain.reference("growing/blob:1")
    path = tmp_path / "blob"
    path.write_bytes(b"")
    growing = GrowingBlob(str(path), len(data))
    under_way = threading.Event()

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.what == "upload":
            under_way.set()

    async def work() -> None:
        async with Registries(QUICK, emit, clean_environment(home)) as registries:
            upload = asyncio.ensure_future(registries.upload_blob(reference, descriptor, growing))
            with open(path, "ab", buffering=0) as f:
                f.write(data[:3_000_000])
                growing.advance(3_000_000)
                # the first piece is on its way before the last one is written
                assert await asyncio.to_thread(under_way.wait, 20)
                f.write(data[3_000_000:])
                growing.advance(2_000_000)
            growing.finish(str(path))
            assert await upload == "uploaded"

    asyncio.run(work())
    assert plain.get(f"/v2/growing/blob/blobs/{descriptor.digest}") == (200, data)


def test_copy_from_one_registry_to_another_with_more_layers_than_transfers(
    plain: Served, with_tls: Served, home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    image = sample_image([300_000] * 9, seed=os.urandom(8))
    source, target = plain.reference("copy/source:1"), with_tls.reference("copy/target:1")
    options = replace(QUICK, transfers=2, skip_tls_verify_registries=(with_tls.host,))

    async def work(registries: Registries) -> None:
        await push_sample(registries, source, image)
        found = await registries.resolve(source, AMD64)
        store = BlobStore(str(tmp_path / "store"))
        growing = [(d, registries.download(source, d, store)) for d in (found.config_descriptor, *found.layers)]
        async with asyncio.timeout(60):
            # the uploads are asked for in the other order than the downloads run
            await asyncio.gather(*(registries.upload_blob(target, d, g) for d, g in reversed(growing)))
        await registries.put_manifest(target, found.manifest, found.media_type)

    with_registries(home, work, options)
    assert with_tls.whole_image("copy/target", "1") == image.blobs


def test_source_with_other_bytes_is_not_pushed(plain: Served, home: pathlib.Path) -> None:
    image = sample_image([2_000_000], seed=os.urandom(8))
    reference = plain.reference("wrong/source:1")
    layer = image.layers[0]
    wrong = bytearray(image.blobs[layer.digest])
    wrong[1_500_000] ^= 1
    for data, error in ((bytes(wrong), RegistryError), (bytes(wrong[:-1]), DigestError), (bytes(wrong) + b"x", DigestError)):
        with pytest.raises(error):
            with_registries(home, lambda r, data=data: r.upload_blob(reference, layer, lambda: io.BytesIO(data)))
        assert plain.get(f"/v2/wrong/source/blobs/{layer.digest}")[0] == 404


def test_damaged_blob_of_a_registry_is_refused(plain: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image = sample_image([3_000_000], seed=os.urandom(8))
    reference = plain.reference("damaged/blob:1")
    with_registries(home, lambda r: push_sample(r, reference, image))
    hexadecimal = image.layers[0].digest.removeprefix("sha256:")
    stored = plain.storage / "data/docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
    good = stored.read_bytes()
    store = BlobStore(str(tmp_path / "store"))
    for bad, text in ((good[:-1] + b"\0", "arrived with digest"), (good[:1_000_000], "ended after 1000000 of 3000000 bytes"), (good + b"x", "longer")):
        stored.write_bytes(bad)
        with pytest.raises((DigestError, RegistryError), match=text):
            with_registries(home, lambda r: fetch(r, reference, image.layers[0], store))
        assert not store.has(image.layers[0].digest)
        assert os.listdir(tmp_path / "store" / "tmp") == []
    stored.write_bytes(good)


def test_mirror_answers_and_the_registry_itself_when_it_does_not(plain: Served, with_tls: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image = sample_image([1000], seed=os.urandom(8))
    events: list[Event] = []
    with_registries(home, lambda r: push_sample(r, plain.reference("cache/library/app:1"), image))
    hub = Reference("index.docker.io", "library/app", "1")
    dead = "127.0.0.1:1"
    options = replace(QUICK, maps={"docker.io": (dead, f"{plain.host}/cache")}, skip_default_fallback=True)

    async def work(registries: Registries) -> None:
        found = await registries.resolve(hub, AMD64)
        assert found.digest == image.digest
        data = await fetch(registries, hub, found.layers[0], BlobStore(str(tmp_path / "store")))
        assert data == image.blobs[found.layers[0].digest]

    with_registries(home, work, options, events)
    warnings = [e.message for e in events if isinstance(e, Log) and e.level == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"Failed to retrieve image {dead}/library/app:1 from remapped registry {dead}: ")
    with pytest.raises(NotFoundError):
        with_registries(home, lambda r: r.resolve(Reference("index.docker.io", "library/other", "1"), AMD64), options)
    # without the skip the registry itself is asked last
    fallback = replace(QUICK, maps={plain.host: (dead,)})
    found = with_registries(home, lambda r: r.resolve(plain.reference("cache/library/app:1"), AMD64), fallback)
    assert found.digest == image.digest


def test_closing_ends_a_download_that_waits(plain: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted = threading.Event()
        connections = []

        def accept() -> None:
            connections.append(silent.accept())
            accepted.set()

        threading.Thread(target=accept, daemon=True).start()
        descriptor = Descriptor("x", digest_of(b"x"), 1)

        async def work(registries: Registries) -> GrowingBlob:
            reference = Reference(f"127.0.0.1:{silent.getsockname()[1]}", "x", "1")
            growing = registries.download(reference, descriptor, BlobStore(str(tmp_path / "store")))
            await asyncio.to_thread(accepted.wait)
            return growing

        growing = with_registries(home, work, replace(QUICK, stall=300))
        with pytest.raises(RegistryError, match="the download was cancelled"):
            growing.wait()
        assert os.listdir(tmp_path / "store" / "tmp") == []
